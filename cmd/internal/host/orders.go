package host

import (
	"errors"
	"fmt"
	"os"
	"time"

	"sluice/listener/steering"
	"sluice/metrics"
	"sluice/proxy"
	"sluice/proxy/access"
)

// Orders are all that acceptors are told: what to do, and with which descriptors.
// They are not changed after Prepare was called with them.
type Orders struct {
	Plan         *proxy.Plan // its generation is above that of the Plan in force
	Groups       map[metrics.ID]Group
	Access       map[uint64]Access   // by the number that listeners' Guards have
	Netns        map[uint64]*os.File // as proxy.View has them
	Mail         []Mailbox           // by seat
	Settings     []proxy.Settings    // by seat; an acceptor keeps those of its start
	DrainTimeout time.Duration       // of a worker whose supervisor has died
}

// Group is one listener's sockets and rows. The socket that a seat has of a listener
// stays the same until its acceptor or the listener has left.
type Group struct {
	Sockets []int // by seat; -1 = none
	Rows    *steering.Rows
	HandOff bool // as in proxy.Group
}

// Access is one access set, the same for all acceptors. File is its descriptor, by which
// workers get it; -1 where there are none.
type Access struct {
	Set  *access.Set
	File int
}

// Mailbox is where an acceptor receives passed connections, and where the others
// send them to; -1 = none.
type Mailbox struct{ Receive, Send int }

// networks are the numbers of all that a Plan's pools need.
func networks(p *proxy.Plan) map[uint64]bool {
	all := map[uint64]bool{}
	for i := range p.Pools {
		if n := p.Pools[i].Netns; n != 0 {
			all[n], all[0] = true, true
		}
	}
	return all
}

// socket is a seat's socket of a listener; -1 = none.
func (o *Orders) socket(id metrics.ID, seat int) int {
	if s := o.Groups[id].Sockets; seat < len(s) {
		return s[seat]
	}
	return -1
}

func (o *Orders) mailbox(seat int) Mailbox {
	if seat < len(o.Mail) {
		return o.Mail[seat]
	}
	return Mailbox{-1, -1}
}

// check says whether the Orders are whole, so that what follows need not ask.
func (o *Orders) check() error {
	if o.Plan == nil {
		return errors.New("orders without a plan")
	}
	if err := o.Plan.Check(); err != nil {
		return err
	}
	for _, s := range o.Plan.Seats {
		if s.Number >= len(o.Settings) {
			return fmt.Errorf("no settings for seat %d", s.Number)
		}
	}
	for i := range o.Plan.Pools {
		if p := &o.Plan.Pools[i]; p.Netns != 0 && (o.Netns[p.Netns] == nil || o.Netns[0] == nil) {
			return fmt.Errorf("pool %q: no network namespace", p.Name)
		}
	}
	for i := range o.Plan.Listeners {
		l := &o.Plan.Listeners[i]
		g, ok := o.Groups[l.ID]
		if !ok || g.Rows == nil {
			return fmt.Errorf("listener %q: no group", l.Name)
		}
		if n := l.Guard.Access; n != 0 && o.Access[n].Set == nil {
			return fmt.Errorf("listener %q: no access set", l.Name)
		}
		for _, s := range o.Plan.Seats {
			// One that came while the other leaves has none: nothing waits for it there.
			if max(l.Phase, s.Phase) == proxy.PhaseServing && o.socket(l.ID, s.Number) < 0 {
				return fmt.Errorf("listener %q: no socket for seat %d", l.Name, s.Number)
			}
		}
	}
	return nil
}
