package preamble

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	proxyproto "github.com/pires/go-proxyproto"
)

var (
	source4, dest4 = netip.MustParseAddrPort("192.0.2.7:5000"), netip.MustParseAddrPort("198.51.100.1:443")
	source6, dest6 = netip.MustParseAddrPort("[2001:db8::7]:5000"), netip.MustParseAddrPort("[2001:db8::1]:443")
)

// validHeaders are headers of every kind, by name.
func validHeaders() map[string][]byte {
	own := AppendTLV(nil, FirstOwn, []byte("rack 7"))
	unix := []byte(signature2 + "\x21\x31")
	unix = append(unix, 0, byte(unixSize+len(own)))
	unix = append(append(unix, make([]byte, unixSize)...), own...)
	all := map[string][]byte{
		"v1 tcp4":          []byte("PROXY TCP4 192.0.2.7 198.51.100.1 5000 443\r\n"),
		"v1 tcp6":          []byte("PROXY TCP6 2001:db8::7 2001:db8::1 5000 443\r\n"),
		"v1 longest":       []byte("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe 65535 65535\r\n"),
		"v1 unknown":       []byte("PROXY UNKNOWN\r\n"),
		"v1 unknown, more": []byte("PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"),
		"v2 tcp4":          Finish2(Append2(nil, source4, dest4), false),
		"v2 tcp6":          Finish2(Append2(nil, source6, dest6), false),
		"v2 local":         Finish2(Append2(nil, netip.AddrPort{}, netip.AddrPort{}), false),
		"v2 unspecified":   []byte(signature2 + "\x21\x00\x00\x05hello"),
		"v2 unix":          unix,
		"v2 checksum":      Finish2(AppendTLV(Append2(nil, source4, dest4), TypeAuthority, []byte("a.example")), true),
		"v2 large":         Finish2(AppendTLV(Append2(nil, source6, dest6), TypeNoop, make([]byte, Max-headSize-36-3)), false),
	}
	return all
}

// proxyVerdicts checks that a verdict, once there is one, is the same for all longer
// prefixes: so it does not matter in how many segments they come. It returns the prefix
// for which there first is one.
func proxyVerdicts(t *testing.T, b []byte) int {
	t.Helper()
	first := -1
	var found Header
	var fault error
	for n := range len(b) + 1 {
		h, need, err := ParseProxy(slices.Clip(bytes.Clone(b[:n])))
		switch {
		case first < 0 && need == 0:
			first, found, fault = n, h, err
		case first >= 0 && (need > 0 || err != fault || h.Len != found.Len || h.Source != found.Source || h.Dest != found.Dest || !bytes.Equal(h.TLVs, found.TLVs)):
			t.Fatalf("%q is %+v, %d, %v with %d bytes, and was %+v, %v with %d", b, h, need, err, n, found, fault, first)
		case need > 0 && (err != nil || n+need > Max):
			t.Fatalf("%q needs %d more and is %v", b[:n], need, err)
		}
	}
	return first
}

func TestValidHeaders(t *testing.T) {
	for name, b := range validHeaders() {
		h, need, err := ParseProxy(append(bytes.Clone(b), "payload"...))
		if need != 0 || err != nil || h.Len != len(b) {
			t.Errorf("%s: %+v, %d, %v; want a header of %d bytes", name, h, need, err, len(b))
			continue
		}
		if len(b) < 1000 {
			if n := proxyVerdicts(t, append(bytes.Clone(b), 'x')); n != len(b) {
				t.Errorf("%s: found with %d bytes, want %d", name, n, len(b))
			}
		}
		agree(t, b, h)
	}
}

// agree compares what is found with what another parser finds. That one takes no more
// than 4 KiB, and of those without addresses only some.
func agree(t *testing.T, b []byte, h Header) {
	t.Helper()
	if len(b) > 4096 || h.Version == 2 && h.Local {
		return
	}
	other, err := proxyproto.Read(bufio.NewReaderSize(bytes.NewReader(b), 1<<17))
	if err != nil {
		t.Errorf("%.200q is %v to %v, and to go-proxyproto %v", b, h.Source, h.Dest, err)
		return
	}
	if int(other.Version) != h.Version {
		t.Errorf("%q: version %d, and to go-proxyproto %d", b, h.Version, other.Version)
	}
	if h.Local || !h.Source.IsValid() {
		return
	}
	source, dest := addrPort(other.SourceAddr), addrPort(other.DestinationAddr)
	if source != h.Source || dest != h.Dest {
		t.Errorf("%q: %v to %v, and to go-proxyproto %v to %v", b, h.Source, h.Dest, source, dest)
	}
	theirs, err := other.TLVs()
	if err != nil {
		t.Errorf("%q: to go-proxyproto %v", b, err)
	}
	for rest := h.TLVs; len(rest) > 0; theirs = theirs[1:] {
		kind, value, after, _ := NextTLV(rest)
		if kind == TypeNoop {
			value = nil // go-proxyproto leaves out what pads
		}
		if rest = after; len(theirs) == 0 || byte(theirs[0].Type) != kind || !bytes.Equal(theirs[0].Value, value) {
			t.Errorf("%q: TLV %#x is %q, and to go-proxyproto %v", b, kind, value, theirs)
			return
		}
	}
}

func addrPort(a net.Addr) netip.AddrPort {
	if udp, is := a.(*net.UDPAddr); is {
		return unmapped(udp.AddrPort())
	}
	if tcp, is := a.(*net.TCPAddr); is {
		return unmapped(tcp.AddrPort())
	}
	return netip.AddrPort{}
}

func unmapped(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// What another writer writes is read, and the other way round (see agree).
func TestHeadersOfAnother(t *testing.T) {
	for _, version := range []byte{1, 2} {
		for _, ends := range [][2]netip.AddrPort{{source4, dest4}, {source6, dest6}} {
			made := proxyproto.HeaderProxyFromAddrs(version, net.TCPAddrFromAddrPort(ends[0]), net.TCPAddrFromAddrPort(ends[1]))
			b, err := made.Format()
			if err != nil {
				t.Fatal(err)
			}
			h, need, err := ParseProxy(b)
			if need != 0 || err != nil || h.Source != ends[0] || h.Dest != ends[1] || h.Len != len(b) {
				t.Errorf("version %d: %+v, %d, %v", version, h, need, err)
			}
			own := Append1(nil, ends[0], ends[1])
			if version == 2 {
				own = Finish2(Append2(nil, ends[0], ends[1]), false)
			}
			if !bytes.Equal(own, b) {
				t.Errorf("version %d: wrote %q, go-proxyproto %q", version, own, b)
			}
		}
	}
}

func TestFamilies(t *testing.T) {
	mapped := netip.MustParseAddrPort("[::ffff:192.0.2.7]:5000")
	zone := netip.MustParseAddrPort("[fe80::1%eth0]:5000")
	for _, c := range []struct {
		source, dest netip.AddrPort
		want         string
	}{
		{mapped, dest4, "PROXY TCP4 192.0.2.7 198.51.100.1 5000 443\r\n"},
		{source4, dest6, "PROXY TCP6 ::ffff:192.0.2.7 2001:db8::1 5000 443\r\n"},
		{zone, dest6, "PROXY TCP6 fe80::1 2001:db8::1 5000 443\r\n"},
		{netip.AddrPort{}, dest6, "PROXY UNKNOWN\r\n"},
	} {
		if got := Append1(nil, c.source, c.dest); string(got) != c.want {
			t.Errorf("%v to %v: %q, want %q", c.source, c.dest, got, c.want)
		}
		b := Finish2(Append2(nil, c.source, c.dest), true)
		h, need, err := ParseProxy(b)
		if need != 0 || err != nil || h.Source.Addr() != c.source.Addr().Unmap().WithZone("") {
			t.Errorf("%v to %v: read %+v, %d, %v", c.source, c.dest, h, need, err)
		}
	}
}

// The checksum is that of the specification: RFC 3720, B.4 has the values.
func TestChecksumIsCRC32C(t *testing.T) {
	if got := sumWithout(make([]byte, 32), make([]byte, 32)[:4]); got != 0x8a9136aa {
		t.Errorf("of 32 zeros: %#x, want 0x8a9136aa", got)
	}
}

func TestBadHeaders(t *testing.T) {
	v2 := func(rest string) string { return signature2 + rest }
	right := Finish2(AppendTLV(Append2(nil, source4, dest4), FirstOwn, []byte("own")), true)
	wrong := bytes.Clone(right)
	wrong[20] ^= 1
	for text, want := range map[string]Fault{
		"GET / HTTP/1.1\r\n": FaultMissing,
		"\x16\x03\x01":       FaultMissing,
		"PROXX":              FaultMissing,
		"\r\n\r\nx":          FaultMissing,
		"PROXY TCP4 192.0.2.7 198.51.100.1 5000 443\n": FaultSyntax,
		"PROXY \n":       FaultSyntax,
		"PROXY \r\n":     FaultSyntax,
		"PROXY TCP4\r\n": FaultSyntax,
		"PROXY TCP5 192.0.2.7 198.51.100.1 5000 443\r\n":   FaultSyntax,
		"PROXY TCP4 192.0.2.7 198.51.100.1 5000\r\n":       FaultSyntax,
		"PROXY TCP4 192.0.2.7 198.51.100.1 5000 443 \r\n":  FaultAddress,
		"PROXY TCP4 192.0.2.7  198.51.100.1 5000 443\r\n":  FaultAddress,
		"PROXY TCP4 192.0.2.07 198.51.100.1 5000 443\r\n":  FaultAddress,
		"PROXY TCP4 192.0.2.7 198.51.100.1 65536 443\r\n":  FaultAddress,
		"PROXY TCP4 192.0.2.7 198.51.100.1 05000 443\r\n":  FaultAddress,
		"PROXY TCP4 192.0.2.7 198.51.100.1 -5 443\r\n":     FaultAddress,
		"PROXY TCP4 2001:db8::7 2001:db8::1 5000 443\r\n":  FaultAddress,
		"PROXY TCP6 192.0.2.7 198.51.100.1 5000 443\r\n":   FaultAddress,
		"PROXY TCP6 fe80::1%eth0 2001:db8::1 5000 443\r\n": FaultAddress,
		"PROXY TCP4 " + strings.Repeat("1", maxLine):       FaultSyntax,
		"PROXY UNKNOWN " + strings.Repeat("1", maxLine):    FaultSyntax,
		v2("\x11"):             FaultSyntax,
		v2("\x22"):             FaultSyntax,
		v2("\x21\x41"):         FaultSyntax,
		v2("\x21\x10"):         FaultSyntax,
		v2("\x21\x01"):         FaultSyntax,
		v2("\x21\x13"):         FaultSyntax,
		v2("\x21\x11\x40\x00"): FaultTooLong,
		v2("\x21\x11\x00\x0b" + strings.Repeat("x", 11)):                 FaultAddress,
		v2("\x21\x21\x00\x23" + strings.Repeat("x", 35)):                 FaultAddress,
		v2("\x21\x31\x00\xd7" + strings.Repeat("x", 215)):                FaultAddress,
		v2("\x21\x11\x00\x0d" + strings.Repeat("x", 13)):                 FaultTLV,
		v2("\x21\x11\x00\x10" + strings.Repeat("\x00", 14) + "\x00\x02"): FaultTLV,
		string(wrong): FaultChecksum,
		string(Finish2(AppendTLV(Append2(nil, source4, dest4), TypeCRC32C, []byte("abc")), false)):                 FaultTLV,
		string(Finish2(AppendTLV(Append2(nil, source4, dest4), TypeCRC32C, zeros[:]), true)):                       FaultTLV,
		string(Finish2(AppendTLV(Append2(nil, source4, dest4), TypeUniqueID, make([]byte, MaxUniqueID+1)), false)): FaultTLV,
	} {
		if _, need, err := ParseProxy([]byte(text)); need != 0 || err != want {
			t.Errorf("%q: %d, %v; want %v", text, need, err, want)
		}
		proxyVerdicts(t, []byte(text+"more"))
	}
	if _, _, err := ParseProxy(right); err != nil {
		t.Errorf("right checksum: %v", err)
	}
	if !errors.Is(error(FaultTLV), FaultTLV) || NumFaults.Error() != "unknown fault" {
		t.Error("a fault is not itself")
	}
}

// A header as the balancers of AWS send it: a checksum and a TLV of their own.
func TestCapturedHeader(t *testing.T) {
	b, err := hex.DecodeString("0d0a0d0a000d0a515549540a" + "2111" + "0054" + "ac1f0798" + "ac1f0a51" + "cb1a" + "01bb" +
		"03000400000000" + "ea0017" + "01" + "767063652d30383939643330666639356266633362")
	if err != nil {
		t.Fatal(err)
	}
	b[15], b[37] = byte(len(b)-headSize), byte(len(b)-38)
	sum := sumWithout(b, b[31:35])
	b[31], b[32], b[33], b[34] = byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum)
	h, need, err := ParseProxy(b)
	if err != nil || need != 0 || h.Source.String() != "172.31.7.152:51994" {
		t.Fatalf("%+v, %d, %v", h, need, err)
	}
	agree(t, b, h)
}

func FuzzParseProxy(f *testing.F) {
	for _, b := range validHeaders() {
		f.Add(b)
	}
	f.Add(Finish2(AppendTLV(Append2(nil, source4, dest4), TypeNoop, []byte("0000")), false))
	f.Add(Finish2(AppendTLV(Append2(nil, source4, dest4), TypeNoop, []byte("0000")), false))
	f.Add([]byte("PROXY TCP4 192.0.2.7 198.51.100.1 5000\r\n"))
	f.Add([]byte(signature2 + "\x21\x11\x00\x0d0123456789abc"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 600 {
			b = b[:600] // the prefixes of longer ones take too long
		}
		proxyVerdicts(t, b)
		if h, need, err := ParseProxy(b); need == 0 && err == nil {
			agree(t, b[:h.Len], h)
		}
	})
}

func BenchmarkParseProxy(b *testing.B) {
	for name, header := range validHeaders() {
		b.Run(strings.ReplaceAll(name, " ", "_"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				ParseProxy(header)
			}
		})
	}
}
