package main

import (
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// dialUnix connects to the path behind unix:, or fails the test.
func dialUnix(t *testing.T, address string) *net.UnixConn {
	t.Helper()
	c, err := connectUnix(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func connectUnix(address string) (*net.UnixConn, error) {
	c, err := net.DialTimeout("unix", strings.TrimPrefix(address, "unix:"), patience)
	if err != nil {
		return nil, err
	}
	return c.(*net.UnixConn), c.SetDeadline(time.Now().Add(patience))
}

// answers says whether a process listens there.
func answers(address string) bool {
	c, err := connectUnix(address)
	if err == nil {
		c.Close()
	}
	return err == nil
}

// boundTo is listenerAt for several addresses.
func boundTo(name string, binds []string, pool string, lines ...string) string {
	return fmt.Sprintf("[listener.%s]\nbind = %s\npool = %q\n%s\n", name, quoted(binds), pool, strings.Join(lines, "\n"))
}

// A listener on a path, an abstract name and a port: bytes, half-closes, what a client
// leaves behind that does not wait, streams by splice, an even share, and no file at the
// end.
func TestUnixListener(t *testing.T) {
	modesTogether(t, func(t *testing.T, mode string) {
		dir := socketDir(t)
		path, abstract := "unix:"+filepath.Join(dir, "web"), "unix:@"+filepath.Join(dir, "abstract")
		log := filepath.Join(dir, "access")
		var left atomic.Int64
		app := startPeer(t, "", func(c *net.TCPConn) {
			defer c.Close()
			b, _ := io.ReadAll(io.TeeReader(c, c))
			if strings.HasPrefix(string(b), "left behind") {
				left.Add(1)
			}
		})
		s := startChanging(t, mode, acceptorsTable(4, "auto")+logTable("all", log)+boundTo("web", []string{path, abstract, "127.0.0.1:0"}, "app")+poolOf("app", []string{app.addr}))
		if at := s.status().Listeners[0].Address; at != path || !strings.Contains(s.logged(), `"address":"`+abstract+`"`) {
			t.Errorf("it says that it listens on %q", at)
		}
		if by := s.status().Listeners[0].Steering; by.Effective != "shared" || by.Reason != "unix_socket" || by.Requested != "auto" {
			t.Errorf("steering is %+v", by)
		}
		if info, err := os.Lstat(strings.TrimPrefix(path, "unix:")); err != nil || info.Mode() != fs.ModeSocket|0o660 {
			t.Errorf("the file: %v, %v", info, err)
		}
		for _, address := range []string{path, abstract} {
			c := dialUnix(t, address)
			send(t, c, "hello")
			expect(t, c, "hello")
			if err := c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if rest, err := io.ReadAll(c); err != nil || len(rest) > 0 {
				t.Errorf("after the half-close %q, %v", rest, err)
			}
			for range 10 {
				c := dialUnix(t, address)
				send(t, c, "left behind")
				c.Close()
			}
			thereAndBack(t, dialUnix(t, address), 8<<20)
		}
		eventually(t, patience, "all has come that was left behind", func() bool { return left.Load() == 20 })
		if n := s.metric("sluice_listener_sent_bytes_total", `path="splice"`); n == 0 {
			t.Error("nothing was spliced")
		}
		s.awaitIdle()
		for range 16 {
			if c := dialUnix(t, path); !talks(c) {
				t.Fatal("a session does not talk")
			}
		}
		if b := s.held(16); b.Spread > 2 { // see handOffAt in package proxy
			t.Errorf("of 16 sessions each acceptor has the share %v", b.Shares)
		}
		eventually(t, patience, "the sessions are in the access log", func() bool {
			b, _ := os.ReadFile(log)
			return strings.Contains(string(b), `"local":"`+path+`"`) && strings.Contains(string(b), `"reason":"client_eof"`) && !strings.Contains(string(b), `"client":`)
		})
		s.signal(syscall.SIGTERM)
		eventually(t, patience, "no new client is served", func() bool { return !answers(path) })
		s.signal(syscall.SIGTERM)
		s.wait(stopWithin)
		if entries, _ := filepath.Glob(filepath.Join(dir, "*")); len(entries) != 1 {
			t.Errorf("in the directory are %v", entries)
		}
	})
}

// thereAndBack sends n bytes and reads them back.
func thereAndBack(t *testing.T, c *net.UnixConn, n int64) {
	t.Helper()
	go func() {
		_, _ = io.CopyN(c, zeros{}, n)
		_ = c.CloseWrite()
	}()
	if got, err := io.Copy(io.Discard, c); err != nil || got != n {
		t.Errorf("%d of %d bytes, %v", got, n, err)
	}
}

// A reload keeps the socket where it can, and no client notices: not when rights, pool,
// the number of acceptors or the listener's name change. Another path is another socket,
// and the file of the old one goes. A refused reload leaves all as it is.
func TestReloadUnixListener(t *testing.T) {
	changes(t, func(t *testing.T, mode string, reload reloading) {
		dir := socketDir(t)
		first, second := filepath.Join(dir, "first"), filepath.Join(dir, "second")
		pools := poolOf("app", []string{echoing(t).addr}) + poolOf("other", []string{echoing(t).addr})
		file := func(count int, name, path, pool string, lines ...string) string {
			return acceptorsTable(count, "auto") + boundTo(name, []string{"unix:" + path}, pool, lines...) + pools
		}
		s := startChanging(t, mode, file(2, "web", first, "app"))
		held, before := dialUnix(t, first), fileOf(t, first)
		if !talks(held) {
			t.Fatal("no session")
		}
		stopped := make(chan struct{})
		faults := make(chan error, 1)
		go func() { // clients come all the time
			defer close(faults)
			for {
				select {
				case <-stopped:
					return
				default:
				}
				c, err := connectUnix(first)
				if err == nil {
					err = pingPong(c)
				}
				if err != nil {
					faults <- err
					return
				}
			}
		}()
		gid := os.Getegid()
		if os.Geteuid() == 0 {
			gid = 65534
		}
		owned := []string{`socket_mode = "0606"`, fmt.Sprintf(`socket_group = "%d"`, gid)}
		if said := reload(s, file(2, "web", first, "app", owned...)); !strings.Contains(said, "live     listener.web.socket_mode: 0660 -> 0606") {
			t.Errorf("said %q", said)
		}
		if is := fileOf(t, first); is.Mode().Perm() != 0o606 || int(is.Sys().(*syscall.Stat_t).Gid) != gid {
			t.Errorf("the file has %v, %+v", is.Mode(), is.Sys())
		}
		for _, next := range []string{
			file(4, "web", first, "app", "backlog = 7"),
			file(1, "web", first, "other"),
			file(3, "renamed", first, "other"),
			file(3, "web", first, "app"),
		} {
			reload(s, next)
			s.awaitGeneration()
		}
		s.write(file(3, "web", s.path, "app"))
		if status, _, faults := s.ask(); status == exitOK || !strings.Contains(faults, "a file that is no socket is there") {
			t.Errorf("a path that is taken: status %d, %s", status, faults)
		}
		close(stopped)
		if err := <-faults; err != nil {
			t.Errorf("a client during the reloads: %v", err)
		}
		if !os.SameFile(before, fileOf(t, first)) {
			t.Error("the file is another one by now")
		}
		if is := fileOf(t, first); is.Mode().Perm() != 0o660 {
			t.Errorf("the file has %v", is.Mode())
		}
		reload(s, file(3, "web", second, "app"))
		eventually(t, patience, "the old file has gone", func() bool { _, err := os.Lstat(first); return err != nil })
		if !talks(dialUnix(t, second)) || !talks(held) {
			t.Error("no session on the new path, or the one on the old path has ended")
		}
	})
}

func fileOf(t *testing.T, path string) os.FileInfo {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// Behind one queue no client waits for an acceptor that hangs or died, whichever was woken for
// it.
func TestUnixListenerWithoutAnAcceptor(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		t.Setenv("GOGC", "off") // see stoppable
		path := filepath.Join(socketDir(t), "web")
		s := sluice(t, mode, "-c", configFile(t, "[acceptors]\ncount = 3\nhang_after = \"100ms\"\npin_cpus = true\n"+
			listenerAt("main", "unix:"+path, "app")+poolOf("app", []string{echoing(t).addr})))
		visit := func(n int) {
			t.Helper()
			for range n {
				if c := dialUnix(t, path); !talks(c) {
					t.Fatal("a client is not served")
				}
			}
		}
		visit(12)
		resume := s.stopAcceptor(mode, 1)
		visit(12)
		resume()
		eventually(t, patience, "the acceptor is back", func() bool { return !s.status().Acceptors[1].Hung })
		if mode == "process" {
			kill(t, s.awaitWorkers()[0].PID, syscall.SIGKILL)
			visit(12)
			s.awaitWorkers()
		}
		visit(12)
	})
}

// A path is taken over from the dead and not from the living.
func TestUnixListenerOfTheDead(t *testing.T) {
	modesTogether(t, func(t *testing.T, mode string) {
		path := filepath.Join(socketDir(t), "web")
		args := []string{"--acceptors", "2", "--listen", "unix:" + path, "--backend", echoing(t).addr}
		s := sluice(t, mode, args...)
		second := launch(t, nil, append([]string{"run", "--mode", mode, "--admin", "127.0.0.1:0"}, args...)...)
		if status := second.wait(stopWithin); status == exitOK || !strings.Contains(second.logged(), "another process listens there: pid") {
			t.Errorf("a second one: exit status %d, %s", status, second.logged())
		}
		if !talks(dialUnix(t, path)) {
			t.Error("the first one is not served any more")
		}
		held := dialUnix(t, path)
		if !talks(held) {
			t.Fatal("no session")
		}
		s.signal(syscall.SIGKILL)
		eventually(t, patience, "nobody answers, and the file is still there", func() bool {
			return !answers(path) && fileOf(t, path) != nil
		})
		if mode == "process" && !talks(held) {
			t.Error("a worker without a supervisor drops its session")
		}
		if !talks(dialUnix(t, sluice(t, mode, args...).addr())) {
			t.Error("no session at the path of the dead")
		}
	})
}

// A client without an address has none to tell: a backend that wants a header gets
// UNKNOWN, or LOCAL. What the client's own header says counts instead.
func TestUnixListenerAndProxyHeaders(t *testing.T) {
	modesTogether(t, func(t *testing.T, mode string) {
		dir := socketDir(t)
		plain1, plain2, told := filepath.Join(dir, "1"), filepath.Join(dir, "2"), filepath.Join(dir, "told")
		app := startPeer(t, "", sendBack) // what it hears, the header first
		s := startChanging(t, mode, acceptorsTable(2, "auto")+
			listenerAt("one", "unix:"+plain1, "one")+listenerAt("two", "unix:"+plain2, "two")+
			listenerAt("told", "unix:"+told, "one", `proxy_protocol = "required"`, `allow = ["192.0.2.0/24"]`)+
			poolOf("one", []string{app.addr}, `send_proxy = "v1"`)+poolOf("two", []string{app.addr}, `send_proxy = "v2"`))
		c := dialUnix(t, plain1)
		send(t, c, "x")
		expect(t, c, "PROXY UNKNOWN\r\nx")
		c = dialUnix(t, plain2)
		send(t, c, "x")
		expect(t, c, "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00x")
		header := "PROXY TCP4 192.0.2.7 198.51.100.1 4000 443\r\n"
		c = dialUnix(t, told)
		send(t, c, header+"x")
		expect(t, c, header+"x")
		for _, refused := range []string{"GET / HTTP/1.0\r\n\r\n", "PROXY TCP4 203.0.113.9 198.51.100.1 4000 443\r\n"} {
			c := dialUnix(t, told)
			send(t, c, refused)
			if b, err := io.ReadAll(c); len(b) > 0 {
				t.Errorf("%q is answered with %q, %v", refused, b, err)
			}
		}
		if n, m := s.closedAs("proxy_missing"), s.closedAs("denied"); n != 1 || m != 1 {
			t.Errorf("%d without a header, %d denied", n, m)
		}
	})
}
