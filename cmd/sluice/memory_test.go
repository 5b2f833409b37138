package main

import (
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	idleSessions    = 9000
	bytesPerSession = 256 // user memory; the kernel's sockets are extra, see README
)

// An idle session costs two descriptors and its slot, before it ever moved a byte and
// after; and when all are gone, nothing is left of them.
func TestIdleSessions(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: opens 9,000 sessions")
	}
	if raced() {
		t.Skip("-race: its shadow memory would be measured")
	}
	// This process holds both ends, as many descriptors as sluice. Go has raised its
	// limit to the hard one at the start.
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
	if need := uint64(2*idleSessions + 500); l.Cur < need {
		unable(t, "the limit of open files is %d, %d are needed", l.Cur, need)
	}
	modes(t, func(t *testing.T, mode string) {
		ln := listen(t)
		s := sluice(t, mode, "--listen", "127.0.0.1:0", "--backend", ln.Addr().String())

		// Nothing is asked of the admin endpoint until memory has been measured: the garbage
		// of a scrape leaves pages behind that sessions would then get for nothing. What the
		// service needs once comes first: that of a session, and of the work of each second.
		descriptors := s.descriptors()
		first := connect(t, s.addr(), ln)
		chat(t, []net.Conn{first[0]}, []net.Conn{first[1]})
		first[0].Close()
		first[1].Close()
		eventually(t, stopWithin, "the first session has ended", func() bool { return s.descriptors() == descriptors })
		time.Sleep(1500 * time.Millisecond)
		memory := s.pss()
		clients, backends := hold(t, s.addr(), ln, idleSessions)
		eventually(t, stopWithin, "two descriptors a session", func() bool { return s.descriptors() == descriptors+2*idleSessions })
		report := func(when string) {
			each := float64(s.pss()-memory) / idleSessions
			t.Logf("%s: %.0f bytes of user memory a session", when, each)
			if each > bytesPerSession {
				t.Errorf("%s: %.0f bytes of user memory a session, at most %d expected", when, each, bytesPerSession)
			}
		}
		report("idle")
		chat(t, clients, backends)
		report("after a request and a response")
		if n := s.descriptors() - descriptors; n != 2*idleSessions {
			t.Errorf("%d descriptors for %d sessions", n, idleSessions)
		}
		if n := s.metric("sluice_acceptor_pipes"); n != 0 {
			t.Errorf("%.0f pipes for idle sessions", n)
		}
		// The endpoint's own connection is there from now on.
		descriptors, goroutines := s.descriptors()-2*idleSessions, s.metric("go_goroutines")
		if goroutines > 100 {
			t.Errorf("%.0f goroutines", goroutines)
		}
		if n := s.metric("sluice_acceptor_active_connections"); n != idleSessions {
			t.Errorf("%.0f sessions", n)
		}

		for i := range clients {
			clients[i].Close()
			backends[i].Close()
		}
		s.awaitIdle()
		eventually(t, stopWithin, "descriptors are back where they were", func() bool { return s.descriptors() == descriptors })
		eventually(t, stopWithin, "as many goroutines as before", func() bool { return s.metric("go_goroutines") == goroutines })
	})
}

// hold opens n sessions, of which it returns both ends.
func hold(t *testing.T, addr string, ln *net.TCPListener, n int) (clients, backends []net.Conn) {
	t.Helper()
	clients = make([]net.Conn, n)
	var wg sync.WaitGroup
	ln.SetDeadline(time.Now().Add(time.Minute))
	wg.Go(func() {
		for range n {
			c, err := ln.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			backends = append(backends, c)
		}
	})
	const dialers = 10
	for d := range dialers {
		wg.Go(func() {
			for i := d; i < n; i += dialers {
				c, err := net.DialTimeout("tcp", addr, 10*time.Second)
				if err != nil {
					t.Error(err)
					ln.SetDeadline(time.Now()) // no more will come
					return
				}
				clients[i] = c
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return clients, backends
}

// chat moves 1,000 bytes each way through every session.
func chat(t *testing.T, clients, backends []net.Conn) {
	t.Helper()
	for _, ends := range [][2][]net.Conn{{clients, backends}, {backends, clients}} {
		message := make([]byte, 1000)
		for _, c := range ends[0] {
			if _, err := c.Write(message); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range ends[1] {
			c.SetReadDeadline(time.Now().Add(10 * time.Second))
			if _, err := io.ReadFull(c, message); err != nil {
				t.Fatal(err)
			}
		}
	}
}
