package main

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds whatever a test waits for on a connection: far above all that
// should happen, far below go test's own limit.
const patience = 20 * time.Second

// peer is a backend under the test's control.
type peer struct {
	addr string
	ln   *net.TCPListener

	mu    sync.Mutex
	conns []*net.TCPConn
}

// startPeer serves each connection with serve, which closes it. An addr of "" is any
// free port of 127.0.0.1. The peer ends with the test.
func startPeer(t *testing.T, addr string, serve func(c *net.TCPConn)) *peer {
	t.Helper()
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return servePeer(t, ln, serve)
}

// servePeer is startPeer on a listener that is there.
func servePeer(t *testing.T, ln net.Listener, serve func(c *net.TCPConn)) *peer {
	p := &peer{addr: ln.Addr().String(), ln: ln.(*net.TCPListener)}
	go p.accept(serve)
	t.Cleanup(p.kill)
	return p
}

func (p *peer) accept(serve func(c *net.TCPConn)) {
	for {
		c, err := p.ln.AcceptTCP()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.conns = append(p.conns, c)
		p.mu.Unlock()
		go serve(c)
	}
}

// kill is what the kernel does to a process that is killed: no more connections, and
// a RST to those whose data was not read.
func (p *peer) kill() {
	p.ln.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
}

// echoing is a peer that sends back what it gets.
func echoing(t *testing.T) *peer { return startPeer(t, "", sendBack) }

func sendBack(c *net.TCPConn) {
	defer c.Close()
	_, _ = io.Copy(c, c)
}

// namer is a peer that says its name of one byte and then waits for the end.
func namer(t *testing.T, name byte) *peer {
	return startPeer(t, "", func(c *net.TCPConn) {
		defer c.Close()
		if _, err := c.Write([]byte{name}); err == nil {
			_, _ = io.Copy(io.Discard, c)
		}
	})
}

// deaf is a peer that accepts and never reads.
func deaf(t *testing.T) *peer {
	return startPeer(t, "", func(*net.TCPConn) {})
}

// refusing is an address where nothing listens or will: its port is bound, and
// never listened on.
func refusing(t *testing.T) string {
	t.Helper()
	addr, _ := absent(t)
	return addr
}

// absent is the address of a peer that refuses until it is told to start.
func absent(t *testing.T) (addr string, start func(serve func(c *net.TCPConn)) *peer) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return local(sa.(*syscall.SockaddrInet4).Port), func(serve func(c *net.TCPConn)) *peer {
		t.Helper()
		if err := syscall.Listen(fd, syscall.SOMAXCONN); err != nil {
			t.Fatal(err)
		}
		dup, err := syscall.Dup(fd) // net.FileListener makes another, which the peer closes
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(dup), "peer")
		defer f.Close()
		ln, err := net.FileListener(f)
		if err != nil {
			t.Fatal(err)
		}
		return servePeer(t, ln, serve)
	}
}

// blackhole is an address that answers no SYN: a socket whose accept queue is full.
func blackhole(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	raw, err := ln.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var listenErr error
	if err := raw.Control(func(fd uintptr) { listenErr = syscall.Listen(int(fd), 0) }); err != nil || listenErr != nil {
		t.Fatal(err, listenErr)
	}
	for range 10 {
		c, err := net.DialTimeout("tcp4", ln.Addr().String(), 300*time.Millisecond)
		var failed net.Error
		if errors.As(err, &failed) && failed.Timeout() {
			return ln.Addr().String()
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Fatal("a queue of length 0 does not fill")
	return ""
}

// dial connects a client, whose calls all end within patience.
func dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	return dialBy(t, net.Dialer{}, addr)
}

// dialFrom connects a client that has the address source.
func dialFrom(t *testing.T, source netip.Addr, addr string) *net.TCPConn {
	t.Helper()
	return dialBy(t, net.Dialer{LocalAddr: &net.TCPAddr{IP: source.AsSlice()}}, addr)
}

func dialBy(t *testing.T, d net.Dialer, addr string) *net.TCPConn {
	t.Helper()
	d.Timeout = patience
	c, err := d.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

func send(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

// expect reads exactly text.
func expect(t *testing.T, c net.Conn, text string) {
	t.Helper()
	b := make([]byte, len(text))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != text {
		t.Fatalf("read %q, %v; want %q", b, err, text)
	}
}

// askName reads the name that a namer says.
func askName(t *testing.T, c net.Conn) byte {
	t.Helper()
	var b [1]byte
	if _, err := io.ReadFull(c, b[:]); err != nil {
		t.Fatal(err)
	}
	return b[0]
}

// expectRefusal connects to addr and must get a RST. It may come so soon that connect
// itself reports it.
func expectRefusal(t *testing.T, addr string) {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, patience)
	if errors.Is(err, syscall.ECONNRESET) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	expectReset(t, c)
}

// expectReset reads until the RST that must come.
func expectReset(t *testing.T, c net.Conn) {
	t.Helper()
	if n, err := io.Copy(io.Discard, c); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("after %d bytes: %v; want a RST", n, err)
	}
}

// expectEnd reads until the FIN that must come.
func expectEnd(t *testing.T, c net.Conn) {
	t.Helper()
	if n, err := io.Copy(io.Discard, c); err != nil {
		t.Fatalf("after %d bytes: %v; want a FIN", n, err)
	}
}

// reset closes c with a RST.
func reset(t *testing.T, c *net.TCPConn) {
	t.Helper()
	if err := c.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// configFile writes a configuration and returns its path.
func configFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sluice.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
