package main

import (
	"bytes"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// download is a client that reads from a peer that sends.
type download struct {
	conn *net.TCPConn
	n    atomic.Int64
}

// downloading starts one, and reads until its connection ends.
func downloading(t *testing.T, addr string) *download {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	d := &download{conn: c.(*net.TCPConn)}
	t.Cleanup(func() { c.Close() })
	go func() {
		part := make([]byte, 256<<10)
		for {
			n, err := c.Read(part)
			d.n.Add(int64(n))
			if err != nil {
				return
			}
		}
	}()
	return d
}

// sending is a peer that sends for ever.
func sending(t *testing.T) *peer {
	return startPeer(t, "", func(c *net.TCPConn) {
		defer c.Close()
		for part := make([]byte, 64<<10); ; {
			if _, err := c.Write(part); err != nil {
				return
			}
		}
	})
}

func counts(all []*download) (each []int64) {
	for _, d := range all {
		each = append(each, d.n.Load())
	}
	return each
}

func bytesOf(all []*download) (sum int64) {
	for _, d := range all {
		sum += d.n.Load()
	}
	return sum
}

// The sessions of a listener share its bandwidth over all acceptors, and sleep meanwhile; a
// reload lets them fly, and holds them back again; those of a worker that dies leave the
// others theirs.
func TestTotalBandwidth(t *testing.T) {
	const rate, sessions = 4 << 20, 16
	modesTogether(t, func(t *testing.T, mode string) {
		text := func(lines ...string) string {
			return acceptorsTable(2, "round_robin") + poolOf("app", []string{sending(t).addr}) + listenerAt("main", "127.0.0.1:0", "app", lines...)
		}
		limited := text(`total_download_rate = "4MiB"`, `total_download_burst = "1MiB"`, `idle_timeout = "1s"`)
		s := startChanging(t, mode, limited)
		var all []*download
		for range sessions {
			all = append(all, downloading(t, s.addr()))
		}
		sent := func() float64 { return s.metric("sluice_listener_sent_bytes_total") }
		shares := func(what string, before []int64) {
			t.Helper()
			after, sum, live := counts(all), int64(0), int64(0)
			for i := range after {
				if after[i] -= before[i]; after[i] > 0 {
					sum, live = sum+after[i], live+1
				}
			}
			for i, n := range after {
				if x := float64(n*live) / float64(sum); n > 0 && (x < .5 || x > 1.5) {
					t.Errorf("%s: session %d has %.2f of its share", what, i, x)
				}
			}
			if what != "after a worker has died" && live != sessions {
				t.Errorf("%s: %d sessions get something", what, live)
			}
		}
		exact := func(what string) {
			t.Helper()
			// Once each was held back some times the burst is over. From then on only the clients are
			// asked: a scrape would cost the CPU time that is measured.
			held := func() float64 { return s.metric("sluice_listener_held_back_total", `direction="download"`) }
			times := held()
			eventually(t, patience, what+": it is held back", func() bool { return held() > times+4*sessions })
			begin, before, each, got, cpu := time.Now(), sent(), counts(all), bytesOf(all), s.cpuTime()
			eventually(t, patience, what+": some of the rate", func() bool { return bytesOf(all)-got > rate*3 }) // some eight portions each
			took, used := time.Since(begin), s.cpuTime()-cpu
			eventually(t, patience, what+": all of the rate", func() bool { // a busy machine makes up for what it missed
				n := sent() - before
				in := time.Since(begin).Seconds()
				if most := in*rate + 1<<20; n > most { // with the burst
					t.Fatalf("%s: %.0f bytes in %.3f s, more than %.0f", what, n, in, most)
				}
				return n > (in-.2)*rate
			})
			shares(what, each)
			if most := took / 4; used > most && !raced() {
				t.Errorf("%s: %v CPU in %v", what, used, took)
			}
		}
		exact("at first")
		before := bytesOf(all)
		s.reload(text(`idle_timeout = "1s"`))
		eventually(t, patience, "they fly", func() bool { return bytesOf(all)-before > 256<<20 })
		s.reload(limited)
		s.awaitGeneration()
		exact("again")
		if n := s.metric("sluice_listener_held_back_seconds_total", `direction="download"`); n < sessions {
			t.Errorf("held back for %v s", n)
		}
		if n := s.metric("sluice_listener_held_back_total", `direction="upload"`); n != 0 {
			t.Errorf("uploads were held back %v times", n)
		}
		if mode == "process" {
			if err := syscall.Kill(s.status().Workers[0].PID, syscall.SIGKILL); err != nil {
				t.Error(err)
			}
			exact("after a worker has died")
		}
	})
}

// A session has its own bandwidth each way, and what it carries comes whole, with its end
// behind it, whichever way it is moved.
func TestSessionBandwidth(t *testing.T) {
	const size = 3 << 20
	modesTogether(t, func(t *testing.T, mode string) {
		for _, relay := range []string{"auto", "splice", "copy"} {
			up, down := transfer{1, size, 100_000}, transfer{2, size, 100_000}
			var sent, received, got []byte
			var done sync.WaitGroup
			done.Add(1)
			p := startPeer(t, "", func(c *net.TCPConn) {
				defer done.Done()
				defer c.Close()
				var both sync.WaitGroup
				both.Go(func() { received, _, _ = receive(c, 64<<10) })
				sent, _ = down.send(c)
				both.Wait()
			})
			s := startChanging(t, mode, acceptorsTable(1, "auto")+poolOf("app", []string{p.addr})+listenerAt("main", "127.0.0.1:0", "app",
				`upload_rate = "2MiB"`, `download_rate = "2MiB"`, `half_closed_timeout = "40ms"`, "relay = \""+relay+"\""))
			conn, err := net.DialTimeout("tcp", s.addr(), patience)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			c, begin := conn.(*net.TCPConn), time.Now()
			_ = c.SetDeadline(begin.Add(patience))
			var mine []byte
			var both sync.WaitGroup
			both.Go(func() { mine, _ = up.send(c) })
			got, _, err = receive(c, 64<<10)
			both.Wait()
			done.Wait()
			took := time.Since(begin)
			if err != nil || !bytes.Equal(got, sent) || !bytes.Equal(received, mine) || len(mine) == 0 {
				t.Errorf("%s: what came is not what was sent: %v", relay, err)
			}
			if took < 500*time.Millisecond || took > 1500*time.Millisecond {
				t.Errorf("%s: 3 MiB at 2 MiB a second, the first 2 at once, took %v", relay, took)
			}
		}
	})
}
