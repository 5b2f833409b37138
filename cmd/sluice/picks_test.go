package main

import (
	"net"
	"testing"
)

// picking is a sluice with two backends, a and b, whose way to pick is reloaded.
type picking struct {
	*changing
	a, b *peer
	held map[byte][]net.Conn
}

func startPicking(t *testing.T, mode string, lines ...string) *picking {
	p := &picking{a: namer(t, 'a'), b: namer(t, 'b'), held: map[byte][]net.Conn{}}
	p.changing = startChanging(t, mode, p.file(lines...))
	return p
}

func (p *picking) file(lines ...string) string {
	return acceptorsTable(4, "auto") + listenerAt("main", "127.0.0.1:0", "app") + poolOf("app", []string{p.a.addr, p.b.addr}, lines...)
}

// change reloads, and waits until every acceptor has.
func (p *picking) change(lines ...string) {
	p.t.Helper()
	p.reload(p.file(lines...))
	p.awaitGeneration()
}

// hold begins n sessions that stay.
func (p *picking) hold(n int) {
	p.t.Helper()
	for range n {
		c := dial(p.t, p.addr())
		name := askName(p.t, c)
		p.held[name] = append(p.held[name], c)
	}
}

// end ends all that are held.
func (p *picking) end() {
	for _, all := range p.held {
		for _, c := range all {
			c.Close()
		}
	}
	clear(p.held)
	p.awaitIdle()
}

// Each way to pick does what it says with four acceptors, from one reload to the next.
func TestWaysToPick(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		p := startPicking(t, mode, `pick = "first"`)
		p.hold(12)
		if len(p.held['b']) > 0 {
			t.Errorf("first: the second has %d of 12 sessions", len(p.held['b']))
		}
		p.end()

		// Of two both are drawn, so the one with fewer gets it, however many acceptors.
		p.change(`pick = "random2"`)
		p.hold(12)
		if len(p.held['a']) != 6 {
			t.Errorf("random2: a has %d of 12 sessions, want half", len(p.held['a']))
		}
		p.end()

		// How fast the kernel connects over loopback is chance, but which one has been
		// slow is no reason to give it nothing: sessions count, too.
		p.change(`pick = "fastest"`)
		p.hold(40)
		if len(p.held['a']) == 0 || len(p.held['b']) == 0 {
			t.Errorf("fastest: a has %d of 40 sessions", len(p.held['a']))
		}
		p.end()

		// One client is all clients: without a bound one backend has all.
		p.change(`pick = "source_hash"`, "max_load = 1.0")
		p.hold(10)
		if len(p.held['a']) != 5 {
			t.Errorf("source_hash with max_load = 1: a has %d of 10 sessions of one client, want half", len(p.held['a']))
		}
		p.end()
		p.change(`pick = "source_hash"`)
		p.hold(10)
		if n := len(p.held['a']); n != 0 && n != 10 {
			t.Errorf("source_hash: a has %d of 10 sessions of one client", n)
		}
		if got := p.status().Pools[0].Pick; got != "source_hash" {
			t.Errorf("status.json says pick %q", got)
		}
	})
}

// A backend's weight set by an operator moves clients of source_hash, and those that
// were moved come back when it is taken back.
func TestSourceHashFollowsOperators(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		p := startPicking(t, mode, `pick = "source_hash"`)
		clients := clientsFrom("127.0.2.0", 200)
		places := func() (names []byte, a int) {
			for _, c := range clients {
				conn := dialFrom(t, c, p.addr())
				name := askName(t, conn)
				conn.Close()
				if names = append(names, name); name == 'a' {
					a++
				}
			}
			return names, a
		}
		before, a := places()
		if a < 50 || a > 150 {
			t.Fatalf("a has %d of 200 clients", a)
		}
		p.mustOrder(p.b.addr, "weight", "9", "-pool", "app")
		during, a := places()
		if a > 50 { // 20 +- 4.2, seven times that
			t.Errorf("a has %d of 200 clients with a tenth of the weight", a)
		}
		for i := range clients {
			if before[i] == 'b' && during[i] != 'b' {
				t.Errorf("%v has left b, whose weight grew", clients[i])
			}
		}
		p.mustOrder(p.b.addr, "enable", "-pool", "app")
		if after, _ := places(); string(after) != string(before) {
			t.Error("not all clients came back")
		}
	})
}
