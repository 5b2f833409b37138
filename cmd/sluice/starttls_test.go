package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	sslRequest = "\x00\x00\x00\x08\x04\xd2\x16\x2f"
	gssRequest = "\x00\x00\x00\x08\x04\xd2\x16\x30"
)

// starttlsFile routes PostgreSQL's clients: a.example.com to a, c.example.com to c, all others to rest.
const starttlsFile = `
acceptors.count = 2
[listener.main]
bind = "127.0.0.1:0"
pool = "rest"
starttls = "postgres"
preamble_timeout = "1s"
[listener.main.route.a]
sni = ["a.example.com"]
pool = "a"
[listener.main.route.c]
sni = ["c.example.com"]
pool = "c"
[pool.a]
backends = [%q]
[pool.c]
backends = [%q]
connect_timeout = "500ms"
[pool.rest]
backends = [%q]
`

// startDatabase runs a PostgreSQL that says its name, with a certificate for it.
func startDatabase(t *testing.T, name string) *site {
	t.Helper()
	s := newSite(t, name)
	key, err := x509.MarshalPKCS8PrivateKey(s.key.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	s.addr = startPostgres(t, map[string]string{
		"server.crt": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.cert.Raw})),
		"server.key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})),
	}, "-c", "ssl=on", "-c", "cluster_name="+name)
	return s
}

// psql comes to the server that it names, in TLS that goes through untouched. Without TLS, or
// with another name, it comes to the rest.
func TestStartTLSPostgreSQL(t *testing.T) {
	psql := need(t, "psql", "postgresql-client")
	var a, b *site
	var both sync.WaitGroup
	both.Go(func() { a = startDatabase(t, "a.example.com") })
	both.Go(func() { b = startDatabase(t, "b.example.com") })
	both.Wait()
	if a == nil || b == nil {
		t.FailNow()
	}
	roots := filepath.Join(t.TempDir(), "roots.pem")
	write(t, roots, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}))+
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b.cert.Raw})))
	modesTogether(t, func(t *testing.T, mode string) {
		s := sluice(t, mode, "-c", configFile(t, fmt.Sprintf(starttlsFile, a.addr, a.addr, b.addr)))
		host, port, _ := net.SplitHostPort(s.addr())
		for _, c := range []struct{ name, sslmode, want string }{
			{"a.example.com", "verify-full", "a.example.com t"},
			{"b.example.com", "verify-full", "b.example.com t"},
			{"a.example.com", "require", "a.example.com t"},
			{"other.example.com", "require", "b.example.com t"},
			{"a.example.com", "prefer", "a.example.com t"},
			{"a.example.com", "disable", "b.example.com f"},
			{"a.example.com", "allow", "b.example.com f"},
		} {
			out := finish(t, clientWithin, psql, "-X", "-At", "-F", " ", "-c",
				"select current_setting('cluster_name'), ssl from pg_stat_ssl where pid = pg_backend_pid()",
				fmt.Sprintf("host=%s hostaddr=%s port=%s user=postgres dbname=postgres sslmode=%s sslrootcert=%s", c.name, host, port, c.sslmode, roots))
			if strings.TrimSpace(out) != c.want {
				t.Errorf("%s, %s: %q, want %q", c.name, c.sslmode, out, c.want)
			}
		}
		// A name for which the server has no certificate is found out by the client.
		if out, err := exec.CommandContext(t.Context(), psql, "-X", "-c", "select 1",
			fmt.Sprintf("host=c.example.com hostaddr=%s port=%s user=postgres dbname=postgres sslmode=verify-full sslrootcert=%s", host, port, roots)).CombinedOutput(); err == nil {
			t.Errorf("c.example.com has a certificate of another: %s", out)
		}
		// A large answer, and a COPY towards the server.
		in := fmt.Sprintf("host=a.example.com hostaddr=%s port=%s user=postgres dbname=postgres sslmode=require", host, port)
		out := finish(t, clientWithin, psql, "-X", "-At", "-c", "select md5(string_agg(x::text, '')), sum(length(x::text)) from generate_series(1, 200000) x",
			"-c", "select x from generate_series(1, 200000) x", in)
		if lines := strings.Count(out, "\n"); lines != 200001 {
			t.Errorf("%d lines of 200001", lines)
		}
		s.awaitIdle()
	})
}

// A client that asks for GSSAPI first, one that asks and leaves, one that is silent, and one
// that speaks TLS at once.
func TestStartTLSClients(t *testing.T) {
	direct := startSite(t, []string{"postgresql"}, 0, "a.example.com")
	rest := startPeer(t, "", sendBack)
	upgraded := startUpgrading(t, "S", direct.addr)
	modesTogether(t, func(t *testing.T, mode string) {
		s := sluice(t, mode, "-c", configFile(t, fmt.Sprintf(starttlsFile, direct.addr, upgraded, rest.addr)))
		silent := dial(t, s.addr())
		send(t, silent, sslRequest)
		expect(t, silent, "S")

		at := secure(t, dial(t, s.addr()), direct, "a.example.com", "postgresql")
		send(t, at, "hello\n")
		expect(t, at, "a.example.com hello\n")
		at.Close()

		gss := dial(t, s.addr())
		send(t, gss, gssRequest)
		expect(t, gss, "N")
		send(t, gss, "\x00\x00\x00\x09\x00\x03\x00\x00\x00")
		expect(t, gss, "\x00\x00\x00\x09\x00\x03\x00\x00\x00")
		gss.Close()

		left := dial(t, s.addr())
		send(t, left, sslRequest)
		expect(t, left, "S")
		left.Close()

		wrong := dial(t, s.addr())
		send(t, wrong, sslRequest)
		expect(t, wrong, "S")
		send(t, wrong, "\x00\x00\x00\x09\x00\x03\x00\x00\x00")
		expectReset(t, wrong)

		expectReset(t, silent)
		s.awaitIdle()
		for reason, want := range map[string]float64{"preamble_timeout": 1, "hello_malformed": 1} {
			if n := s.metric("sluice_listener_closed_connections_total", `reason="`+reason+`"`); n != want {
				t.Errorf("%.0f ended as %s, want %.0f", n, reason, want)
			}
		}
	})
}

// startUpgrading is a server that gives an answer to its first eight bytes, and relays to
// another after a yes.
func startUpgrading(t *testing.T, answer, to string) string {
	return startPeer(t, "", func(c *net.TCPConn) {
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(clientWithin))
		if b := make([]byte, 8); true {
			if _, err := io.ReadFull(c, b); err != nil || string(b) != sslRequest {
				return
			}
		}
		if _, err := io.WriteString(c, answer); err != nil {
			return
		}
		if answer != "S" {
			_, _ = io.Copy(io.Discard, c)
			return
		}
		other, err := net.Dial("tcp", to)
		if err != nil {
			return
		}
		defer other.Close()
		go func() { _, _ = io.Copy(other, c) }()
		_, _ = io.Copy(c, other)
	}).addr
}

// A backend that says no, or rubbish, or nothing: the session ends, and the reason tells.
func TestStartTLSRefusedByBackend(t *testing.T) {
	site := startSite(t, nil, 0, "yes.example.com")
	backends := map[string]string{
		"yes": startUpgrading(t, "S", site.addr), "no": startUpgrading(t, "N", ""), "rubbish": startUpgrading(t, "ESFATAL", ""),
		"nothing": startUpgrading(t, "", ""), "echo": startPeer(t, "", sendBack).addr,
	}
	file := "acceptors.count = 2\n[listener.main]\nbind = \"127.0.0.1:0\"\npool = \"yes\"\nstarttls = \"postgres\"\n"
	for name, addr := range backends {
		file += fmt.Sprintf("[listener.main.route.%s]\nsni = [\"%s.example.com\"]\npool = %q\n", name, name, name) +
			fmt.Sprintf("[pool.%s]\nbackends = [%q]\nconnect_timeout = \"500ms\"\n", name, addr)
	}
	modesTogether(t, func(t *testing.T, mode string) {
		s := sluice(t, mode, "-c", configFile(t, file))
		begin := func() *net.TCPConn {
			conn := dial(t, s.addr())
			send(t, conn, sslRequest)
			expect(t, conn, "S")
			return conn
		}
		for name := range backends {
			if name == "yes" {
				continue
			}
			if err := tls.Client(begin(), &tls.Config{ServerName: name + ".example.com", InsecureSkipVerify: true}).Handshake(); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("%s: %v; want a RST", name, err)
			}
		}
		at := secure(t, begin(), site, "yes.example.com")
		send(t, at, "hello\n")
		expect(t, at, "yes.example.com hello\n")
		at.Close()
		s.awaitIdle()
		for reason, want := range map[string]float64{"starttls_refused": 3, "starttls_timeout": 1} {
			if n := s.metric("sluice_listener_closed_connections_total", `reason="`+reason+`"`); n != want {
				t.Errorf("%.0f ended as %s, want %.0f", n, reason, want)
			}
		}
		s.tells("backend was asked for TLS", func(n int) bool { return n == 4 })
	})
}
