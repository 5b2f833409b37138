package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// unixPeer serves connections at a path, or at an abstract name behind an @.
func unixPeer(t *testing.T, path string, serve func(c *net.UnixConn)) *net.UnixListener {
	t.Helper()
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.AcceptUnix()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
	return ln
}

// socketDir is a directory whose paths are short enough for a socket.
func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// Backends at a path and at an abstract name: bytes both ways, half-closes, streams by
// splice, an answer that ends at once, and a socket that comes later.
func TestUnixBackends(t *testing.T) {
	modesTogether(t, func(t *testing.T, mode string) {
		dir := socketDir(t)
		path, late, abstract := filepath.Join(dir, "App"), filepath.Join(dir, "late"), "@"+filepath.Join(dir, "abstract")
		const big = 8 << 20
		answer := func(c *net.UnixConn) { // to the end of what is asked, as many bytes as that says
			var n int
			if _, err := fmt.Fscan(c, &n); err == nil {
				_, _ = c.Write(make([]byte, n))
			}
		}
		unixPeer(t, path, func(c *net.UnixConn) { _, _ = io.Copy(c, c) })
		unixPeer(t, abstract, answer)
		s := startChanging(t, mode, acceptorsTable(2, "auto")+listenerAt("echo", "127.0.0.1:0", "echo")+listenerAt("answer", "127.0.0.1:0", "answer")+
			listenerAt("late", "127.0.0.1:0", "late")+
			poolOf("echo", []string{"unix:" + path}, `source = "127.0.0.5"`, "[pool.echo.health]", `interval = "100ms"`)+
			poolOf("answer", []string{"unix:" + abstract}, `pick = "source_hash"`)+poolOf("late", []string{"unix:" + late}, "retries = 0"))

		c := dial(t, s.addrs["echo"])
		send(t, c, "hello")
		expect(t, c, "hello")
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if rest, err := io.ReadAll(c); err != nil || len(rest) > 0 {
			t.Errorf("after the half-close %q, %v", rest, err)
		}
		for _, n := range []int{0, 1, 100_000, big} {
			c := dial(t, s.addrs["answer"])
			send(t, c, fmt.Sprintln(n))
			if got, err := io.Copy(io.Discard, c); err != nil || got != int64(n) {
				t.Errorf("%d of %d bytes, %v", got, n, err)
			}
			c.Close()
		}
		if n := s.metric("sluice_listener_sent_bytes_total", `path="splice"`); n == 0 {
			t.Error("nothing was spliced")
		}
		eventually(t, patience, "four sessions have ended with backend_eof", func() bool {
			return s.metric("sluice_listener_closed_connections_total", `listener="answer"`, `reason="backend_eof"`) == 4
		})
		targets := s.status().Pools[0].Backends[0].Targets
		if len(targets) != 1 || targets[0].Address != "unix:"+path {
			t.Errorf("status.json says %+v", targets)
		}
		eventually(t, patience, "checks succeed", func() bool {
			return s.status().Pools[0].Backends[0].Targets[0].Check != nil && s.status().Pools[0].Backends[0].Targets[0].Check.Up
		})

		expectRefusal(t, s.addrs["late"])
		if n := s.metric("sluice_backend_connect_errors_total", `pool="late"`, `reason="refused"`); n != 1 {
			t.Errorf("%v were refused, want 1", n)
		}
		unixPeer(t, late, func(c *net.UnixConn) { _, _ = io.Copy(c, c) })
		if !talks(dial(t, s.addrs["late"])) {
			t.Error("no session at the socket that has come")
		}
		eventually(t, patience, "it is said that it takes connections again", func() bool { return strings.Contains(s.logged(), "takes connections again") })
	})
}

// More clients at once than a unix backend's queue takes: they wait, and all are served.
func TestUnixBackendWithAFullQueue(t *testing.T) {
	modesTogether(t, func(t *testing.T, mode string) {
		path := filepath.Join(socketDir(t), "slow")
		ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		raw, err := ln.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		if err := raw.Control(func(fd uintptr) { shortenQueue(t, int(fd)) }); err != nil {
			t.Fatal(err)
		}
		s := sluice(t, mode, "--acceptors", "1", "--connect-timeout", "60s", "--listen", "127.0.0.1:0", "--backend", "unix:"+path)
		var clients []*net.TCPConn
		for range 10 {
			c := dial(t, s.addr())
			send(t, c, "x")
			clients = append(clients, c)
		}
		eventually(t, patience, "it is said that the queue is full", func() bool { return strings.Contains(s.logged(), "the queue of this backend is full") })
		go func() {
			for {
				c, err := ln.AcceptUnix()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					_, _ = io.Copy(c, c)
				}()
			}
		}()
		for _, c := range clients {
			expect(t, c, "x")
		}
	})
}

// A real server at a path.
func TestUnixNginx(t *testing.T) {
	nginx := need(t, "nginx", "nginx")
	dir := socketDir(t)
	write(t, filepath.Join(dir, "page"), "unix page")
	temp := ""
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		temp += fmt.Sprintf("%s_temp_path %s/%s; ", kind, dir, kind)
	}
	config, path := filepath.Join(dir, "nginx.conf"), filepath.Join(dir, "sock")
	write(t, config, fmt.Sprintf(`
daemon off; master_process off; pid %[1]s/pid; error_log stderr;
events { worker_connections 64; }
http { access_log off; %[2]s server { listen unix:%[3]s; root %[1]s; } }`, dir, temp, path))
	server(t, exec.Command(nginx, "-c", config, "-p", dir, "-e", "stderr"))
	modes(t, func(t *testing.T, mode string) {
		s := startChanging(t, mode, listenerAt("web", "127.0.0.1:0", "web", `wait_for_backend = "20s"`)+
			poolOf("web", []string{"unix:" + path}, "[pool.web.health]", `check = "http"`, `path = "/page"`, `interval = "100ms"`, `start = "down"`))
		client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
		answer, err := client.Get("http://" + s.addrs["web"] + "/page")
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		if body, err := io.ReadAll(answer.Body); err != nil || string(body) != "unix page" {
			t.Errorf("%q, %v", body, err)
		}
	})
}
