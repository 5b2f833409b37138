package host

import (
	"maps"
	"os"
	"runtime"
	"slices"
	"time"

	"sluice/listener/steering"
	"sluice/metrics"
	"sluice/proxy"
	"sluice/proxy/access"
)

// gone are descriptors that nothing names any more.
type gone struct {
	fds  []int
	rows []*steering.Rows
	nets bool // network namespaces were given up, which the runtime closes
}

func (g *gone) isEmpty() bool { return len(g.fds)+len(g.rows) == 0 && !g.nets }

func (g *gone) close() {
	closeAll(g.fds)
	for _, r := range g.rows {
		_ = r.Close()
	}
	if g.nets {
		runtime.GC() // an idle worker would hardly do it by itself
	}
}

// trim takes out what b does not name: listeners, mailboxes, and the worker's own
// sockets of listeners that are closed. So each of these sockets is gone when the last
// process has done so, however long sessions run.
func (h *holdings) trim(b *body) *gone {
	g := &gone{}
	own := proxy.PhaseClosed
	phases := map[metrics.ID]proxy.Phase{}
	var mail []int
	sets, nets := map[uint64]bool{}, map[uint64]bool{}
	if b != nil {
		nets = networks(b.Plan)
		own, _ = b.phase(h.seat)
		mail = b.Mail
		for i := range b.Plan.Listeners {
			phases[b.Plan.Listeners[i].ID] = b.Plan.Listeners[i].Phase
			sets[b.Plan.Listeners[i].Guard.Access] = true
		}
	}
	maps.DeleteFunc(h.access, func(number uint64, _ *access.Set) bool { return !sets[number] })
	had := len(h.netns)
	maps.DeleteFunc(h.netns, func(number uint64, _ *os.File) bool { return !nets[number] })
	g.nets = len(h.netns) < had
	for id, l := range h.listeners {
		phase, named := phases[id]
		if l.socket >= 0 && (!named || max(phase, own) >= proxy.PhaseClosed) {
			g.fds, l.socket = append(g.fds, l.socket), -1
		}
		if !named {
			if delete(h.listeners, id); l.rows != nil {
				g.rows = append(g.rows, l.rows)
			}
		}
	}
	for seat, fd := range h.send {
		if fd >= 0 && !slices.Contains(mail, seat) {
			g.fds, h.send[seat] = append(g.fds, fd), -1
		}
	}
	return g
}

// closeWhen waits for the loop to let go of descriptors. It looks often at first, and
// four times a second for as long as a loop hangs.
func closeWhen(letGo func() bool, g *gone) {
	for pause := time.Millisecond; !letGo(); pause = min(2*pause, 250*time.Millisecond) {
		time.Sleep(pause)
	}
	g.close()
}
