package main

import (
	"net"
	"net/netip"
	"testing"
)

// clientsFrom are n addresses from the one after first on.
func clientsFrom(first string, n int) []netip.Addr {
	clients := make([]netip.Addr, n)
	at := netip.MustParseAddr(first)
	for i := range clients {
		at = at.Next()
		clients[i] = at
	}
	return clients
}

// Two instances, one of which sees IPv4 clients as IPv6 and has its backends written in
// another order. A client has one backend, whichever acceptor of whichever instance
// takes it, and when that fails one other; no other is moved.
func TestSourceHash(t *testing.T) {
	needIPv6(t)
	modes(t, func(t *testing.T, mode string) {
		backends := map[byte]*peer{'a': namer(t, 'a'), 'b': namer(t, 'b'), 'c': namer(t, 'c')}
		start := func(listen string, order string) *instance {
			args := []string{"--acceptors", "3", "--pick", "source_hash", "--listen", listen}
			for _, name := range []byte(order) {
				args = append(args, "--backend", backends[name].addr)
			}
			return sluice(t, mode, args...)
		}
		one, other := start("127.0.0.1:0", "abc"), start(":0", "cab")
		_, port, err := net.SplitHostPort(other.addr())
		if err != nil {
			t.Fatal(err)
		}
		addrs := []string{one.addr(), "127.0.0.1:" + port}

		// The ports of the backends, and so the table, differ from run to run. That of 100
		// clients none has a, or all of a's have the same second, is less likely than 2^-20.
		clients := clientsFrom("127.0.1.0", 100)
		ask := func() map[netip.Addr]byte {
			t.Helper()
			got := map[netip.Addr]byte{}
			for _, c := range clients {
				for i := range 6 {
					conn := dialFrom(t, c, addrs[i%2])
					name := askName(t, conn)
					conn.Close()
					if i > 0 && name != got[c] {
						t.Fatalf("%v has %c and %c", c, got[c], name)
					}
					got[c] = name
				}
			}
			return got
		}
		before := ask()
		backends['a'].kill()
		after := ask()
		moved := map[byte]int{}
		for c, name := range before {
			switch {
			case name == 'a':
				moved[after[c]]++
			case after[c] != name:
				t.Errorf("%v has moved from %c to %c", c, name, after[c])
			}
		}
		if moved['b'] == 0 || moved['c'] == 0 {
			t.Errorf("b took %d clients of a, c %d", moved['b'], moved['c'])
		}
		if got := one.status().Pools[0].Pick; got != "source_hash" {
			t.Errorf("status.json says pick %q", got)
		}
	})
}

// A weight is a share of the clients.
func TestSourceHashWeights(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		s := sluice(t, mode, "--pick", "source_hash", "--listen", "127.0.0.1:0",
			"--backend", namer(t, 'a').addr+" weight=9", "--backend", namer(t, 'b').addr)
		const n = 1000
		count := map[byte]int{}
		for _, c := range clientsFrom("127.0.1.0", n) {
			conn := dialFrom(t, c, s.addr())
			count[askName(t, conn)]++
			conn.Close()
		}
		// 900 ± 9.5; six times that is chance once in 10^8.
		if count['a'] < 843 || count['a'] > 957 {
			t.Errorf("a has %d of %d clients, want nine tenths", count['a'], n)
		}
	})
}
