package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
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

// The client that a header names is the one that the access log and the backend see,
// whichever acceptor gets the connection.
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
			if handOff { // a user that may not load a program passes connections on
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

// A client that is not believed, or says nothing right, is refused, counted by what is
// wrong, and logged once.
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

// The client of the header is the one that may connect, or has had enough; the balancer in
// front may always, as far as it names its client.
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
		if entersFrom(t, "127.0.3.9", c.addr()) {                // it is not asked for its client
			t.Error("a stranger who is denied came in")
		}
		c.expectClosed(map[string]int{"denied": 2, "source_sessions": 1})
		if n := c.metric("sluice_listener_rejected_connections_total"); n != 0 {
			t.Errorf("%.0f are counted twice", n)
		}
	})
}
