package admin

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sluice/metrics"
)

// within bounds everything a test waits for.
const within = 20 * time.Second

// running is a server under test. It is closed with the test, and then nothing of it
// may be left: no goroutine, no descriptor.
type running struct {
	*Server
	t      *testing.T
	addr   string // TCP
	socket string // "" until openSocket
	log    *logBuffer
}

type logBuffer struct {
	mu  sync.Mutex
	out strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.String()
}

// start serves over TCP; prepare may change the server first.
func start(t *testing.T, o Options, prepare func(*Server)) *running {
	t.Helper()
	goroutines, files := goleak.IgnoreCurrent(), openFiles(t)
	r := &running{t: t, log: &logBuffer{}}
	if o.Snapshot == nil {
		o.Snapshot = func() metrics.Snapshot { return metrics.Snapshot{} }
	}
	o.Log = slog.New(slog.NewTextHandler(r.log, nil))
	r.Server = New(o)
	if prepare != nil {
		prepare(r.Server)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = ln.Addr().String()
	var served sync.WaitGroup
	served.Go(func() { _ = r.Serve(ln) })
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		r.Close(ctx)
		served.Wait()
		if err := goleak.Find(goroutines); err != nil {
			t.Error(err)
		}
		eventually(t, "descriptors are back where they were", func() bool { return openFiles(t) <= files })
	})
	return r
}

// openSocket serves over a unix socket, too.
func (r *running) openSocket() {
	r.t.Helper()
	r.socket = filepath.Join(r.t.TempDir(), "run", "admin.sock")
	ln, err := ListenSocket(r.socket)
	if err != nil {
		r.t.Fatal(err)
	}
	go r.ServeSocket(ln)
}

func openFiles(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

// client is a connection that does what it is told.
type client struct {
	net.Conn
	t *testing.T
	r *bufio.Reader
}

func (r *running) dial() *client {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(within)); err != nil {
		r.t.Fatal(err)
	}
	return &client{conn, r.t, bufio.NewReader(conn)}
}

func (c *client) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatal(err)
	}
}

// answer reads one answer.
func (c *client) answer() (status int, body string) {
	c.t.Helper()
	a, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return a.StatusCode, string(b)
}

// closed waits until the server has hung up.
func (c *client) closed() {
	c.t.Helper()
	if _, err := io.Copy(io.Discard, c.r); os.IsTimeout(err) {
		c.t.Fatal("the connection is still open")
	}
}

// silent asks for a page and does not read, with hardly a buffer.
func (r *running) silent(page string) *client {
	r.t.Helper()
	c := r.dial()
	if err := c.Conn.(*net.TCPConn).SetReadBuffer(4096); err != nil {
		r.t.Fatal(err)
	}
	c.send(request(page))
	return c
}

func request(path string, headers ...string) string {
	return fmt.Sprintf("GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n", path, strings.Join(append(headers, ""), "\r\n"))
}

// well fails the test unless a new client is answered.
func (r *running) well() {
	r.t.Helper()
	c := r.dial()
	c.send(request("/livez", "Connection: close"))
	if status, body := c.answer(); status != 200 || body != "alive\n" {
		r.t.Fatalf("somebody new: %d %q", status, body)
	}
}

// large makes answers that fit into no socket's buffers, of which one is at most 4 MiB
// here (tcp_wmem) and the other small (see silent): some 6.5 MB.
func large() metrics.Snapshot {
	var s metrics.Snapshot
	for i := range 30_000 {
		s.Workers = append(s.Workers, metrics.Worker{Number: i, PID: 1, State: metrics.WorkerRunning})
	}
	s.Ready = true
	return s
}
