package config

import (
	"net/netip"
	"strings"
	"testing"
)

// What is no loop: another port, another address, another family, a name.
func TestNoLoops(t *testing.T) {
	for bind, backend := range map[string]string{
		"127.0.0.1:8080": "127.0.0.1:8081",
		"127.0.0.2:8080": "127.0.0.1:8080",
		"[::1]:8080":     "127.0.0.1:8080",
		"0.0.0.0:8080":   "[::1]:8080",
		":8080":          "web.example:8080",
		":8081":          "localhost:8080",
		"127.0.0.1:8082": "198.51.100.7:8082",
		"127.0.0.1:0":    "127.0.0.1:8083",
	} {
		text := "[listener.web]\nbind = \"" + bind + "\"\npool = \"web\"\n[pool.web]\nbackends = [\"" + backend + "\"]\n"
		if _, err := Parse("f", []byte(text), nil); err != nil {
			t.Errorf("bind %s, backend %s: %v", bind, backend, err)
		}
	}
}

// A listener on all addresses is reached by each of the machine's own, which are asked
// for only where a port makes that possible.
func TestLoopByOwnAddress(t *testing.T) {
	own := netip.MustParseAddr("198.51.100.7")
	for backend, want := range map[string]struct{ faults, asked int }{
		"198.51.100.7:8080": {1, 1},
		"198.51.100.8:8080": {0, 1},
		"198.51.100.7:8081": {0, 0},
		"web.example:8080":  {0, 0},
	} {
		b := newBuilder(nil)
		b.config.Listeners = []Listener{{Name: "web", Bind: ":8080", Pool: "web"}}
		b.config.Pools = []Pool{{Name: "web", Backends: []Backend{{Address: backend, Weight: 1}}}}
		asked := 0
		b.checkLoops(func() ([]netip.Addr, bool) { asked++; return []netip.Addr{own}, true })
		if len(b.faults) != want.faults || asked != want.asked {
			t.Errorf("%s: %d faults, asked %d times, want %+v", backend, len(b.faults), asked, want)
		}
	}
}

// What is not here now is doubted, and no fault.
func TestDoubts(t *testing.T) {
	for _, test := range []struct{ source, backend, want string }{
		{"", "10.0.0.1:80", ""},
		{"127.0.0.9", "10.0.0.1:80", ""},
		{"203.0.113.9", "10.0.0.1:80", "pool.p.source: 203.0.113.9 is no address of this machine: until it is, no session of this pool gets a backend"},
		{"", "[fe80::1%nowhere0]:80", `pool.p.backends: [fe80::1%nowhere0]:80: this machine has no interface "nowhere0"`},
		{"", "[fe80::1%987654]:80", `pool.p.backends: [fe80::1%987654]:80: this machine has no interface number 987654`},
		{"", "[fe80::1%lo]:80", ""},
		{"", "[fe80::1]:80", `pool.p.backends: [fe80::1]:80: a link-local address needs its interface, such as fe80::1%eth0`},
	} {
		text := "[listener.web]\nbind = \":8080\"\npool = \"p\"\n[pool.p]\nsource = \"" + test.source + "\"\nbackends = [\"" + test.backend + "\"]\n"
		c, err := Parse("f", []byte(text), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(c.Doubts(), "\n"); got != test.want {
			t.Errorf("source %q, backend %s: doubts\n%s\nwant\n%s", test.source, test.backend, got, test.want)
		}
	}
}
