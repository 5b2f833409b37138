package preamble

import (
	"encoding/binary"
	"net/netip"
	"strconv"
)

// Append1 writes a header of version 1. Addresses of two families, or none, are UNKNOWN.
func Append1(b []byte, source, dest netip.AddrPort) []byte {
	source, dest, family := sameFamily(source, dest)
	switch family {
	case 1:
		b = append(b, "PROXY TCP4 "...)
	case 2:
		b = append(b, "PROXY TCP6 "...)
	default:
		return append(b, "PROXY UNKNOWN\r\n"...)
	}
	b = source.Addr().AppendTo(b)
	b = append(b, ' ')
	b = dest.Addr().AppendTo(b)
	b = append(b, ' ')
	b = strconv.AppendUint(b, uint64(source.Port()), 10)
	b = append(b, ' ')
	b = strconv.AppendUint(b, uint64(dest.Port()), 10)
	return append(b, "\r\n"...)
}

// Append2 begins a header of version 2; AppendTLV may follow, and Finish2 must. Without
// addresses it is LOCAL: the connection is the sender's own.
func Append2(b []byte, source, dest netip.AddrPort) []byte {
	source, dest, family := sameFamily(source, dest)
	b = append(b, signature2...)
	if family == 0 {
		return append(b, 0x20, 0, 0, 0)
	}
	b = append(b, 0x21, family<<4|1, 0, 0)
	if family == 1 {
		s, d := source.Addr().As4(), dest.Addr().As4()
		b = append(append(b, s[:]...), d[:]...)
	} else {
		s, d := source.Addr().As16(), dest.Addr().As16()
		b = append(append(b, s[:]...), d[:]...)
	}
	b = binary.BigEndian.AppendUint16(b, source.Port())
	return binary.BigEndian.AppendUint16(b, dest.Port())
}

// sameFamily makes IPv6 of both addresses where one is; the family is 1 for IPv4, 2 for
// IPv6 and 0 where there is no address.
func sameFamily(source, dest netip.AddrPort) (s, d netip.AddrPort, family byte) {
	a, b := source.Addr().Unmap().WithZone(""), dest.Addr().Unmap().WithZone("")
	switch {
	case !a.IsValid() || !b.IsValid():
		return source, dest, 0
	case a.Is4() && b.Is4():
		family = 1
	default:
		a, b = netip.AddrFrom16(a.As16()), netip.AddrFrom16(b.As16())
		family = 2
	}
	return netip.AddrPortFrom(a, source.Port()), netip.AddrPortFrom(b, dest.Port()), family
}

// AppendTLV adds a TLV to a header that Append2 has begun.
func AppendTLV(b []byte, kind byte, value []byte) []byte {
	b = append(b, kind)
	b = binary.BigEndian.AppendUint16(b, uint16(len(value)))
	return append(b, value...)
}

// Finish2 completes the header that begins at b[0]: its length, and if it is asked for a
// checksum. It must not be longer than a length of 16 bits can say.
func Finish2(b []byte, checksum bool) []byte {
	if checksum {
		b = AppendTLV(b, TypeCRC32C, zeros[:])
	}
	binary.BigEndian.PutUint16(b[14:], uint16(len(b)-headSize))
	if checksum {
		sum := b[len(b)-4:]
		binary.BigEndian.PutUint32(sum, sumWithout(b, sum))
	}
	return b
}
