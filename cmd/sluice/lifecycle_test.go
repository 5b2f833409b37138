package main

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// drain sends SIGTERM and waits until the service says that it leaves.
func (s *instance) drain() {
	s.t.Helper()
	s.signal(syscall.SIGTERM)
	eventually(s.t, stopWithin, "not ready", func() bool {
		status, _ := s.get("/readyz")
		return status == http.StatusServiceUnavailable
	})
}

// With a drain delay a service that was told to end is not ready, and serves on until the
// delay is over or a second signal comes.
func TestDrainDelay(t *testing.T) {
	modesTogether(t, func(t *testing.T, mode string) {
		backend := echoing(t).addr
		served := func(s *instance) *net.TCPConn {
			c := dial(t, s.addr())
			send(t, c, "here")
			expect(t, c, "here")
			return c
		}

		s := sluice(t, mode, "--drain-delay", "10m", "--listen", "127.0.0.1:0", "--backend", backend)
		s.drain()
		s.expectPage("/readyz", http.StatusServiceUnavailable, "draining")
		s.expectPage("/livez", http.StatusOK, "alive")
		if ready, draining := s.metric("sluice_ready"), s.metric("sluice_draining"); ready != 0 || draining != 1 {
			t.Errorf("in the delay: sluice_ready %v, sluice_draining %v", ready, draining)
		}
		for range 3 {
			served(s)
		}
		s.signal(syscall.SIGTERM)
		if status := s.wait(stopWithin); status != exitFault {
			t.Errorf("exit status %d with sessions to cut", status)
		}

		const delay = 500 * time.Millisecond
		s = sluice(t, mode, "--drain-delay", delay.String(), "--listen", "127.0.0.1:0", "--backend", backend)
		begin := time.Now()
		s.drain()
		if c, err := net.DialTimeout("tcp", s.addr(), patience); err == nil {
			c.Close()
		} else if time.Since(begin) < delay { // else the machine is too busy to tell
			t.Error(err)
		}
		eventually(t, stopWithin, "nobody listens", func() bool { return refuses(s.addr()) })
		if took := time.Since(begin); took < delay {
			t.Errorf("the port closed after %v", took)
		}
		if status := s.wait(stopWithin); status != exitOK {
			t.Errorf("exit status %d", status)
		}
	})
}

// refuses says that nothing listens at addr.
func refuses(addr string) bool {
	c, err := net.DialTimeout("tcp", addr, time.Second/2) // a drain drops SYNs, and so keeps a client waiting, before it refuses
	if err == nil {
		c.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

func (s *instance) expectPage(path string, status int, body string) {
	s.t.Helper()
	if gotStatus, got := s.get(path); gotStatus != status || got != body+"\n" {
		s.t.Errorf("%s: %d %q, want %d %q", path, gotStatus, got, status, body)
	}
}

func TestProbesFollowTheLifecycle(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		s := sluice(t, mode, "--drain-timeout", "20s", "--listen", "127.0.0.1:0", "--backend", echoing(t).addr)
		c := dial(t, s.addr())
		send(t, c, "before")
		expect(t, c, "before")
		s.expectPage("/readyz", http.StatusOK, "ready")
		s.expectPage("/livez", http.StatusOK, "alive")
		if now := s.status(); !now.Ready || now.Draining || now.Mode != mode {
			t.Errorf("before the drain: ready %v, draining %v, mode %s", now.Ready, now.Draining, now.Mode)
		}

		s.drain()
		s.expectPage("/readyz", http.StatusServiceUnavailable, "draining")
		s.expectPage("/livez", http.StatusOK, "alive")
		if now := s.status(); now.Ready || !now.Draining {
			t.Errorf("in the drain: ready %v, draining %v", now.Ready, now.Draining)
		}
		if ready, draining := s.metric("sluice_ready"), s.metric("sluice_draining"); ready != 0 || draining != 1 {
			t.Errorf("in the drain: sluice_ready %v, sluice_draining %v", ready, draining)
		}
		eventually(t, stopWithin, "nobody listens", func() bool { return refuses(s.addr()) })
		send(t, c, "during")
		expect(t, c, "during")
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		expectEnd(t, c)
		if status := s.wait(stopWithin); status != exitOK {
			t.Errorf("exit status %d", status)
		}
		if !refuses(s.admin) || !refuses(s.addr()) {
			t.Error("something is still listening")
		}
	})
}

func TestIdleServiceDrainsAtOnce(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
			s := sluice(t, mode, "--listen", "127.0.0.1:0", "--backend", echoing(t).addr)
			begin := time.Now()
			s.signal(sig)
			if status := s.wait(stopWithin); status != exitOK {
				t.Errorf("%v: exit status %d", sig, status)
			}
			if took := time.Since(begin); took > 1500*time.Millisecond {
				t.Errorf("%v: took %v", sig, took)
			}
		}
	})
}

func TestSignalsThatDoNotEnd(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		s := sluice(t, mode, "--listen", "127.0.0.1:0", "--backend", echoing(t).addr)
		s.signal(syscall.SIGHUP)
		s.signal(syscall.SIGPIPE)
		c := dial(t, s.addr())
		send(t, c, "hello")
		expect(t, c, "hello")
		c.Close()
		if status := s.stop(); status != exitOK {
			t.Errorf("exit status %d", status)
		}
	})
}

func TestDrainDeadline(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		s := sluice(t, mode, "--drain-timeout", "500ms", "--listen", "127.0.0.1:0", "--backend", echoing(t).addr)
		c := dial(t, s.addr())
		send(t, c, "hello")
		expect(t, c, "hello")
		begin := time.Now()
		s.signal(syscall.SIGTERM)
		expectReset(t, c)
		if took := time.Since(begin); took < 500*time.Millisecond {
			t.Errorf("cut after %v, before its time", took)
		}
		if status := s.wait(stopWithin); status != exitFault {
			t.Errorf("exit status %d", status)
		}
		if !strings.Contains(s.logged(), `"sessions":1,"reason":"drain_deadline"`) {
			t.Error("the log does not tell of the session that was cut")
		}
	})
}

func TestSecondSignalEndsNow(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		for _, when := range []struct {
			name string
			wait func(s *instance)
		}{
			{"while the queues are emptied", func(s *instance) {}},
			{"while sessions end", func(s *instance) {
				eventually(s.t, stopWithin, "nobody listens", func() bool { return refuses(s.addr()) })
			}},
		} {
			t.Run(when.name, func(t *testing.T) {
				s := sluice(t, mode, "--drain-timeout", "1h", "--listen", "127.0.0.1:0", "--backend", echoing(t).addr)
				c := dial(t, s.addr())
				send(t, c, "hello")
				expect(t, c, "hello")
				s.drain()
				when.wait(s)
				s.signal(syscall.SIGTERM)
				expectReset(t, c)
				if status := s.wait(stopWithin); status != exitFault {
					t.Errorf("exit status %d", status)
				}
			})
		}
	})
}

// What a backend has sent before it left is delivered, however late the client reads.
func TestDrainDeliversWhatIsBuffered(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		data := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // 4 MiB: more than the sockets hold
		p := startPeer(t, "", func(c *net.TCPConn) {
			_, _ = c.Write(data)
			c.Close()
		})
		s := sluice(t, mode, "--listen", "127.0.0.1:0", "--backend", p.addr)
		c := dial(t, s.addr())
		expect(t, c, "0123") // it streams
		s.drain()
		eventually(t, stopWithin, "nobody listens", func() bool { return refuses(s.addr()) })
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(got, data[4:]) {
			t.Errorf("read %d bytes, %v; want the other %d", len(got), err, len(data)-4)
		}
		c.Close()
		if status := s.wait(stopWithin); status != exitOK {
			t.Errorf("exit status %d", status)
		}
	})
}

// Under a stream of new connections no client notices the end but by being refused
// after it: each that connected is served.
func TestDrainUnderLoad(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		s := sluice(t, mode, "--listen", "127.0.0.1:0", "--backend", echoing(t).addr)
		var served, refused atomic.Int64
		var leaving atomic.Bool
		one := func() error {
			c, err := net.DialTimeout("tcp", s.addr(), patience)
			if errors.Is(err, syscall.ECONNREFUSED) && leaving.Load() {
				refused.Add(1)
				return nil
			}
			if err == nil {
				err = pingPong(c)
			}
			if err == nil {
				served.Add(1)
			}
			return err
		}
		stop := make(chan struct{})
		var clients sync.WaitGroup
		clients.Go(func() {
			pace := time.NewTicker(time.Millisecond) // 1,000 connections a second
			defer pace.Stop()
			for {
				select {
				case <-stop:
					return
				case <-pace.C:
					clients.Go(func() {
						if err := one(); err != nil {
							t.Errorf("leaving %v: %v", leaving.Load(), err)
						}
					})
				}
			}
		})
		eventually(t, patience, "a load", func() bool { return served.Load() >= 1000 })
		leaving.Store(true)
		s.signal(syscall.SIGTERM)
		status := s.wait(stopWithin)
		eventually(t, patience, "a refusal", func() bool { return refused.Load() > 0 })
		close(stop)
		clients.Wait()
		if status != exitOK {
			t.Errorf("exit status %d", status)
		}
		t.Logf("%d served, %d refused", served.Load(), refused.Load())
	})
}

// pingPong has a connection echo a word, and closes it.
func pingPong(c net.Conn) error {
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := c.Write([]byte("ping")); err != nil {
		return err
	}
	if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		return err
	}
	switch b, err := io.ReadAll(c); {
	case err != nil:
		return err
	case string(b) != "ping":
		return errors.New("cut short")
	}
	return nil
}

// Handshakes that are under way when the drain begins complete, and are served. They
// are held half-way by clients that drop the SYN-ACK, which comes again after a second.
func TestDrainCompletesHandshakes(t *testing.T) {
	modesTogether(t, func(t *testing.T, mode string) {
		s := sluice(t, mode, "--listen", "127.0.0.1:0", "--backend", echoing(t).addr)
		const clients = 45 // one every 20 ms: the first SYN-ACK is repeated after the last SYN
		results := make(chan error, clients)
		sockets := make(chan int, clients)
		half := net.Dialer{Timeout: patience, Control: func(_, _ string, raw syscall.RawConn) error {
			var err error
			if controlErr := raw.Control(func(fd uintptr) {
				var copied int
				if copied, err = syscall.Dup(int(fd)); err == nil {
					sockets <- copied
					err = leastTTL(copied, 255)
				}
			}); controlErr != nil {
				return controlErr
			}
			return err
		}}
		for range clients {
			go func() {
				c, err := half.Dial("tcp4", s.addr())
				if err == nil {
					err = pingPong(c)
				}
				results <- err
			}()
			time.Sleep(20 * time.Millisecond) // the pace of the clients
		}
		s.drain()
		for range clients {
			fd := <-sockets
			if err := leastTTL(fd, 0); err != nil {
				t.Error(err)
			}
			syscall.Close(fd)
		}
		served := 0
		for range clients {
			switch err := <-results; {
			case err == nil:
				served++
			case errors.Is(err, syscall.ECONNREFUSED): // its SYN-ACK was repeated before, and once more too late
			default:
				t.Error(err)
			}
		}
		if served < clients/4 {
			t.Errorf("only %d of %d served", served, clients)
		}
		if status := s.wait(stopWithin); status != exitOK {
			t.Errorf("exit status %d", status)
		}
	})
}

// leastTTL makes a socket drop packets with a lower TTL. Those of this machine have 64.
func leastTTL(fd, ttl int) error {
	return os.NewSyscallError("IP_MINTTL", syscall.SetsockoptInt(fd, syscall.IPPROTO_IP, syscall.IP_MINTTL, ttl))
}
