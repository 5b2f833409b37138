package pool

import (
	"crypto/sha256"
	"net/netip"
	"strings"
)

// A target may be a unix socket. Its Addr is then one that no network has: the path, or
// the abstract name behind an @, is the zone, behind the word that package sys looks for;
// the rest is a hash of it, so that source_hash tells such targets apart.
const unixZone = "unix:"

// UnixAddr is the Addr of a target that is a unix socket. path is not empty.
func UnixAddr(path string) netip.AddrPort {
	sum := sha256.Sum256([]byte(path))
	sum[0] = 0xfd // none of the addresses that mean something of their own
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte(sum[:16])).WithZone(unixZone+path), 0)
}

// UnixPath is the path that UnixAddr was given; is = false if an address is of a network.
func UnixPath(a netip.AddrPort) (path string, is bool) {
	return strings.CutPrefix(a.Addr().Zone(), unixZone)
}

// AddressText is how people read the address of a target: IP:PORT, or unix:PATH.
func AddressText(a netip.AddrPort) string {
	if path, is := UnixPath(a); is {
		return unixZone + path
	}
	return a.String()
}
