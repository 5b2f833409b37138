package control

import (
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"sluice/proxy"
)

// dialWorker returns the supervisor's end and the bare other end, in a bubble of
// synctest: its time stands still while somebody can run.
func dialWorker(t *testing.T, notices chan proxy.Notice) (*workerConn, net.Conn) {
	ours, theirs := net.Pipe()
	c := newWorkerConn(ours, notices)
	t.Cleanup(func() { theirs.Close(); c.close() })
	return c, theirs
}

func hear(t *testing.T, conn net.Conn) message {
	t.Helper()
	m, err := readMessage(conn)
	if err != nil {
		t.Error(err)
	}
	return m
}

func say(t *testing.T, conn net.Conn, m message) {
	t.Helper()
	frame, err := m.frame()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(frame); err != nil {
		t.Error(err)
	}
}

func TestAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, worker := dialWorker(t, nil)
		go func() {
			m := hear(t, worker)
			say(t, worker, message{Kind: kindDone, ID: m.ID + 1000}) // nobody asked for that
			say(t, worker, message{Kind: kindDone, ID: m.ID, Found: m.Kind == kindFind})
			say(t, worker, message{Kind: kindDone, ID: hear(t, worker).ID, Error: "will not"})
		}()
		if m, err := c.ask(message{Kind: kindFind}, time.Second); err != nil || !m.Found {
			t.Errorf("%+v, %v", m, err)
		}
		if _, err := c.ask(message{Kind: kindClose}, time.Second); err == nil || err.Error() != "will not" {
			t.Errorf("%v; want what the worker said", err)
		}
	})
}

func TestAnswersFindWhoAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, worker := dialWorker(t, nil)
		go func() {
			first, second := hear(t, worker), hear(t, worker)
			for _, m := range []message{second, first} {
				say(t, worker, message{Kind: kindDone, ID: m.ID, Found: m.Kind == kindFind})
			}
		}()
		answers := make(chan bool)
		for _, kind := range []messageKind{kindFind, kindStopAccepting} {
			go func() {
				m, err := c.ask(message{Kind: kind}, time.Second)
				answers <- err == nil && m.Found == (kind == kindFind)
			}()
		}
		if a, b := <-answers, <-answers; !a || !b {
			t.Error("an answer went astray")
		}
	})
}

// A worker that reads nothing is waited for once, however much it is asked; when it
// goes on, it finds what it was asked, in order.
func TestSilentWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, worker := dialWorker(t, nil)
		const asks = maxUnread + 5 // one more than fits is under way in speak
		begin := time.Now()
		for range asks {
			if _, err := c.ask(message{Kind: kindStopAccepting}, time.Second); !errors.Is(err, errWorkerSilent) {
				t.Fatalf("%v; want errWorkerSilent", err)
			}
			synctest.Wait() // until speak holds the first
		}
		if took := time.Since(begin); took != time.Second {
			t.Errorf("took %v", took)
		}
		if err := c.post(message{Kind: kindStopAccepting}); !errors.Is(err, errWorkerSilent) {
			t.Errorf("post: %v", err)
		}
		for want := range uint64(maxUnread + 1) {
			if m := hear(t, worker); m.ID != want+1 {
				t.Fatalf("request %d came, want %d", m.ID, want+1)
			}
		}
		if n := len(c.waiting); n != 0 {
			t.Errorf("%d answers are still waited for", n)
		}
		say(t, worker, message{Kind: kindDone}) // whatever it says, it is back
		synctest.Wait()
		go func() { say(t, worker, message{Kind: kindDone, ID: hear(t, worker).ID}) }()
		if _, err := c.ask(message{Kind: kindStopAccepting}, time.Second); err != nil {
			t.Errorf("when it goes on: %v", err)
		}
	})
}

func TestWorkerGone(t *testing.T) {
	for _, row := range []struct {
		name string
		end  func(worker net.Conn)
	}{
		{"closed", func(worker net.Conn) { worker.Close() }},
		{"talks nonsense", func(worker net.Conn) { _, _ = worker.Write([]byte("HTTP/1.1 400 Bad Request")) }},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, worker := dialWorker(t, nil)
				go func() {
					hear(t, worker)
					row.end(worker)
				}()
				begin := time.Now()
				for range 2 { // under way, and before it is sent
					if _, err := c.ask(message{Kind: kindClose}, time.Second); !errors.Is(err, errWorkerGone) {
						t.Errorf("%v; want errWorkerGone", err)
					}
				}
				if took := time.Since(begin); took != 0 {
					t.Errorf("waited %v for a worker that has gone", took)
				}
			})
		})
	}
}

// A worker's last word counts, though it ends right after it.
func TestLastWord(t *testing.T) {
	for range 100 { // a select picks at random
		synctest.Test(t, func(t *testing.T) {
			c, worker := dialWorker(t, nil)
			go func() {
				m := hear(t, worker)
				say(t, worker, message{Kind: kindDone, ID: m.ID})
				worker.Close()
			}()
			if _, err := c.ask(message{Kind: kindClose}, time.Second); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestNotices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		notices := make(chan proxy.Notice, 1)
		c, worker := dialWorker(t, notices)
		for range 3 { // the channel takes one: nobody waits for a reader
			say(t, worker, message{Kind: kindNotice, Notice: &proxy.Notice{Name: "web"}})
		}
		worker.Close()
		c.close()
		close(notices) // allowed: after close none comes
		if n := <-notices; n.Name != "web" {
			t.Errorf("%+v", n)
		}
	})
}
