package pool

import "net/netip"

// A Transparent pool connects with the client's own address, and from an address of one
// family nothing gets to one of the other. So such a pool is picked from by family: each of
// the two has targets and turns of its own. A name with addresses of both families then serves
// both kinds of clients. Unix sockets, which have no family, are among both; a client without
// an address, as one that came by a unix socket, may have any target.
//
// A queue for full targets is one for all, and first come, first served: a client whose
// family has no place holds those of the other up behind it.

// Reaches says whether a session of client can go to t. The zero Addr is a client without one.
func (p *Pool) Reaches(client netip.Addr, t *Target) bool {
	if !p.Transparent || !client.IsValid() {
		return true
	}
	_, isUnix := UnixPath(t.Addr)
	return isUnix || client.Unmap().Is4() == t.Addr.Addr().Unmap().Is4()
}

// oneOfEach stands for the clients of each family, in the order of Picker.families.
var oneOfEach = [2]netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}

// of is the picker for a client.
func (k *Picker) of(client netip.Addr) *Picker {
	switch {
	case k.families[0] == nil || !client.IsValid():
		return k
	case client.Unmap().Is4():
		return k.families[0]
	}
	return k.families[1]
}
