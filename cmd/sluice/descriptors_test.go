package main

import (
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A service that would have no descriptor left for a session does not start. check says
// so in the same words, and with the limit that they name it serves.
func TestTooFewOpenFiles(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	go echo(ln)
	modes(t, func(t *testing.T, mode string) {
		for _, size := range []struct{ listeners, acceptors, files int }{{1, 2, 20}, {1, 2, 32}, {6, 16, 128}} {
			t.Run(fmt.Sprint(size), func(t *testing.T) {
				t.Parallel()
				path := configFile(t, manyListeners(mode, size.listeners, size.acceptors, ln.Addr()))
				var said [2]string
				for i, verb := range []string{"check", "run"} {
					s := launch(t, limited(size.files), verb, "-c", path)
					if status := s.wait(startWithin); status != exitFault {
						t.Fatalf("%s with %d open files: status %d", verb, size.files, status)
					}
					said[i] = s.logged()
				}
				text := strings.TrimPrefix(strings.TrimSpace(said[0]), "sluice: ")
				if !strings.Contains(said[1], text) {
					t.Fatalf("check says %q, run %q", text, said[1])
				}
				found := regexp.MustCompile(`a limit of at least (\d+)`).FindStringSubmatch(text)
				if found == nil {
					t.Fatalf("no figure in %q", text)
				}
				enough, _ := strconv.Atoi(found[1])
				if status := launch(t, limited(enough), "check", "-c", path).wait(startWithin); status != exitOK {
					t.Errorf("check with %d open files: status %d", enough, status)
				}
				s := launch(t, limited(enough), "run", "-c", path)
				s.awaitReady()
				for name := range size.listeners {
					ping(t, s.addrs[fmt.Sprintf("l%d", name)])
				}
				if _, body := s.get("/readyz"); !strings.HasPrefix(body, "ready") {
					t.Errorf("/readyz: %q", body)
				}
			})
		}
	})
}

// A reload to a service that would have no descriptor left for a session is refused, and
// what was before goes on.
func TestReloadToTooFewOpenFiles(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	go echo(ln)
	modes(t, func(t *testing.T, mode string) {
		t.Parallel()
		c := &changing{path: configFile(t, manyListeners(mode, 2, 4, ln.Addr())), socket: t.TempDir() + "/admin.sock"}
		c.instance = launch(t, limited(160), "run", "-c", c.path, "--admin-socket", c.socket)
		c.awaitReady()
		c.write(manyListeners(mode, 20, 8, ln.Addr()))
		if status, out, faults := c.ask(); status != exitFault || !strings.Contains(faults, "160 open files are too few") {
			t.Errorf("reload: status %d, %s%s", status, out, faults)
		}
		ping(t, c.addrs["l0"])
		c.reload(manyListeners(mode, 3, 4, ln.Addr()))
		ping(t, c.addrs["l1"])
	})
}

// manyListeners is a configuration with one pool.
func manyListeners(mode string, listeners, acceptors int, backend net.Addr) string {
	var b strings.Builder
	fmt.Fprintf(&b, "acceptors.count = %d\nacceptors.mode = %q\nadmin.listen = \"127.0.0.1:0\"\nlog.format = \"json\"\n", acceptors, mode)
	for i := range listeners {
		fmt.Fprintf(&b, "[listener.l%d]\nbind = \"127.0.0.1:0\"\npool = \"p\"\n", i)
	}
	fmt.Fprintf(&b, "[pool.p]\nbackends = [%q]\n", backend)
	return b.String()
}

// ping asks and is answered.
func ping(t *testing.T, addr string) {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	one := []byte{'x'}
	if _, err := c.Write(one); err != nil {
		t.Error(err)
	}
	if _, err := c.Read(one); err != nil {
		t.Errorf("%s: no answer: %v", addr, err)
	}
}
