package host

import (
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"sluice/proxy"
)

// dialWorker returns the supervisor's end and the bare other end, in a bubble of
// synctest: its time stands still while a goroutine can run.
func dialWorker(t *testing.T, notices chan proxy.Notice) (*workerConn, net.Conn) {
	ours, theirs := net.Pipe()
	c := newWorkerConn(ours, 3, notices, func(int, *message) {})
	t.Cleanup(func() { theirs.Close(); c.close() })
	return c, theirs
}

func hear(t *testing.T, conn net.Conn) message {
	t.Helper()
	m, err := readMessage(conn, wireLimit)
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

// order says m and waits for the answer.
func (c *workerConn) order(m message, within time.Duration) (message, error) {
	id, err := c.say(m, nil)
	if err != nil {
		return message{}, err
	}
	return c.answer(id, within)
}

func TestOrderAndAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, worker := dialWorker(t, nil)
		go func() {
			m := hear(t, worker)
			say(t, worker, message{Kind: kindDone, ID: m.ID + 1000}) // that was not asked for
			synctest.Wait()
			say(t, worker, message{Kind: kindDone, ID: m.ID, Found: m.Kind == kindFind})
			say(t, worker, message{Kind: kindDone, ID: hear(t, worker).ID, Error: "will not"})
		}()
		if m, err := c.order(message{Kind: kindFind}, time.Second); err != nil || !m.Found {
			t.Errorf("%+v, %v", m, err)
		}
		if m, err := c.order(message{Kind: kindClose}, time.Second); err != nil || m.fault() == nil || m.fault().Error() != "will not" {
			t.Errorf("%+v, %v; want what the worker said", m, err)
		}
	})
}

// A Plan goes ahead of the order that is about it.
func TestFrameAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, worker := dialWorker(t, nil)
		shared := message{Kind: kindPlan, Body: &body{Plan: somePlan()}}
		frame, err := shared.frame()
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = c.say(message{Kind: kindBind}, frame) }()
		if m := hear(t, worker); m.Kind != kindPlan || m.ID != 0 {
			t.Errorf("%+v comes first", m)
		}
		if m := hear(t, worker); m.Kind != kindBind || m.ID != 1 {
			t.Errorf("%+v comes then", m)
		}
	})
}

// An answer that does not come in time may be waited for again.
func TestSilentWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, worker := dialWorker(t, nil)
		heard := make(chan message, 1)
		go func() { heard <- hear(t, worker) }()
		id, err := c.say(message{Kind: kindCommit}, nil)
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if _, err := c.answer(id, time.Second); !errors.Is(err, errWorkerSilent) || time.Since(begin) != time.Second {
			t.Errorf("%v after %v; want errWorkerSilent", err, time.Since(begin))
		}
		go func() {
			time.Sleep(time.Hour)
			say(t, worker, message{Kind: kindDone, ID: (<-heard).ID})
		}()
		if _, err := c.answer(id, 0); err != nil || time.Since(begin) != time.Hour+time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
	})
}

// A worker that talks without being asked is not waited for, and fills nothing.
func TestTalkativeWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, worker := dialWorker(t, nil)
		for range 1000 {
			say(t, worker, message{Kind: kindDone, ID: 7})
			say(t, worker, message{Kind: kindClose}) // is not for a supervisor
		}
		go func() {
			m := hear(t, worker)
			synctest.Wait()
			say(t, worker, message{Kind: kindDone, ID: m.ID})
		}()
		if _, err := c.order(message{Kind: kindCommit}, time.Second); err != nil {
			t.Error(err)
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
				if _, err := c.order(message{Kind: kindClose}, time.Second); !errors.Is(err, errWorkerGone) {
					t.Errorf("%v; want errWorkerGone", err)
				}
				if c.rest(time.Hour) {
					t.Error("it rests beside a worker that has gone")
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
			if _, err := c.order(message{Kind: kindClose}, time.Second); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestNotices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		notices := make(chan proxy.Notice, 1)
		c, worker := dialWorker(t, notices)
		for range 3 { // the channel takes one: it does not wait for a reader
			say(t, worker, message{Kind: kindNotice, Notice: &proxy.Notice{Name: "web", Acceptor: 1 << 40}})
		}
		worker.Close()
		c.close()
		close(notices)                                          // allowed: after close none comes
		if n := <-notices; n.Name != "web" || n.Acceptor != 3 { // whatever it says it is
			t.Errorf("%+v", n)
		}
	})
}
