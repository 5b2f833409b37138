package preamble

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"net/netip"
	"unsafe"
)

// Header is a PROXY header, as https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt
// describes it.
type Header struct {
	Len     int            // bytes, of those that were parsed
	Version int            // 1 or 2
	Local   bool           // it names no addresses: LOCAL, UNKNOWN, unspecified. The connection's own hold
	Source  netip.AddrPort // the client; not valid if Local, or of a unix socket
	Dest    netip.AddrPort // where it connected to; the same
	TLVs    []byte         // version 2: whole ones, see NextTLV. They lie in what was parsed
}

const (
	signature1 = "PROXY "
	signature2 = "\r\n\r\n\x00\r\nQUIT\n"

	maxLine  = 107 // of version 1, its end included
	headSize = 16  // of version 2, before the addresses
	unixSize = 216 // two paths
)

// Types of TLVs.
const (
	TypeALPN      = 0x01
	TypeAuthority = 0x02
	TypeCRC32C    = 0x03
	TypeNoop      = 0x04
	TypeUniqueID  = 0x05
	FirstOwn      = 0xe0 // from here to LastOwn they mean what their users agree on
	LastOwn       = 0xf7
)

// MaxUniqueID is how long a unique id may be.
const MaxUniqueID = 128

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ParseProxy reads a PROXY header.
func ParseProxy(b []byte) (h Header, need int, err error) {
	switch {
	case len(b) == 0:
		return Header{}, 1, nil
	case beginsLike(b, signature2):
		return parse2(b)
	case beginsLike(b, signature1):
		return parse1(b)
	}
	return Header{}, 0, FaultMissing
}

// parse1 reads the line of version 1.
func parse1(b []byte) (h Header, need int, err error) {
	end := bytes.IndexByte(b[:min(len(b), maxLine)], '\n')
	switch {
	case end < 0 && len(b) >= maxLine:
		return Header{}, 0, FaultSyntax
	case end < 0:
		return Header{}, 1, nil
	case b[end-1] != '\r':
		return Header{}, 0, FaultSyntax
	}
	h = Header{Len: end + 1, Version: 1}
	line := b[len(signature1) : end-1]
	protocol, rest, more := bytes.Cut(line, []byte(" "))
	var v4 bool
	switch string(protocol) {
	case "UNKNOWN": // whatever follows means nothing
		h.Local = true
		return h, 0, nil
	case "TCP4":
		v4 = true
	case "TCP6":
	default:
		return Header{}, 0, FaultSyntax
	}
	var fields [4][]byte
	for i := range fields {
		if !more {
			return Header{}, 0, FaultSyntax
		}
		fields[i], rest, more = bytes.Cut(rest, []byte(" "))
	}
	source, ok1 := parseAddr(fields[0], v4)
	dest, ok2 := parseAddr(fields[1], v4)
	from, ok3 := parsePort(fields[2])
	to, ok4 := parsePort(fields[3])
	if more || !ok1 || !ok2 || !ok3 || !ok4 {
		return Header{}, 0, FaultAddress
	}
	h.Source, h.Dest = netip.AddrPortFrom(source, from), netip.AddrPortFrom(dest, to)
	return h, 0, nil
}

// parseAddr reads an address of one family; IPv4 in IPv6's clothes comes out as IPv4.
func parseAddr(text []byte, v4 bool) (netip.Addr, bool) {
	// A view, for a string would be a copy: only the error keeps it, and that goes at once.
	a, err := netip.ParseAddr(unsafe.String(unsafe.SliceData(text), len(text)))
	if err != nil || a.Is4() != v4 || a.Zone() != "" {
		return netip.Addr{}, false
	}
	return a.Unmap(), true
}

// parsePort reads a decimal number without leading zeros.
func parsePort(text []byte) (uint16, bool) {
	if len(text) == 0 || len(text) > 5 || text[0] == '0' && len(text) > 1 {
		return 0, false
	}
	n := 0
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int(c-'0')
	}
	return uint16(n), n <= 0xffff
}

// parse2 reads the binary header of version 2.
//
//	0          12        13       14      16        16+length
//	│ signature │ version │ family │ length │ addresses, TLVs │
//	             command   protocol
func parse2(b []byte) (h Header, need int, err error) {
	if len(b) > 12 && b[12] != 0x20 && b[12] != 0x21 {
		return Header{}, 0, FaultSyntax
	}
	if len(b) > 13 && b[12] == 0x21 && (b[13]>>4 > 3 || b[13]&0xf > 2 || (b[13]>>4 == 0) != (b[13]&0xf == 0)) {
		return Header{}, 0, FaultSyntax
	}
	switch {
	case len(b) < len(signature2): // it may still be something else
		return Header{}, 1, nil
	case len(b) < headSize:
		return Header{}, headSize - len(b), nil
	}
	size := headSize + int(binary.BigEndian.Uint16(b[14:]))
	if size > Max {
		return Header{}, 0, FaultTooLong
	}
	if len(b) < size {
		return Header{}, size - len(b), nil
	}
	b = b[:size]
	h = Header{Len: size, Version: 2}
	rest := b[headSize:]
	family := b[13] >> 4
	if b[12] == 0x20 || family == 0 {
		h.Local = true // the rest is to be skipped, whatever it is
		return h, 0, nil
	}
	switch ip := [...]int{1: 4, 2: 16, 3: 0}[family]; {
	case family == 3 && len(rest) >= unixSize:
		rest = rest[unixSize:]
	case family == 3 || len(rest) < 2*ip+4:
		return Header{}, 0, FaultAddress
	default:
		source, _ := netip.AddrFromSlice(rest[:ip])
		dest, _ := netip.AddrFromSlice(rest[ip : 2*ip])
		h.Source = netip.AddrPortFrom(source.Unmap(), binary.BigEndian.Uint16(rest[2*ip:]))
		h.Dest = netip.AddrPortFrom(dest.Unmap(), binary.BigEndian.Uint16(rest[2*ip+2:]))
		rest = rest[2*ip+4:]
	}
	h.TLVs = rest
	if err := checkTLVs(b, rest); err != nil {
		return Header{}, 0, err
	}
	return h, 0, nil
}

// checkTLVs says whether all are whole, and the checksum, if there is one, is right.
func checkTLVs(header, all []byte) error {
	sum := []byte(nil)
	for rest := all; len(rest) > 0; {
		kind, value, after, ok := NextTLV(rest)
		switch {
		case !ok, kind == TypeUniqueID && len(value) > MaxUniqueID:
			return FaultTLV
		case kind == TypeCRC32C && (len(value) != 4 || sum != nil):
			return FaultTLV
		case kind == TypeCRC32C:
			sum = value
		}
		rest = after
	}
	if sum != nil && sumWithout(header, sum) != binary.BigEndian.Uint32(sum) {
		return FaultChecksum
	}
	return nil
}

// sumWithout is the CRC32c of a header as if the four bytes of sum, which lie in it, were
// zero.
func sumWithout(header, sum []byte) uint32 {
	at := cap(header) - cap(sum)
	crc := crc32.Update(0, castagnoli, header[:at])
	crc = crc32.Update(crc, castagnoli, zeros[:])
	return crc32.Update(crc, castagnoli, header[at+4:])
}

var zeros [4]byte

// NextTLV takes the first of some TLVs off; ok is false where none is whole.
func NextTLV(b []byte) (kind byte, value, rest []byte, ok bool) {
	if len(b) < 3 {
		return 0, nil, nil, false
	}
	end := 3 + int(binary.BigEndian.Uint16(b[1:]))
	if len(b) < end {
		return 0, nil, nil, false
	}
	return b[0], b[3:end], b[end:], true
}
