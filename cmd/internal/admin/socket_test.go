package admin

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestSocketIsPrivate(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "run", "sluice", "admin.sock")
	ln, err := ListenSocket(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{
		path: fs.ModeSocket | 0o600, filepath.Dir(path): fs.ModeDir | 0o700,
	} {
		if info, err := os.Stat(name); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v; want %v", name, info.Mode(), err, want)
		}
	}
	if err := ln.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("the socket is left after close")
	}
}

func TestSocketOfTheDeadIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	old, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	old.SetUnlinkOnClose(false)
	old.Close()
	ln, err := ListenSocket(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, err = ListenSocket(path)
	if want := fmt.Sprintf("admin socket %s: another process listens there: pid %d of user %d", path, os.Getpid(), os.Geteuid()); err == nil || err.Error() != want {
		t.Errorf("beside a live one: %v, want %s", err, want)
	}
}

// A sluice that closes late does not remove its successor's socket.
func TestSocketOfASuccessorStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	old, err := ListenSocket(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	successor, err := ListenSocket(path)
	if err != nil {
		t.Fatal(err)
	}
	defer successor.Close()
	old.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the successor's socket: %v", err)
	}
}

// Of many that start at once over a stale socket exactly one gets it, and keeps it.
func TestSocketHasOneOwner(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	var mu sync.Mutex
	var owners []net.Listener
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			if ln, err := ListenSocket(path); err == nil {
				mu.Lock()
				owners = append(owners, ln)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if len(owners) != 1 {
		t.Fatalf("%d owners", len(owners))
	}
	if conn, err := net.Dial("unix", path); err != nil {
		t.Error(err)
	} else {
		conn.Close()
	}
	owners[0].Close()
}

func TestSocketFaults(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		file:                              "a file that is no socket is there",
		filepath.Join(file, "admin.sock"): "not a directory",
		dir + "/" + strings.Repeat("x", 108-len(dir)-1): "the path has 108 bytes, but a unix socket takes at most 107",
		"@abstract": "the path must name a file",
	} {
		if _, err := ListenSocket(path); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
	if b, _ := os.ReadFile(file); string(b) != "precious" {
		t.Error("the file was touched")
	}
	longest := dir + "/" + strings.Repeat("x", 107-len(dir)-1)
	ln, err := ListenSocket(longest)
	if err != nil {
		t.Fatalf("107 bytes: %v", err)
	}
	ln.Close()
}

func ask(t *testing.T, path string, dryRun bool) (Verdict, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	return NewClient(path).Reload(ctx, dryRun)
}

func TestReload(t *testing.T) {
	good := Verdict{OK: true, Text: "reloaded", Generation: 7, SHA256: "0123456789ab", Changes: []string{"live: log.level"}}
	refused := Verdict{Text: "sluice.toml:3:1: listener.web.bnd: unknown key", Generation: 6, SHA256: "ba9876543210"}
	dry := make(chan bool, 2)
	answer := good
	r := start(t, Options{Reload: func(_ context.Context, dryRun bool) Verdict {
		dry <- dryRun
		return answer
	}}, func(s *Server) { s.socket.WriteTimeout = time.Nanosecond }) // holds for reads only
	r.openSocket()
	who := fmt.Sprintf("uid=%d pid=%d", os.Geteuid(), os.Getpid())
	for _, row := range []struct {
		answer Verdict
		dryRun bool
		logged string
	}{
		{good, false, `level=INFO msg="reload was asked for" dry_run=false ` + who + " ok=true generation=7 from=socket\n"},
		{refused, true, `level=WARN msg="reload was asked for" dry_run=true ` + who + ` ok=false generation=6 from=socket text="sluice.toml:3:1: listener.web.bnd: unknown key"` + "\n"},
	} {
		answer = row.answer
		v, err := ask(t, r.socket, row.dryRun)
		if err != nil || !reflect.DeepEqual(v, row.answer) {
			t.Errorf("got %+v, %v; want %+v", v, err, row.answer)
		}
		if got := <-dry; got != row.dryRun {
			t.Errorf("dry run %t, want %t", got, row.dryRun)
		}
		if !strings.HasSuffix(r.log.String(), row.logged) {
			t.Errorf("logged %q, want %q", r.log, row.logged)
		}
	}
}

// A caller that leaves ends the context of its verb.
func TestCallerThatLeaves(t *testing.T) {
	ended := make(chan struct{})
	r := start(t, Options{Reload: func(ctx context.Context, _ bool) Verdict {
		<-ctx.Done()
		close(ended)
		return Verdict{}
	}}, nil)
	r.openSocket()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := NewClient(r.socket).Reload(ctx, false); err == nil || !strings.Contains(err.Error(), "in time") {
		t.Errorf("%v", err)
	}
	select {
	case <-ended:
	case <-time.After(within):
		t.Error("the verb goes on")
	}
}

func TestStrangersAreRefused(t *testing.T) {
	r := start(t, Options{Reload: func(context.Context, bool) Verdict { panic("reached") }}, func(s *Server) {
		s.socket.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
			return context.WithValue(ctx, callerKey{}, Caller{UID: uint32(os.Geteuid()) + 1, PID: 1})
		}
	})
	r.openSocket()
	if _, err := ask(t, r.socket, false); err == nil || !strings.Contains(err.Error(), "permission denied at "+r.socket) {
		t.Errorf("%v", err)
	}
}

// A request that did not come over a unix socket has no credentials, and no rights.
func TestNobodyIsRefused(t *testing.T) {
	r := start(t, Options{}, func(s *Server) { s.tcp.Handler, s.tcp.ConnContext = s.socket.Handler, withCaller })
	c := r.dial()
	c.send(request("/livez"))
	if status, _ := c.answer(); status != 403 {
		t.Errorf("status %d", status)
	}
}

func TestClientSaysWhy(t *testing.T) {
	dir := t.TempDir()
	dead := filepath.Join(dir, "dead.sock")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	ln.Close()
	mute := filepath.Join(dir, "mute.sock")
	hangsUp, err := net.Listen("unix", mute)
	if err != nil {
		t.Fatal(err)
	}
	defer hangsUp.Close()
	go func() {
		for {
			conn, err := hangsUp.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 1))
			conn.Close()
		}
	}()
	for path, want := range map[string]string{
		filepath.Join(dir, "none.sock"): "no socket at ",
		dead:                            "nobody answers at ",
		mute:                            mute + " hung up before it answered",
	} {
		if _, err := ask(t, path, false); err == nil || !strings.HasPrefix(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	// Root is denied nothing, so this one is made up.
	if err := NewClient("/s").explain(os.NewSyscallError("connect", syscall.EACCES)); !strings.HasPrefix(err.Error(), "permission denied at /s") {
		t.Errorf("%v", err)
	}
}
