package discovery

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// server is a name server on loopback, over UDP and TCP, which does what a test says.
type server struct {
	t    *testing.T
	addr netip.AddrPort

	mu    sync.Mutex
	zone  map[string][]string // "A db.example." -> addresses; a missing entry of a known name is empty
	does  map[string]string   // the same key, or "*" -> "silent", "servfail", "refused", "nxdomain", "truncate", "formerr"
	ttl   uint32
	asked map[string]int
	tcp   int
}

func newServer(t *testing.T) *server {
	s := &server{t: t, zone: map[string][]string{}, does: map[string]string{}, ttl: 1, asked: map[string]int{}}
	var udp net.PacketConn
	var tcp net.Listener
	for range 20 { // the port must be free for both
		var err error
		if udp, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		if tcp, err = net.Listen("tcp", udp.LocalAddr().String()); err == nil {
			break
		}
		udp.Close()
	}
	if tcp == nil {
		t.Fatal("no port is free for UDP and TCP")
	}
	s.addr = udp.LocalAddr().(*net.UDPAddr).AddrPort()
	for _, d := range []*dns.Server{{PacketConn: udp, Handler: s}, {Listener: tcp, Handler: s}} {
		up := make(chan struct{})
		d.NotifyStartedFunc = func() { close(up) }
		go func() { _ = d.ActivateAndServe() }()
		<-up
		t.Cleanup(func() { _ = d.Shutdown() })
	}
	return s
}

// has sets what a name stands for: has("A db.example.", "10.0.0.1").
func (s *server) has(key string, values ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.zone[key] = values
}

func (s *server) hasNot(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.zone, key)
}

// do has questions answered in another way; "" = as the zone says.
func (s *server) do(key, what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.does[key] = what
}

func (s *server) count(key string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[key]
}

// ServeDNS implements dns.Handler.
func (s *server) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := strings.ToLower(q.Question[0].Name)
	key := dns.TypeToString[q.Question[0].Qtype] + " " + name
	s.asked[key]++
	_, overTCP := w.RemoteAddr().(*net.TCPAddr)
	if overTCP {
		s.tcp++
	}
	m := new(dns.Msg).SetReply(q)
	what := s.does[key]
	if what == "" {
		what = s.does["*"]
	}
	switch what {
	case "silent":
		return
	case "servfail":
		m.Rcode = dns.RcodeServerFailure
	case "refused":
		m.Rcode = dns.RcodeRefused
	case "nxdomain":
		m.Rcode = dns.RcodeNameError
	case "formerr":
		if q.IsEdns0() != nil {
			m.Rcode = dns.RcodeFormatError
			break
		}
		fallthrough
	default:
		s.answerLocked(m, key, name)
	}
	if what == "forged" { // one that guesses is faster
		forged := m.Copy()
		forged.Id++
		forged.Answer = nil
		_ = w.WriteMsg(forged)
	}
	if !overTCP {
		m.Truncate(udpSize)
		if what == "truncate" {
			m.Truncated = true
		}
	}
	_ = w.WriteMsg(m)
}

func (s *server) answerLocked(m *dns.Msg, key, name string) {
	known := false
	for _, kind := range []string{"A ", "AAAA ", "SRV ", "CNAME "} {
		_, is := s.zone[kind+name]
		known = known || is
	}
	if !known {
		m.Rcode = dns.RcodeNameError
		return
	}
	kind, _, _ := strings.Cut(key, " ")
	for range 8 {
		alias, is := s.zone["CNAME "+name]
		if !is {
			break
		}
		m.Answer = append(m.Answer, s.record(name, "CNAME", alias[0]))
		name = alias[0]
	}
	for _, v := range s.zone[kind+" "+name] {
		m.Answer = append(m.Answer, s.record(name, kind, v))
	}
}

func (s *server) record(name, kind, value string) dns.RR {
	rr, err := dns.NewRR(fmt.Sprintf("%s %d IN %s %s", name, s.ttl, kind, value))
	if err != nil {
		s.t.Error(err)
	}
	return rr
}

// world is a resolver with a machine of its own.
type world struct {
	t *testing.T
	*Resolver
	log *safeBuffer
}

// resolve runs a resolver that asks these servers. Its machine has no hosts file and no
// resolv.conf unless set says where.
func resolve(t *testing.T, set Settings, servers ...*server) world {
	for _, s := range servers {
		set.Servers = append(set.Servers, s.addr)
	}
	dir := t.TempDir()
	if set.resolvPath == "" {
		set.resolvPath = filepath.Join(dir, "resolv.conf")
	}
	if set.hostsPath == "" {
		set.hostsPath = filepath.Join(dir, "hosts")
	}
	if set.Timeout == 0 {
		set.Timeout = 5 * time.Second // far beyond what a busy machine takes
	}
	if set.TTLMin == 0 {
		set.TTLMin = 100 * time.Millisecond
	}
	if set.TTLMax == 0 {
		set.TTLMax = time.Hour
	}
	if set.Hold == 0 {
		set.Hold = time.Hour
	}
	set.Concurrency = max(set.Concurrency, 8)
	w := world{t: t, log: new(safeBuffer)}
	w.Resolver = NewResolver(set, slog.New(slog.NewTextHandler(w.log, nil)))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return w
}

func (w world) want(hosts ...string) {
	var names []Name
	for _, h := range hosts {
		names = append(names, Name{Host: h})
	}
	w.Want(names)
}

// stands waits until a name stands for what is wanted: the text of its targets.
func (w world) stands(host, want string) {
	w.t.Helper()
	w.eventually(func() string {
		if got := w.text(host); got != want {
			return fmt.Sprintf("%s is %q, want %q\n%s", host, got, want, w.log)
		}
		return ""
	})
}

// text has the targets in the order of their addresses' numbers.
func (w world) text(host string) string {
	var all []string
	for _, t := range w.Targets(host) {
		text := t.Addr.String()
		if t.Port != 0 {
			text = fmt.Sprintf("%s:%d weight=%d", t.Addr, t.Port, t.Weight)
		}
		if t.Backup {
			text += " backup"
		}
		all = append(all, text)
	}
	return strings.Join(all, ", ")
}

// eventually waits until nothing is wrong.
func (w world) eventually(wrong func() string) {
	w.t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		text := wrong()
		if text == "" {
			return
		}
		if time.Now().After(end) {
			w.t.Fatal(text)
		}
	}
}

// fact waits for facts of a name that are right.
func (w world) fact(host string, right func(Facts) bool) {
	w.t.Helper()
	w.eventually(func() string {
		facts, _ := w.Facts()
		for _, f := range facts {
			if f.Host == host && right(f) {
				return ""
			}
		}
		return fmt.Sprintf("%+v", facts)
	})
}

// ended waits until n lookups have ended in a way.
func (w world) ended(result Result, n uint64) {
	w.t.Helper()
	w.eventually(func() string {
		if _, counts := w.Facts(); counts[result] < n {
			return fmt.Sprint(counts)
		}
		return ""
	})
}

// tells waits until the log has a text.
func (w world) tells(text string) {
	w.t.Helper()
	w.eventually(func() string {
		if got := w.log.String(); !strings.Contains(got, text) {
			return fmt.Sprintf("%q is not in %s", text, got)
		}
		return ""
	})
}

func replace(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// safeBuffer is a log that is read while it is written.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
