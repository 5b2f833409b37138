package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// site is a TLS server that says its name, or sends back what it gets.
type site struct {
	addr string
	cert *x509.Certificate
	key  tls.Certificate
}

// startSite starts one for some names. What it reads is sent back behind its first name,
// but for "stream": then it sends size bytes of zero.
func startSite(t *testing.T, protocols []string, size int, names ...string) *site {
	t.Helper()
	s := newSite(t, names...)
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{s.key}, NextProtos: protocols})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	s.addr = ln.Addr().String()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(clientWithin))
				line, err := bufio.NewReader(c).ReadString('\n')
				switch {
				case err != nil:
				case line == "stream\n":
					_, _ = io.CopyN(c, zeros{}, int64(size))
				case strings.HasPrefix(line, "GET "):
					fmt.Fprintf(c, "HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s\n", len(names[0])+1, names[0])
				default:
					fmt.Fprintf(c, "%s %s", names[0], line)
				}
			}()
		}
	}()
	return s
}

// newSite is the certificate of one, with a key.
func newSite(t *testing.T, names ...string) *site {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{key: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}}
	if s.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return s
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// pem is its certificate in a file.
func (s *site) pem(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "site.pem")
	write(t, path, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.cert.Raw})))
	return path
}

// secure connects a TLS client that asks for a name, which the site's certificate must have.
func secure(t *testing.T, c net.Conn, to *site, name string, protocols ...string) *tls.Conn {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(to.cert)
	secured := tls.Client(c, &tls.Config{ServerName: name, RootCAs: roots, NextProtos: protocols})
	if err := secured.Handshake(); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return secured
}
