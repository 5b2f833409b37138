package pool

import (
	"encoding/json"
	"net/netip"
	"testing"

	"sluice/proxy/internal/sys"
)

// The address of a unix socket survives the way to a worker, package sys knows it, and
// source_hash tells two apart.
func TestUnixAddr(t *testing.T) {
	seen := map[[18]byte]string{}
	for _, path := range []string{"/run/app.sock", "@app", "/run/[a]:80%b", "/ä", "@::1"} {
		a := UnixAddr(path)
		text, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		var b netip.AddrPort
		if err := json.Unmarshal(text, &b); err != nil || a != b {
			t.Errorf("%s became %v, %v", text, b, err)
		}
		if got, is := UnixPath(b); !is || got != path || AddressText(b) != "unix:"+path {
			t.Errorf("%q is %q, %v, %q", path, got, is, AddressText(b))
		}
		if got, is := sys.UnixPath(b.Addr()); !is || got != path {
			t.Errorf("to sys %q is %q, %v", path, got, is)
		}
		key := keyOf(&Target{Addr: a})
		if other, twice := seen[key]; twice {
			t.Errorf("%q and %q have one key", path, other)
		}
		seen[key] = path
	}
	for _, text := range []string{"10.0.0.1:80", "[::1]:80", "[fe80::1%eth0]:80", "[::ffff:10.0.0.1]:80"} {
		if a := netip.MustParseAddrPort(text); AddressText(a) != text {
			t.Errorf("%s is %s", text, AddressText(a))
		}
		if _, is := sys.UnixPath(netip.MustParseAddrPort(text).Addr()); is {
			t.Errorf("%s is taken for a path", text)
		}
	}
}
