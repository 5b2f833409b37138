package docker

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// startEcho is a backend.
func startEcho(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return // closed
			}
			serving.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
				_, _ = io.Copy(c, c) // until the client has gone
			})
		}
	})
	t.Cleanup(func() { ln.Close(); serving.Wait() })
	return ln.Addr().String()
}

// startLoad keeps six sessions open and makes about fifty more a second.
func startLoad(t *testing.T, addr string) {
	t.Helper()
	hold(t, addr, 6)
	stream(t, addr, 20*time.Millisecond)
}

// hold opens sessions that stay until release, or the end of the test.
func hold(t *testing.T, addr string, n int) (release func()) {
	t.Helper()
	var held []net.Conn
	release = func() {
		for _, c := range held {
			c.Close()
		}
	}
	t.Cleanup(release)
	for range n {
		c, err := net.DialTimeout("tcp", addr, 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
		if err := echoOn(c); err != nil {
			t.Fatal(err)
		}
	}
	return release
}

// stream makes sessions, one after the other, until stop, or the end of the test. Stop
// returns how many there were.
func stream(t *testing.T, addr string, every time.Duration) (stop func() (made int)) {
	ending, stopped := make(chan struct{}), make(chan struct{})
	made := 0
	go func() {
		defer close(stopped)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-ending:
				return
			case <-tick.C:
			}
			if err := talk(addr); err != nil {
				t.Errorf("client: %v", err)
				return
			}
			made++
		}
	}()
	stop = sync.OnceValue(func() int {
		close(ending)
		<-stopped
		return made
	})
	t.Cleanup(func() { stop() })
	return stop
}

// errNotTaken is a connection that was never established.
var errNotTaken = errors.New("not taken")

// talk is a whole session with an echoing backend.
func talk(addr string) error {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return fmt.Errorf("%w: %w", errNotTaken, err)
	}
	defer c.Close()
	return echoOn(c)
}

// echoOn sends a word and waits for it to come back.
func echoOn(c net.Conn) error {
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, "hello"); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 5))
	return err
}
