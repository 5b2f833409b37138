package main

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	proxyproto "github.com/pires/go-proxyproto"
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

// Who says nothing, or not enough, is cut; and costs the others nothing.
func TestSlowPreambleIsCut(t *testing.T) {
	a := startSite(t, nil, 0, "a.example.com")
	modesTogether(t, func(t *testing.T, mode string) {
		const limit = time.Second
		s := sluice(t, mode, "-c", configFile(t, fmt.Sprintf(routedFile, limit, a.addr, a.addr, a.addr)))
		begin := time.Now()
		silent, half, slow := dial(t, s.addr()), dial(t, s.addr()), dial(t, s.addr())
		send(t, half, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
		done := make(chan struct{})
		go func() { // a byte now and then, for as long as it may
			defer close(done)
			for _, x := range []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("x", 1000)) {
				if _, err := slow.Write([]byte{x}); err != nil {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
		}()
		conn := secure(t, dial(t, s.addr()), a, "a.example.com")
		send(t, conn, "hello\n")
		expect(t, conn, "a.example.com hello\n")
		conn.Close()
		expectReset(t, silent)
		expectReset(t, half)
		<-done // its write has the RST
		if took := time.Since(begin); took < limit {
			t.Errorf("cut after %v, want %v", took, limit)
		}
		if n := s.metric("sluice_listener_closed_connections_total", `reason="preamble_timeout"`); n != 3 {
			t.Errorf("%.0f were late, want 3", n)
		}
		s.awaitIdle()
	})
}

// awaitPlan waits until all acceptors run the plan in force.
func (c *changing) awaitPlan(acceptors int) {
	c.t.Helper()
	eventually(c.t, patience, "the plan in every acceptor", func() bool {
		return c.metric("sluice_acceptor_generation") == float64(acceptors)*c.metric("sluice_config_generation")
	})
}

// teller is a backend that tells.
func teller(t *testing.T) *peer { return startPeer(t, "", tell) }

// tell reads a PROXY header, says what it read, and sends back what follows.
func tell(c *net.TCPConn) {
	defer c.Close()
	r := bufio.NewReader(c)
	h, err := proxyproto.Read(r)
	if err != nil {
		fmt.Fprintf(c, "error: %v\n", err)
		return
	}
	tlvs, err := h.TLVs()
	if err != nil {
		fmt.Fprintf(c, "error: %v\n", err)
		return
	}
	fmt.Fprintf(c, "v%d %v", h.Version, h.SourceAddr)
	for _, tlv := range tlvs {
		fmt.Fprintf(c, " %#x=%s", byte(tlv.Type), tlv.Value)
	}
	fmt.Fprintln(c)
	_, _ = io.Copy(c, r)
}

const proxyFile = `
[acceptors]
count = 3
steering = "%s"
[listener.main]
bind = "127.0.0.1:0"
pool = "app"
proxy_protocol = "%s"
proxy_protocol_from = ["127.0.0.1", "127.0.2.0/24"]
[pool.app]
backends = [%q]
send_proxy = "v2"
send_proxy_tlvs = ["unique_id", "pass", "0xe0=rack 7"]
`

// The client that a header tells of is the one that the access log and the backend are
// told of, whichever acceptor gets the connection.
func TestProxyProtocolThrough(t *testing.T) {
	app := teller(t)
	for _, handOff := range []bool{false, true} {
		modes(t, func(t *testing.T, mode string) {
			dir, err := os.MkdirTemp("", "sluice-preamble-") // t.TempDir is closed to other users
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			if err := os.Chmod(dir, 0o777); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "access.log")
			text := logTable("all", path) + fmt.Sprintf(proxyFile, "auto", "required", app.addr)
			var s *instance
			if handOff { // who may not load a program passes connections on
				s = asNobody(t, mode, "auto", time.Minute, func(program string) { write(t, filepath.Join(filepath.Dir(program), "sluice.toml"), text) })
			} else {
				s = sluice(t, mode, "-c", configFile(t, text))
			}
			ids := map[string]string{}
			var held []net.Conn
			for i := range 60 {
				source := fmt.Sprintf("203.0.113.%d:%d", i, 5000+i)
				c := dial(t, s.addr())
				header, want := fmt.Sprintf("PROXY TCP4 203.0.113.%d 192.0.2.1 %d 443\r\n", i, 5000+i), ""
				if i%2 == 1 {
					header, want = v2Header(t, source, proxyproto.TLV{Type: 0xea, Value: []byte("passed")}), " 0xea=passed"
				}
				send(t, c, header+"payload\n")
				answer := bufio.NewReader(c)
				text, err := answer.ReadString('\n')
				if err != nil {
					t.Fatal(err)
				}
				prefix, id, _ := strings.Cut(strings.TrimSuffix(text, " 0xe0=rack 7\n"), " 0x5=")
				if prefix != "v2 "+source+want {
					t.Fatalf("the backend was told %q, want %s%s", text, source, want)
				}
				ids[id] = source
				if rest, err := answer.ReadString('\n'); rest != "payload\n" || err != nil {
					t.Fatalf("%q, %v", rest, err)
				}
				held = append(held, c)
			}
			for _, c := range held {
				c.Close()
			}
			n, effective := s.metric("sluice_acceptor_handed_off_connections_total"), s.status().Listeners[0].Steering.Effective
			t.Logf("steering %s, %.0f were handed off", effective, n)
			if effective == "hand_off" && n == 0 {
				t.Error("no connection was handed off")
			}
			eventually(t, patience, "all lines", func() bool { return len(accessLines(t, path)) == len(held) })
			for _, l := range accessLines(t, path) {
				if ids[l.ID] != l.Client || l.BytesIn != len("payload\n") {
					t.Errorf("session %s: the log says %s and %d bytes, the backend was told %s", l.ID, l.Client, l.BytesIn, ids[l.ID])
				}
			}
			s.awaitIdle()
		})
	}
}

func v2Header(t *testing.T, source string, tlvs ...proxyproto.TLV) string {
	t.Helper()
	h := proxyproto.HeaderProxyFromAddrs(2, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(source)), net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:443")))
	if err := h.SetTLVs(tlvs); err != nil {
		t.Fatal(err)
	}
	b, err := h.Format()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Who is not believed, or says nothing right, is refused, counted by what is wrong, and
// told of once.
func TestProxyProtocolRefuses(t *testing.T) {
	app := teller(t)
	believed, stranger := netip.MustParseAddr("127.0.2.9"), netip.MustParseAddr("127.0.3.9")
	modes(t, func(t *testing.T, mode string) {
		c := startChanging(t, mode, fmt.Sprintf(proxyFile, "auto", "required", app.addr))
		try := func(from netip.Addr, text string) *net.TCPConn {
			conn := dialFrom(t, from, c.addr())
			_, _ = io.WriteString(conn, text) // it may be cut before
			return conn
		}
		strange := func(text string) { // the RST may come so soon that connect or a write has it
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: stranger.AsSlice()}, Timeout: patience}
			conn, err := d.Dial("tcp", c.addr())
			if err != nil {
				return
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(patience))
			_, _ = io.WriteString(conn, text)
			if n, err := io.Copy(io.Discard, conn); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("a stranger was told %d bytes, %v", n, err)
			}
		}
		for range 5 {
			expectReset(t, try(believed, "hello"))
		}
		expectReset(t, try(believed, "PROXY TCP4 1.2.3.4\r\n"))
		wrong := []byte(v2Header(t, "203.0.113.7:5000", proxyproto.TLV{Type: proxyproto.PP2_TYPE_CRC32C, Value: []byte("0000")}))
		expectReset(t, try(believed, string(wrong)))
		for range 3 {
			strange("PROXY TCP4 203.0.113.7 192.0.2.1 5000 443\r\n")
		}
		c.expectClosed(map[string]int{"proxy_missing": 5, "proxy_malformed": 2, "proxy_untrusted": 3})
		c.tells(`"source":"127.0.3.9"`, func(n int) bool { return n == 1 })
		c.tells(`"source":"127.0.2.9"`, func(n int) bool { return n == 1 })

		c.reload(fmt.Sprintf(proxyFile, "auto", "optional", app.addr))
		c.awaitPlan(3)
		for _, from := range []netip.Addr{believed, stranger} {
			conn := try(from, "hello, server\n")
			expect(t, conn, "v2 "+conn.LocalAddr().String()+" 0x5=")
		}
		conn := try(stranger, "PROXY TCP4 203.0.113.7 192.0.2.1 5000 443\r\nhello\n")
		answer := bufio.NewReader(conn)
		if _, err := answer.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		if got, err := answer.ReadString('\n'); !strings.HasPrefix(got, "PROXY TCP4 ") || err != nil {
			t.Errorf("a header of a stranger is no payload: %q, %v", got, err)
		}
	})
}

// A client that waits for a backend keeps what its header said, and one that has sent
// nothing but a header and its end has left.
func TestProxyHeaderWaitsForABackend(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		addr, begin := absent(t)
		file := strings.Replace(fmt.Sprintf(proxyFile, "auto", "required", addr), "proxy_protocol =", "wait_for_backend = \"1m\"\nproxy_protocol =", 1)
		s := sluice(t, mode, "-c", configFile(t, file))
		c, left := dial(t, s.addr()), dial(t, s.addr())
		send(t, c, v2Header(t, "203.0.113.7:5000")+"payload")
		s.awaitWaiting(1)
		send(t, left, v2Header(t, "203.0.113.8:5000"))
		if err := left.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		expectReset(t, left)
		begin(tell)
		answer := bufio.NewReader(c)
		if text, err := answer.ReadString('\n'); !strings.HasPrefix(text, "v2 203.0.113.7:5000 ") || err != nil {
			t.Errorf("the backend was told %q, %v", text, err)
		}
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(answer); string(text) != "payload" || err != nil {
			t.Errorf("and got %q, %v", text, err)
		}
		s.expectClosed(map[string]int{"client_eof": 2})
		s.awaitIdle()
	})
}

// HAProxy on both sides, with what it adds; nginx with version 1.
func TestProxyProtocolWithPeers(t *testing.T) {
	haproxy, nginx := need(t, "haproxy", "haproxy"), need(t, "nginx", "nginx")
	client := netip.MustParseAddr("127.0.7.7")
	modes(t, func(t *testing.T, mode string) {
		app, front, web, nginxFront := local(freePort(t)), local(freePort(t)), local(freePort(t)), local(freePort(t))
		listener := func(name, bind, pool string) string {
			return fmt.Sprintf("[listener.%s]\nbind = %q\npool = %q\nproxy_protocol = \"required\"\nproxy_protocol_from = [\"127.0.0.1\"]\n", name, bind, pool)
		}
		for i, backend := range []string{app, web} {
			dir := t.TempDir()
			sending := []string{"send_proxy = \"v2\"\nsend_proxy_tlvs = [\"pass\", \"crc32c\"]", "send_proxy = \"v1\""}[i]
			s := sluice(t, mode, "-c", configFile(t, listener("main", "127.0.0.1:0", "app")+
				fmt.Sprintf("[pool.app]\nbackends = [%q]\n%s\n[pool.app.health]\ncheck = \"http\"\nstart = \"down\"\ninterval = \"100ms\"\n", backend, sending)))
			if i == 0 {
				config := filepath.Join(dir, "haproxy.cfg")
				write(t, config, fmt.Sprintf(`
defaults
    timeout connect 10s
    timeout client 30s
    timeout server 30s
frontend in
    mode tcp
    unique-id-format %%{+X}o\ %%ci:%%cp
    bind %s
    default_backend sluice
backend sluice
    mode tcp
    server one %s send-proxy-v2 proxy-v2-options unique-id,crc32c
frontend app
    mode http
    bind %s accept-proxy
    http-request return content-type text/plain lf-string "%%[src] %%[fc_pp_unique_id]"
`, front, s.addr(), app))
				server(t, exec.Command(haproxy, "-db", "-f", config))
				awaitServer(t, front)
			} else {
				config := filepath.Join(dir, "nginx.conf")
				modules, _ := filepath.Glob("/usr/lib/nginx/modules/ngx_stream_module.so")
				load := ""
				if len(modules) > 0 {
					load = "load_module " + modules[0] + ";"
				}
				write(t, config, fmt.Sprintf(`%s
daemon off; master_process off; pid %[2]s/pid; error_log stderr;
events { worker_connections 100; }
stream { server { listen %[3]s; proxy_pass %[4]s; proxy_protocol on; } }
http { access_log off; client_body_temp_path %[2]s/a; proxy_temp_path %[2]s/b; fastcgi_temp_path %[2]s/c; uwsgi_temp_path %[2]s/d; scgi_temp_path %[2]s/e;
  server { listen %[5]s proxy_protocol; return 200 "$proxy_protocol_addr\n"; } }`, load, dir, nginxFront, s.addr(), web))
				server(t, exec.Command(nginx, "-c", config, "-p", dir, "-e", "stderr"))
				awaitServer(t, nginxFront)
			}
			eventually(t, patience, "the backend is up by checks that begin with a header", func() bool { return s.metric("sluice_backend_up") == 1 })
			to, want := front, client.String()+" "
			if i == 1 {
				to, want = nginxFront, client.String()+"\n"
			}
			c := dialFrom(t, client, to)
			if i == 0 { // its address in hex, as the format asks for
				want += fmt.Sprintf("7F000707:%04X", c.LocalAddr().(*net.TCPAddr).Port)
			}
			send(t, c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			answer, err := io.ReadAll(c)
			if _, body, _ := bytes.Cut(answer, []byte("\r\n\r\n")); err != nil || string(body) != want {
				t.Errorf("the backend saw %q, %v; want %q", body, err, want)
			}
			if n := s.metric("sluice_listener_closed_connections_total", `reason="proxy_malformed"`); n != 0 {
				t.Errorf("%.0f headers are malformed", n)
			}
		}
	})
}

// What a file says wrong of all this is told at once, with its place.
func TestPreambleFaults(t *testing.T) {
	path := configFile(t, `
[listener.main]
bind = "127.0.0.1:0"
pool = "app"
proxy_protocol = "required"
buffer = "8KiB"
[listener.main.route.a]
pool = "ap"
sni = ["*"]
[pool.app]
backends = ["127.0.0.1:1"]
send_proxy_tlvs = ["crc32c"]
`)
	s := launch(t, nil, "check", "-c", path)
	<-s.ended
	for _, want := range []string{
		":5:1: listener.main.proxy_protocol: needs proxy_protocol_from", ":6:1: listener.main.buffer: must be at least 16384",
		`:8:1: listener.main.route.a.pool: there is no [pool.ap]`, ":9:1: listener.main.route.a.sni: must be a list of host names",
		`:12:1: pool.app.send_proxy_tlvs: needs send_proxy = "v2"`,
	} {
		if !strings.Contains(s.logged(), want) {
			t.Errorf("check does not say %s:\n%s", want, s.logged())
		}
	}
}

// The client of the header is the one that may connect, or has had enough; the balancer in
// front may always, as far as it says of whom it speaks.
func TestLearntClientIsJudged(t *testing.T) {
	app := teller(t)
	modesTogether(t, func(t *testing.T, mode string) {
		text := strings.Replace(fmt.Sprintf(proxyFile, "auto", "optional", app.addr), "proxy_protocol =",
			`deny = ["203.0.113.0/24", "127.0.3.9"]
source_sessions = 2
proxy_protocol =`, 1)
		c := startChanging(t, mode, text)
		header := func(client string) string { return "PROXY TCP4 " + client + " 192.0.2.1 5000 443\r\nhello\n" }
		from := func(peer, sent string) *net.TCPConn {
			conn := dialFrom(t, netip.MustParseAddr(peer), c.addr())
			_, _ = io.WriteString(conn, sent) // it may be cut before
			return conn
		}
		expectReset(t, from("127.0.2.9", header("203.0.113.7")))
		c.expectClosed(map[string]int{"denied": 1})
		for _, client := range []string{"198.51.100.1", "198.51.100.1", "198.51.100.2"} {
			expect(t, from("127.0.2.9", header(client)), "v2 "+client+":5000 0x5=") // and it stays
		}
		expectReset(t, from("127.0.2.9", header("198.51.100.1")))
		c.expectClosed(map[string]int{"denied": 1, "source_sessions": 1})
		expect(t, from("127.0.2.9", header("198.51.100.2")), "v2 198.51.100.2:5000 0x5=")
		expect(t, from("127.0.2.9", "hello\n"), "v2 127.0.2.9:") // it speaks for itself
		if entersFrom(t, "127.0.3.9", c.addr()) {                // nobody asks whom it speaks of
			t.Error("a stranger who is denied came in")
		}
		c.expectClosed(map[string]int{"denied": 2, "source_sessions": 1})
		if n := c.metric("sluice_listener_rejected_connections_total"); n != 0 {
			t.Errorf("%.0f are counted twice", n)
		}
	})
}
