package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// nameServer answers for one service on this machine, on loopback, with a TTL of 1 s.
type nameServer struct {
	addr string

	mu    sync.Mutex
	ports []string // of the service; none = there is no such name
	fails bool
}

func startNameServer(t *testing.T) *nameServer {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &nameServer{addr: conn.LocalAddr().String()}
	d := &dns.Server{PacketConn: conn, Handler: s}
	up := make(chan struct{})
	d.NotifyStartedFunc = func() { close(up) }
	go func() { _ = d.ActivateAndServe() }()
	<-up
	t.Cleanup(func() { _ = d.Shutdown() })
	return s
}

// serves sets where the service is: the addresses of backends.
func (s *nameServer) serves(fails bool, addrs ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fails, s.ports = fails, nil
	for _, a := range addrs {
		s.ports = append(s.ports, a[strings.LastIndexByte(a, ':')+1:])
	}
}

// ServeDNS implements dns.Handler. AAAA is never answered.
func (s *nameServer) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := new(dns.Msg).SetReply(q)
	name := q.Question[0].Name
	add := func(format string, args ...any) {
		if rr, err := dns.NewRR(name + " 1 IN " + fmt.Sprintf(format, args...)); err == nil {
			m.Answer = append(m.Answer, rr)
		}
	}
	switch {
	case q.Question[0].Qtype == dns.TypeAAAA:
		return
	case s.fails:
		m.Rcode = dns.RcodeServerFailure
	case q.Question[0].Qtype == dns.TypeA:
		add("A 127.0.0.1")
	case len(s.ports) == 0:
		m.Rcode = dns.RcodeNameError
	default:
		for i, port := range s.ports {
			add("SRV %d 1 %s host.test.", i, port) // the first is the primary
		}
	}
	_ = w.WriteMsg(m)
}

// A service's backends follow its SRV records: they move, stay while name servers fail, and
// go when there is no such name. Sessions that run stay where they are.
func TestBackendsFollowTheirNames(t *testing.T) {
	t.Parallel()
	modesTogether(t, func(t *testing.T, mode string) {
		names, a, b := startNameServer(t), namer(t, 'a'), namer(t, 'b')
		held := startPeer(t, "", func(c *net.TCPConn) {
			defer c.Close()
			if _, err := c.Write([]byte{'h'}); err == nil {
				_, _ = io.Copy(c, c)
			}
		})
		names.serves(false, held.addr)
		s := sluice(t, mode, "-c", configFile(t, fmt.Sprintf("admin.ready = \"backend\"\n[dns]\nservers = [%q]\nttl_min = \"500ms\"\n", names.addr)+
			acceptorsTable(2, "auto")+listenerAt("main", "127.0.0.1:0", "app")+poolOf("app", []string{"srv:_app._tcp.test"})))
		c := dial(t, s.addr())
		if got := askName(t, c); got != 'h' {
			t.Fatalf("served by %c", got)
		}
		ask := func(what string) {
			t.Helper()
			if _, err := c.Write([]byte{'x'}); err != nil {
				t.Fatal(what, err)
			}
			if _, err := c.Read(make([]byte, 1)); err != nil {
				t.Fatal(what, err)
			}
		}
		ask("first")

		names.serves(false, a.addr, b.addr)
		eventually(t, patience, "it moves to the primary", func() bool { return servedBy(t, s.addr(), 'a') })
		names.serves(false, b.addr, a.addr)
		eventually(t, patience, "the backup becomes the primary", func() bool { return servedBy(t, s.addr(), 'b') })
		ask("after it moved")

		names.serves(true)
		eventually(t, patience, "its answer is stale", func() bool { return s.metric("sluice_dns_stale", `name="srv:_app._tcp.test"`) == 1 })
		if !servedBy(t, s.addr(), 'b') {
			t.Error("it is not served while name servers fail")
		}
		if got := s.metric("sluice_dns_lookups_total", `result="failure"`); got == 0 {
			t.Error("no lookup has failed")
		}

		names.serves(false)
		eventually(t, patience, "it has no backend", func() bool { return s.metric("sluice_dns_addresses", `name="srv:_app._tcp.test"`) == 0 })
		eventually(t, patience, "it is not ready", func() bool {
			status, text := s.get("/readyz")
			return status == http.StatusServiceUnavailable && strings.Contains(text, "no backend in pool app")
		})
		names.serves(false, a.addr)
		eventually(t, patience, "it is ready again", func() bool { status, _ := s.get("/readyz"); return status == http.StatusOK })
		eventually(t, patience, "it is served", func() bool { return servedBy(t, s.addr(), 'a') })
		ask("last")
	})
}
