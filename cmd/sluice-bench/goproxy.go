package main

import (
	"io"
	"net"
)

// serveGoProxy is the plain Go peer, as one writes it in ten minutes: two goroutines for each session, io.Copy in each (which
// splices), the end of a stream passed on.
func serveGoProxy(front, back string) error {
	listener, err := net.Listen("tcp", front)
	if err != nil {
		return err
	}
	for {
		client, err := listener.Accept()
		if err != nil {
			return err
		}
		go relaySession(client.(*net.TCPConn), back)
	}
}

func relaySession(client *net.TCPConn, back string) {
	defer client.Close()
	c, err := net.Dial("tcp", back)
	if err != nil {
		return
	}
	backend := c.(*net.TCPConn)
	defer backend.Close()
	done := make(chan struct{})
	go func() {
		relayHalf(backend, client)
		close(done)
	}()
	relayHalf(client, backend)
	<-done
}

func relayHalf(to, from *net.TCPConn) {
	io.Copy(to, from)
	to.CloseWrite()
}
