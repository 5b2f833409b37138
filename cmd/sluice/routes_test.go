package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"
)

const routedFile = `
[acceptors]
count = 2
[listener.main]
bind = "127.0.0.1:0"
pool = "rest"
preamble_timeout = "%s"
[listener.main.route.a]
pool = "a"
sni = ["a.example.com"]
[listener.main.route.b]
pool = "b"
sni = ["*.example.com"]
[listener.main.route.h2]
pool = "b"
sni = ["a.example.com"]
alpn = ["spoken"]
[pool.a]
backends = [%q]
[pool.b]
backends = [%q]
[pool.rest]
backends = [%q]
`

// Three sites behind one port: each client comes to the one that it asks for, and meets its
// certificate. TLS sessions resume, and streams are spliced.
func TestRoutesByServerName(t *testing.T) {
	const size = 64 << 20
	a, b := startSite(t, []string{"h2"}, size, "a.example.com"), startSite(t, []string{"spoken"}, size, "b.example.com", "*.example.com")
	rest := startSite(t, nil, size, "rest.example.org")
	modes(t, func(t *testing.T, mode string) {
		c := startChanging(t, mode, fmt.Sprintf(routedFile, "30s", a.addr, b.addr, rest.addr))
		for _, ask := range []struct {
			name     string
			protocol string
			want     *site
		}{
			{"a.example.com", "", a}, {"A.EXAMPLE.com", "", a}, {"a.example.com", "h2", a}, {"a.example.com", "spoken", b},
			{"b.example.com", "", b}, {"rest.example.org", "", rest},
		} {
			var protocols []string
			if ask.protocol != "" {
				protocols = []string{ask.protocol}
			}
			conn := secure(t, dial(t, c.addr()), ask.want, ask.name, protocols...)
			send(t, conn, "hello\n")
			expect(t, conn, ask.want.cert.Subject.CommonName+" hello\n")
			conn.Close()
		}

		// A ClientHello in segments of one byte.
		slow := secure(t, &dribbling{TCPConn: dial(t, c.addr()), most: 2000}, a, "a.example.com")
		send(t, slow, "slow\n")
		expect(t, slow, "a.example.com slow\n")
		slow.Close()

		// A second handshake resumes the first.
		roots := x509.NewCertPool()
		roots.AddCert(a.cert)
		config := &tls.Config{ServerName: "a.example.com", RootCAs: roots, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
		for i := range 2 {
			conn := tls.Client(dial(t, c.addr()), config)
			send(t, conn, "again\n")
			expect(t, conn, "a.example.com again\n")
			if resumed := conn.ConnectionState().DidResume; resumed != (i == 1) {
				t.Errorf("handshake %d resumed: %t", i, resumed)
			}
			conn.Close()
		}

		before := c.moved(`path="splice"`)
		stream := secure(t, dial(t, c.addr()), b, "x.example.com")
		send(t, stream, "stream\n")
		if n, err := io.Copy(io.Discard, stream); n != size || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
		stream.Close()
		if spliced := c.moved(`path="splice"`) - before; spliced < size/2 {
			t.Errorf("%.0f bytes were spliced", spliced)
		}

		if l := c.status().Listeners[0]; len(l.Routes) != 3 || l.Routes[1].Pool != "b" || l.Routes[1].On != "sni *.example.com" {
			t.Errorf("status.json has the routes %+v", l.Routes)
		}

		// A route goes to another pool, live.
		text := strings.Replace(fmt.Sprintf(routedFile, "30s", a.addr, b.addr, rest.addr), "pool = \"a\"\nsni", "pool = \"rest\"\nsni", 1)
		if out := c.reload(text); !strings.Contains(out, "live     listener.main.route.a.pool: a -> rest") {
			t.Errorf("reload says %s", out)
		}
		c.awaitPlan(2)
		conn := tls.Client(dial(t, c.addr()), &tls.Config{ServerName: "a.example.com", InsecureSkipVerify: true})
		send(t, conn, "hello\n")
		expect(t, conn, "rest.example.org hello\n")
		conn.Close()
		c.awaitIdle()
	})
}

// dribbling writes the first bytes one by one.
type dribbling struct {
	*net.TCPConn
	most int
}

func (d *dribbling) Write(p []byte) (int, error) {
	n := min(d.most, len(p))
	d.most -= n
	for i := range n {
		if _, err := d.TCPConn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	m, err := d.TCPConn.Write(p[n:])
	return n + m, err
}

// Other implementations of TLS come where they ask to.
func TestRoutesOfPrograms(t *testing.T) {
	openssl, curl := need(t, "openssl", "openssl"), need(t, "curl", "curl")
	a, b := startSite(t, nil, 0, "a.example.com"), startSite(t, nil, 0, "b.example.com")
	rest := startPeer(t, "", sendBack)
	modes(t, func(t *testing.T, mode string) {
		s := sluice(t, mode, "-c", configFile(t, fmt.Sprintf(routedFile, "30s", a.addr, b.addr, rest.addr)))
		host, port, _ := net.SplitHostPort(s.addr())
		for name, site := range map[string]*site{"a.example.com": a, "b.example.com": b} {
			for _, version := range []string{"-tls1_2", "-tls1_3"} {
				cmd := exec.CommandContext(t.Context(), openssl, "s_client", "-connect", s.addr(), "-servername", name, "-verify_return_error", "-CAfile", site.pem(t), "-quiet", "-ign_eof", version)
				cmd.Stdin = strings.NewReader("hello\n")
				out, err := cmd.Output()
				if err != nil || string(out) != name+" hello\n" {
					t.Errorf("openssl %s, %s: %q, %v", version, name, out, err)
				}
			}
			out := finish(t, clientWithin, curl, "-sS", "--cacert", site.pem(t), "--resolve", name+":"+port+":"+host, "https://"+name+":"+port+"/")
			if out != name+"\n" {
				t.Errorf("curl %s: %q", name, out)
			}
		}
		plain := dial(t, s.addr()) // it speaks no TLS
		send(t, plain, "GET / HTTP/1.1\r\n\r\n")
		expect(t, plain, "GET / HTTP/1.1\r\n\r\n")
		plain.Close()
		s.awaitIdle()
	})
}
