package control

import (
	"bytes"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"sluice/cmd/internal/config"
	"sluice/cmd/internal/discovery"
	"sluice/metrics"
	"sluice/proxy"
)

func poolOf(backends ...string) config.Config {
	p := config.DefaultPool("p")
	for _, b := range backends {
		p.Backends = append(p.Backends, config.Backend{Address: b, Weight: 1})
	}
	c := config.Default()
	c.Pools = []config.Pool{p}
	return c
}

func TestNameOf(t *testing.T) {
	for _, test := range []struct {
		backend, host string
		port          uint16
		is            bool
	}{
		{"10.0.0.1:80", "", 0, false},
		{"[2001:db8::1]:443", "", 0, false},
		{"[fe80::1%eth0]:80", "", 0, false},
		{"DB.example:5432", "db.example", 5432, true},
		{"srv:_pg._tcp.example.com", "srv:_pg._tcp.example.com", 0, true},
	} {
		if host, port, is := nameOf(config.Backend{Address: test.backend}); host != test.host || port != test.port || is != test.is {
			t.Errorf("%s: %q, %d, %t", test.backend, host, port, is)
		}
	}
}

func TestResolverLeavesAddressesAlone(t *testing.T) {
	c := poolOf("10.0.0.1:80", "[2001:db8::1]:443", "localhost:9")
	var log bytes.Buffer
	r := newResolver(t.Context(), c.DNS, slog.New(slog.NewTextHandler(&log, nil)))
	defer r.stop()
	r.follow(c)
	r.await(t.Context())
	known := r.known(c)
	for _, address := range []string{"10.0.0.1:80", "[2001:db8::1]:443"} {
		if got := known[address]; len(got) != 1 || got[0] != (located{addr: netip.MustParseAddrPort(address)}) {
			t.Errorf("%s: %v", address, got)
		}
	}
	if len(known["localhost:9"]) == 0 {
		t.Error("localhost has no address")
	}
	if !known.equal(r.known(c)) || known.equal(addresses{}) {
		t.Error("equal is wrong")
	}
}

// silentServer takes questions and answers none.
func silentServer(t *testing.T) string {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn.LocalAddr().String()
}

// A name server that does not answer delays a start by resolveWithin, once for all names,
// and holds up no signal once the service is live.
func TestSilentNameServer(t *testing.T) {
	c := poolOf("a.example:1", "b.example:1", "10.0.0.1:80")
	c.DNS.Servers = []string{silentServer(t)}
	var log bytes.Buffer
	r := newResolver(t.Context(), c.DNS, slog.New(slog.NewTextHandler(&log, nil)))
	r.follow(c)
	begin := time.Now()
	r.await(t.Context())
	if took := time.Since(begin); took < resolveWithin || took > 2*resolveWithin {
		t.Errorf("took %v, want %v", took, resolveWithin)
	}
	signals := make(chan os.Signal, 1)
	board, err := metrics.NewBoard()
	if err != nil {
		t.Fatal(err)
	}
	defer board.Close()
	s := &service{Options: Options{Signals: signals, Log: slog.New(slog.DiscardHandler)}, resolver: r, state: &state{plan: &proxy.Plan{}}, board: board, ledger: newLedger(),
		files: discovery.NewFiles(t.Context(), slog.New(slog.DiscardHandler))}
	signals <- os.Interrupt
	begin = time.Now()
	s.conduct(t.Context())
	r.stop()
	if took := time.Since(begin); took > time.Second {
		t.Errorf("the signal was seen after %v", took)
	}
	if got := log.String(); strings.Contains(got, "resolve") {
		t.Errorf("the lookup was broken off, and logged is %s", got)
	}
}
