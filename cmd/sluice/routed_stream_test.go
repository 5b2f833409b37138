package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"testing"
	"time"
)

// clientHello is what a TLS client that asks for a name says first.
func clientHello(t *testing.T, name string) string {
	t.Helper()
	end, other := net.Pipe()
	defer end.Close()
	defer other.Close()
	go func() { _ = tls.Client(end, &tls.Config{ServerName: name}).Handshake() }() // there is no answer
	_ = other.SetDeadline(time.Now().Add(patience))
	b := make([]byte, 16<<10)
	n, err := other.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

// A session that a route has led elsewhere is moved like any other: of 1 GiB behind its
// ClientHello every byte arrives, by splice(2).
func TestStreamBehindARoute(t *testing.T) {
	if testing.Short() || raced() {
		t.Skip("-short or -race: moves 1 GiB")
	}
	const size = 1 << 30
	rest := refusing(t)
	modes(t, func(t *testing.T, mode string) {
		ln := listen(t)
		s := sluice(t, mode, "-c", configFile(t, fmt.Sprintf(routedFile, "30s", ln.Addr(), rest, rest)))
		hello := clientHello(t, "a.example.com")
		client := dial(t, s.addr())
		send(t, client, hello)
		_ = ln.SetDeadline(time.Now().Add(patience))
		backend, err := ln.AcceptTCP()
		if err != nil {
			t.Fatal(err)
		}
		defer backend.Close()
		expect(t, backend, hello)
		if err := exchange([2]*net.TCPConn{client, backend}, [2]transfer{{1, size, 1 << 20}, {2, 1, 1}}); err != nil {
			t.Error(err)
		}
		client.Close()
		s.awaitIdle()
		if n := s.metric("sluice_listener_received_bytes_total", `path="splice"`); n < size*9/10 {
			t.Errorf("%.0f bytes of %d were spliced", n, size)
		}
		if n := s.metric("sluice_listener_routed_connections_total", `route="a"`); n != 1 {
			t.Errorf("%v sessions took the route", n)
		}
	})
}
