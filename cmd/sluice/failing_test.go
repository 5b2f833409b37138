package main

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// deadPool is a pool of which some backends take no connection.
type deadPool struct {
	name     string
	backends func(t *testing.T) []string
	pool     []string // further lines
	listener []string
	sessions int
	held     bool // all of them at the same time
	late     int  // how many may be served later than soon
}

const soon = 250 * time.Millisecond

// Dead backends are remembered: clients are served as if they were not there, from the
// first session on; of those behind a silent one, one waits.
func TestDeadBackends(t *testing.T) {
	t.Parallel()
	for _, d := range []deadPool{
		{
			name: "3 of 10 refuse, least_sessions", pool: []string{`pick = "least_sessions"`}, sessions: 100, held: true,
			backends: func(t *testing.T) []string { return append(refusingOnes(t, 3), echoes(t, 7)...) },
		}, {
			name: "3 primaries refuse, a backup", sessions: 100, held: true,
			backends: func(t *testing.T) []string { return append(refusingOnes(t, 3), echoing(t).addr+" backup") },
		}, {
			name: "4 of 8 refuse, round_robin", sessions: 200, held: true,
			backends: func(t *testing.T) []string { return append(refusingOnes(t, 4), echoes(t, 4)...) },
		}, {
			name: "1 of 4 is silent, least_sessions", pool: []string{`pick = "least_sessions"`, `connect_timeout = "600ms"`}, sessions: 60, late: 1,
			backends: func(t *testing.T) []string { return append([]string{blackhole(t)}, echoes(t, 3)...) },
		}, {
			name: "1 of 4 is silent, round_robin", pool: []string{`connect_timeout = "600ms"`}, sessions: 60, late: 1,
			backends: func(t *testing.T) []string { return append([]string{blackhole(t)}, echoes(t, 3)...) },
		}, {
			name: "3 of 6 refuse, wait_for_backend", listener: []string{`wait_for_backend = "5s"`}, sessions: 8, held: true,
			backends: func(t *testing.T) []string { return append(refusingOnes(t, 3), echoes(t, 3)...) },
		},
	} {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			modes(t, d.test)
		})
	}
}

func (d deadPool) test(t *testing.T, mode string) {
	s := sluice(t, mode, "-c", configFile(t, acceptorsTable(4, "auto")+
		listenerAt("main", "127.0.0.1:0", "app", d.listener...)+poolOf("app", d.backends(t), d.pool...)))
	late := 0
	for i := range d.sessions {
		begin := time.Now()
		c, err := net.DialTimeout("tcp", s.addr(), patience)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(begin.Add(patience))
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatalf("session %d: %v", i, err)
		}
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Fatalf("session %d: %v", i, err)
		}
		if took := time.Since(begin); took > soon && d.late > 0 {
			late++
		}
		if d.held {
			defer c.Close()
		} else {
			c.Close()
		}
	}
	if late > d.late {
		t.Errorf("%d of %d sessions were served late", late, d.sessions)
	}
	dead := 0.0
	for _, b := range s.status().Pools[0].Backends {
		if b.Targets[0].Failing {
			dead++
		}
	}
	if got := s.metric("sluice_backend_failing"); got != dead || dead == 0 {
		t.Errorf("%v backends are failing by the metric, %v by the status", got, dead)
	}
	s.tells(`"msg":"backend does not take connections"`, func(n int) bool { return n == int(dead) })
}

// One that is back is found by a probe, without a client, by whichever acceptor is left,
// and the log has one line for each change.
func TestFailingBackendIsProbed(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, mode string) {
		addr, begin := absent(t)
		s := sluice(t, mode, "--listen", "127.0.0.1:0", "--acceptors", "3", "--backend", addr, "--backend", namer(t, 'a').addr)
		for range 30 {
			askName(t, dial(t, s.addr()))
		}
		eventually(t, patience, "it is probed", func() bool { return s.metric("sluice_backend_probes_total", `result="failed"`) > 0 })
		errors := s.metric("sluice_backend_connect_errors_total")
		begin(func(c *net.TCPConn) {
			_, _ = c.Write([]byte{'b'})
			c.Close()
		})
		eventually(t, patience, "it is not failing any more", func() bool { return s.metric("sluice_backend_failing") == 0 })
		got := map[byte]int{}
		for range 30 {
			got[askName(t, dial(t, s.addr()))]++
		}
		if got['b'] < 10 {
			t.Errorf("it got %d of 30 sessions", got['b'])
		}
		if now := s.metric("sluice_backend_connect_errors_total"); now != errors {
			t.Errorf("%v sessions paid for finding that out", now-errors)
		}
		for _, msg := range []string{"backend does not take connections", "backend takes connections again"} {
			s.tells(fmt.Sprintf(`"msg":%q`, msg), func(n int) bool { return n == 1 })
		}
		if strings.Contains(s.logged(), `"level":"ERROR"`) {
			t.Error("an error in the log")
		}
	})
}

func refusingOnes(t *testing.T, n int) (all []string) {
	for range n {
		all = append(all, refusing(t))
	}
	return all
}

func echoes(t *testing.T, n int) (all []string) {
	for range n {
		all = append(all, echoing(t).addr)
	}
	return all
}
