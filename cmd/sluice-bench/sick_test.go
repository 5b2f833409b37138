package main

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A backend that has turned sick does what its sickness says, on each of its threads.
func TestSickness(t *testing.T) {
	const soon, long = 150 * time.Millisecond, 10 * time.Second
	late := func(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
	well := func(err error) bool { return err == nil }
	for s, want := range map[sickness]struct {
		patience        time.Duration
		connect, answer func(error) bool
		after           time.Duration // at least
	}{
		blackholed: {soon, late, well, soon},
		refusing:   {long, func(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }, well, 0},
		closing:    {long, well, func(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) }, 0},
		silent:     {2 * soon, well, late, soon},
		slow:       {long, well, well, slowAnswer},
	} {
		t.Run(string(s), func(t *testing.T) {
			deadline(t, 30*time.Second)
			b, at, err := startBackend(backendOrder{Threads: 2, CheckAll: true})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(b.stop)
			for range 5 {
				if connect, answer := exchangeWithin(at, long); connect != nil || answer != nil {
					t.Fatalf("well: connect: %v, answer: %v", connect, answer)
				}
			}
			var held int
			if err := b.ask(question{Turn: s}, &held); err != nil {
				t.Fatal(err)
			}
			for range 5 {
				begin := time.Now()
				connect, answer := exchangeWithin(at, want.patience)
				if took := time.Since(begin); !want.connect(connect) || !want.answer(answer) || took < want.after {
					t.Fatalf("connect: %v, answer: %v, after %v", connect, answer, took)
				}
			}
		})
	}
}

// exchangeWithin makes one small request, and waits so long for the connection, and for the answer.
func exchangeWithin(at netip.AddrPort, patience time.Duration) (connect, answer error) {
	c, err := net.DialTimeout("tcp", at.String(), patience)
	if err != nil {
		if failed, is := err.(net.Error); is && failed.Timeout() {
			return os.ErrDeadlineExceeded, nil
		}
		return err, nil
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	if _, err := c.Write(request{Down: tailSize}.head()); err != nil && !errors.Is(err, syscall.EPIPE) {
		return nil, err
	}
	_, err = io.ReadFull(c, make([]byte, tailSize))
	return nil, err
}

// What is said of the pool is the same to each proxy, as far as it can be.
func TestPoolSettings(t *testing.T) {
	s := setting{path: "/nosuch", acceptors: 3, files: fewFiles, config: "/dir/config", pool: aliases(3, 90)}
	s.pooled = pooled{fewest: true, every: time.Second, inDoubt: time.Second / 2, within: time.Second, asks: true}
	for _, c := range []struct {
		name, config string
		want         []string
	}{
		{"sluice", sluiceConfig(s), []string{`"127.1.0.2:90"`, `pick = "least_sessions"`, `connect_timeout = "1s"`, "retries = 2", `interval = "1s"`, `fast_interval = "500ms"`, `timeout = "1s"`, "rise = 2", "fall = 3", `send = "hex:63756c73`}},
		{"haproxy", haproxyConfig(s), []string{" 127.1.0.2:90\n", "balance leastconn\n", "timeout connect 1s\n", "retries 2\n", "option redispatch 1\n", "check inter 1s fastinter 500ms rise 2 fall 3 ", "timeout check 1s\n", "send-binary 63756c73"}},
		{"nginx", nginxConfig(s), []string{" 127.1.0.2:90;", "least_conn;", "proxy_connect_timeout 1s;", "proxy_pass pool;"}},
	} {
		for _, want := range c.want {
			if !strings.Contains(c.config, want) {
				t.Errorf("%s: no %q in\n%s", c.name, want, c.config)
			}
		}
	}
}
