package main

import (
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A thousand clients at the admin endpoint read a byte at a time, read nothing, or send
// requests of 1 GB. Sessions are no slower, and others are answered there.
func TestCrowdAtTheAdminEndpoint(t *testing.T) {
	takesLong(t)
	if testing.Short() || raced() {
		t.Skip("-short or -race: it measures delays")
	}
	const (
		clients = 1000
		lasts   = 5 * time.Second // a slow machine takes two of them until all have come
	)
	behaviours := []func(net.Conn){
		func(c net.Conn) { // a byte at a time
			fmt.Fprintf(c, "GET /events HTTP/1.1\r\nHost: %s\r\n\r\n", c.RemoteAddr())
			for b := make([]byte, 1); ; time.Sleep(time.Millisecond) {
				if _, err := c.Read(b); err != nil {
					return
				}
			}
		},
		func(c net.Conn) { // it never reads
			fmt.Fprintf(c, "GET /events HTTP/1.1\r\nHost: %s\r\n\r\n", c.RemoteAddr())
		},
		func(c net.Conn) { // 1 GB, as far as it is taken
			fmt.Fprintf(c, "POST /reload HTTP/1.1\r\nHost: %s\r\nContent-Length: 1000000000\r\n\r\n", c.RemoteAddr())
			_, _ = io.CopyN(c, zeros{}, 1_000_000_000)
		},
	}
	backend := echoing(t).addr
	modes(t, func(t *testing.T, mode string) {
		start := func() *instance {
			return sluice(t, mode, "--acceptors", "2", "--listen", "127.0.0.1:0", "--backend", backend)
		}
		s, control := start(), start()
		var all sync.WaitGroup
		var came atomic.Int64
		end := time.Now().Add(lasts)
		for i := range clients {
			all.Go(func() {
				c, err := net.DialTimeout("tcp", s.admin, patience)
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				came.Add(1)
				c.SetDeadline(end.Add(time.Second))
				behaviours[i%len(behaviours)](c)
				time.Sleep(time.Until(end))
			})
		}
		eventually(t, patience, "all have come", func() bool { return came.Load() == clients })
		stop, undisturbed := startPing(t, s.addr()), startPing(t, control.addr())
		answered := 0
		for time.Now().Before(end) {
			if status, body := s.get("/readyz"); status != 200 {
				t.Errorf("readyz: %d %s", status, body)
			}
			answered++
			time.Sleep(20 * time.Millisecond)
		}
		took, noise := stop(), undisturbed()
		all.Wait()
		t.Logf("%d pings: p50 %v, p99 %v, longest %v; of another sluice meanwhile p50 %v, p99 %v, longest %v; %d answers", len(took),
			quantile(took, .5), quantile(took, .99), quantile(took, 1), quantile(noise, .5), quantile(noise, .99), quantile(noise, 1), answered)
		if p, most := quantile(took, .99), time.Millisecond+2*quantile(noise, .99); p > most || len(took) < 200 {
			t.Errorf("p99 of %d pings is %v, want at most %v", len(took), p, most)
		}
		if answered < 20 {
			t.Errorf("%d answers for others", answered)
		}
		if s.metric("sluice_admin_shed_connections_total") == 0 {
			t.Error("no connection was shed")
		}
	})
}

// A service that is scraped many times a second makes no session wait. (With a timer slack of
// 50 ms in all threads, a loop waited so long for its thread beside every tenth scrape.)
func TestScrapesDelayNobody(t *testing.T) {
	takesLong(t)
	if testing.Short() || raced() {
		t.Skip("-short or -race: it measures delays")
	}
	backend := echoing(t).addr
	many := make([]string, 200)
	for i := range many {
		many[i] = fmt.Sprintf("127.1.0.%d:9", i)
	}
	modes(t, func(t *testing.T, mode string) {
		s := startChanging(t, mode, acceptorsTable(2, "auto")+listenerAt("main", "127.0.0.1:0", "app")+poolOf("app", []string{backend})+poolOf("many", many))
		control := sluice(t, mode, "--listen", "127.0.0.1:0", "--backend", backend)
		stop, undisturbed := startPing(t, s.addr()), startPing(t, control.addr())
		for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(25 * time.Millisecond) {
			s.get("/metrics")
		}
		took, noise := stop(), undisturbed()
		const long = 25 * time.Millisecond
		if n, most := slower(took, long), 2+2*slower(noise, long); n > most {
			t.Errorf("%d of %d pings took longer than %v, want at most %d: p99.9 %v, longest %v", n, len(took), long, most, quantile(took, .999), quantile(took, 1))
		}
	})
}

// slower counts those that took longer.
func slower(all []time.Duration, than time.Duration) (n int) {
	for _, d := range all {
		if d > than {
			n++
		}
	}
	return n
}
