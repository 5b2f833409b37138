package main

import (
	"net"
	"testing"
)

// Each acceptor takes its own turns, so a single one makes the shares exact.
func TestWeightsAreExact(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		s := sluice(t, mode, "--acceptors", "1", "--listen", "127.0.0.1:0",
			"--backend", namer(t, 'a').addr+" weight=2", "--backend", namer(t, 'b').addr)
		count := map[byte]int{}
		for range 30 {
			count[askName(t, dial(t, s.addr()))]++
		}
		if count['a'] != 20 || count['b'] != 10 {
			t.Errorf("a %d, b %d; want 20, 10", count['a'], count['b'])
		}
	})
}

func TestBackupOnlyWhenTheOthersFail(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		first := namer(t, 'a')
		s := sluice(t, mode, "--listen", "127.0.0.1:0", "--backend", first.addr, "--backend", namer(t, 'b').addr+" backup")
		for range 10 {
			if name := askName(t, dial(t, s.addr())); name != 'a' {
				t.Fatalf("%c serves while a is there", name)
			}
		}
		first.kill()
		for range 10 {
			if name := askName(t, dial(t, s.addr())); name != 'b' {
				t.Fatalf("%c serves, want the backup", name)
			}
		}
	})
}

// The count is exact over all acceptors, whichever of them took the sessions.
func TestLeastSessions(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		s := sluice(t, mode, "--acceptors", "4", "--pick", "least_sessions", "--listen", "127.0.0.1:0",
			"--backend", namer(t, 'a').addr, "--backend", namer(t, 'b').addr)
		held := map[byte][]net.Conn{}
		more := func(n int) {
			for range n {
				c := dial(t, s.addr())
				name := askName(t, c)
				held[name] = append(held[name], c)
			}
		}
		more(10)
		if len(held['a']) != 5 || len(held['b']) != 5 {
			t.Fatalf("a %d, b %d; want 5 each", len(held['a']), len(held['b']))
		}
		for _, c := range held['a'] {
			c.Close()
		}
		held['a'] = nil
		eventually(t, patience, "those of a have ended", func() bool { return s.sessions() == 5 })
		more(5)
		if len(held['a']) != 5 || len(held['b']) != 5 {
			t.Errorf("a %d, b %d; want a to catch up with b", len(held['a']), len(held['b']))
		}
	})
}
