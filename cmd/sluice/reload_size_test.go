package main

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// Many names come and go over a service's life; the board is no fuller in the end: their
// numbers are used again, and their series are gone.
func TestManyBackendsOverALife(t *testing.T) {
	takesLong(t)
	each := 5000
	if raced() {
		each = 1000 // a scrape takes ten times as long
	}
	modes(t, func(t *testing.T, mode string) {
		rounds := 20 // 100,000 different backends
		if testing.Short() || raced() || mode == "process" {
			rounds = 5
		}
		addr := unused(t)
		file := func(round int) string {
			backends := make([]string, each)
			for i := range backends {
				n := round*each + i
				backends[i] = fmt.Sprintf("127.%d.%d.%d:%d", 1+n>>16, n>>8&255, n&255, 9)
			}
			return acceptorsTable(4, "hash") + listenerAt("main", addr, "app") + poolOf("app", backends, `connect_timeout = "1s"`)
		}
		s := startChanging(t, mode, file(0))
		series := func() int {
			_, page := s.get("/metrics")
			return strings.Count(page, "\nsluice_backend_")
		}
		before := series()
		var highest uint32
		for round := 1; round < rounds; round++ {
			s.reload(file(round))
			if round < rounds-2 { // of so many a status is large
				continue
			}
			for _, p := range s.status().Pools {
				for _, b := range p.Backends {
					for _, target := range b.Targets {
						highest = max(highest, target.ID.Index())
					}
				}
			}
		}
		// A set is forgotten once every acceptor runs the Plan without it: there are two, or three at most.
		if limit := uint32(3 * each); highest >= limit {
			t.Errorf("the highest number of a backend is %d, want below %d of %d", highest, limit, rounds*each)
		}
		if after := series(); after != before {
			t.Errorf("%d series of backends, before %d", after, before)
		}
	})
}

// No turn of a loop is long while a large Plan is put in force: a ping through the proxy
// shows it.
func TestLargeReloadsDelayNobody(t *testing.T) {
	takesLong(t)
	if testing.Short() || raced() {
		t.Skip("-short or -race: it measures delays")
	}
	const most = 20 * time.Millisecond // and what the machine's other work does to pings through another sluice
	backend := echoing(t).addr
	many := make([]string, 10_000)
	for i := range many {
		many[i] = fmt.Sprintf("127.1.%d.%d:9", i>>8, i&255)
	}
	port := freePort(t)
	listeners := ""
	for i := range 500 { // one port on many addresses
		listeners += listenerAt(fmt.Sprint("more-", i), fmt.Sprintf("127.2.%d.%d:%d", i>>8, i&255, port), "app")
	}
	addr := unused(t)
	base := listenerAt("main", addr, "app") + poolOf("app", []string{backend})
	for _, large := range []struct {
		name      string
		acceptors int
		files     [2]string
	}{
		{"10,000 backends", 4, [2]string{poolOf("many", many), poolOf("many", many[1:])}},
		{"500 listeners of 8 acceptors", 8, [2]string{listeners, ""}},
	} {
		t.Run(large.name, func(t *testing.T) {
			modes(t, func(t *testing.T, mode string) {
				s := startChanging(t, mode, acceptorsTable(large.acceptors, "hash")+base)
				control := sluice(t, mode, "--listen", "127.0.0.1:0", "--backend", backend)
				stop, undisturbed := startPing(t, addr), startPing(t, control.addr())
				for _, text := range large.files {
					s.reload(acceptorsTable(large.acceptors, "hash") + base + text)
					time.Sleep(time.Second) // all go over to it; what asks them would take time from them
				}
				s.awaitGeneration()
				took, noise := stop(), undisturbed()
				t.Logf("%d pings: p50 %v, p99 %v, p99.9 %v, longest %v; of another sluice meanwhile p99.9 %v, longest %v", len(took),
					quantile(took, .5), quantile(took, .99), quantile(took, .999), quantile(took, 1), quantile(noise, .999), quantile(noise, 1))
				if p, most := quantile(took, .999), most+3*quantile(noise, .999); p > most {
					t.Errorf("p99.9 of a ping is %v, want at most %v", p, most)
				}
			})
		})
	}
}

// quantile is the duration that a share of them does not exceed.
func quantile(all []time.Duration, share float64) time.Duration {
	slices.Sort(all)
	return all[int(share*float64(len(all)-1))]
}

// startPing sends a byte to and fro, every millisecond, until stop is called, which
// returns how long each took.
func startPing(t *testing.T, addr string) (stop func() []time.Duration) {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	end, ended := make(chan struct{}), make(chan struct{})
	var took []time.Duration
	go func() {
		defer close(ended)
		defer c.Close()
		for {
			select {
			case <-end:
				return
			case <-time.After(time.Millisecond):
			}
			c.SetDeadline(time.Now().Add(patience))
			began := time.Now()
			if !talks(c) {
				t.Error("the ping's session has ended")
				return
			}
			took = append(took, time.Since(began))
		}
	}()
	return func() []time.Duration { close(end); <-ended; return took }
}
