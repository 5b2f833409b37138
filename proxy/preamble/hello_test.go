package preamble

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// helloOf is the ClientHello that crypto/tls sends.
func helloOf(t testing.TB, c *tls.Config) []byte {
	t.Helper()
	client, server := net.Pipe()
	defer client.Close()
	c.InsecureSkipVerify = true // there is no answer
	go func() { _ = tls.Client(client, c).Handshake() }()
	_ = server.SetDeadline(time.Now().Add(10 * time.Second))
	head := make([]byte, recordHead)
	if _, err := io.ReadFull(server, head); err != nil {
		t.Fatal(err)
	}
	b := append(head, make([]byte, binary.BigEndian.Uint16(head[3:]))...)
	if _, err := io.ReadFull(server, b[recordHead:]); err != nil {
		t.Fatal(err)
	}
	server.Close()
	return b
}

// extension makes one of a ClientHello.
func extension(kind int, value string) string {
	return string([]byte{byte(kind >> 8), byte(kind), byte(len(value) >> 8), byte(len(value))}) + value
}

// serverName is the extension server_name.
func serverName(name string) string {
	n := len(name)
	return extension(extServerName, string([]byte{byte((n + 3) >> 8), byte(n + 3), 0, byte(n >> 8), byte(n)})+name)
}

func alpn(protocols ...string) string {
	list := ""
	for _, p := range protocols {
		list += string([]byte{byte(len(p))}) + p
	}
	return extension(extALPN, string([]byte{byte(len(list) >> 8), byte(len(list))})+list)
}

// messageWith is a ClientHello with extensions, without records.
func messageWith(extensions string) string {
	body := "\x03\x03" + strings.Repeat("r", 32) + "\x00" + "\x00\x04\x0a\x0a\x13\x01" + "\x01\x00"
	if extensions != "none" {
		body += string([]byte{byte(len(extensions) >> 8), byte(len(extensions))}) + extensions
	}
	return string([]byte{clientHello, 0, byte(len(body) >> 8), byte(len(body))}) + body
}

// inRecords cuts a message into records of at most size bytes.
func inRecords(message string, size int) []byte {
	var b []byte
	for part := range slices.Chunk([]byte(message), size) {
		b = append(b, recordHandshake, 3, 1, byte(len(part)>>8), byte(len(part)))
		b = append(b, part...)
	}
	return b
}

func hello(extensions string) []byte { return inRecords(messageWith(extensions), maxRecord) }

// helloVerdicts is proxyVerdicts for a ClientHello.
func helloVerdicts(t *testing.T, b []byte) int {
	t.Helper()
	first := -1
	var found Hello
	var fault error
	scratch := make([]byte, 0, Max)
	for n := range len(b) + 1 {
		h, need, err := ParseHello(slices.Clip(bytes.Clone(b[:n])), scratch)
		switch {
		case first < 0 && need == 0:
			first, found, fault = n, h, err
			found.ALPN = bytes.Clone(h.ALPN)
		case first >= 0 && (need > 0 || err != fault || h.TLS != found.TLS || h.name != found.name || h.ECH != found.ECH || !bytes.Equal(h.ALPN, found.ALPN)):
			t.Fatalf("%q is %+v, %d, %v with %d bytes, and was %+v, %v with %d", b, h, need, err, n, found, fault, first)
		case need > 0 && err != nil:
			t.Fatalf("%q needs %d more and is %v", b[:n], need, err)
		}
	}
	return first
}

// A ClientHello with a post-quantum key share is longer than a segment. It is read from
// any number of records.
func TestHelloOfGo(t *testing.T) {
	b := helloOf(t, &tls.Config{ServerName: "WWW.Example.COM", NextProtos: []string{"h2", "http/1.1"}})
	if len(b) < 1200 {
		t.Errorf("the ClientHello has %d bytes: no post-quantum key share?", len(b))
	}
	message := string(b[recordHead:])
	for _, size := range []int{maxRecord, 1400, 700, 3, 1} {
		b := inRecords(message, size)
		h, need, err := ParseHello(b, make([]byte, 0, Max))
		if need != 0 || err != nil || !h.TLS || string(h.Name()) != "www.example.com" || string(h.FirstALPN()) != "h2" || !h.OffersALPN("http/1.1") || h.OffersALPN("http") {
			t.Errorf("records of %d: %+v, %d, %v", size, h, need, err)
		}
		if n := helloVerdicts(t, append(b, "more"...)); n != len(b) {
			t.Errorf("records of %d: found with %d bytes of %d", size, n, len(b))
		}
	}
}

func TestHellos(t *testing.T) {
	grease := extension(0x0a0a, "") + extension(0xfafa, "x")
	for name, c := range map[string]struct {
		b        []byte
		name     string
		alpn     string
		tls, ech bool
	}{
		"plain":            {b: hello(serverName("a.example")), name: "a.example", tls: true},
		"grease":           {b: hello(grease + serverName("a.example") + alpn("\x0a\x0a", "h2") + grease), name: "a.example", alpn: "\x0a\x0a", tls: true},
		"trailing dot":     {b: hello(serverName("A.Example.")), name: "a.example", tls: true},
		"no name":          {b: hello(alpn("h2")), alpn: "h2", tls: true},
		"no extensions":    {b: hello("none"), tls: true},
		"empty extensions": {b: hello(""), tls: true},
		"encrypted":        {b: hello(extension(extECH, strings.Repeat("e", 300)) + serverName("public.example")), name: "public.example", tls: true, ech: true},
		"longest name":     {b: hello(serverName(strings.Repeat("a", maxName))), name: strings.Repeat("a", maxName), tls: true},
		"more behind it":   {b: append(hello(serverName("a.example")), "\x16\x03\x03\x00\x01x"...), name: "a.example", tls: true},
		"a second message": {b: inRecords(messageWith(serverName("a.example"))+"\x02\x00", maxRecord), name: "a.example", tls: true},
		"SSL 2.0":          {b: []byte("\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10")},
		"HTTP":             {b: []byte("GET / HTTP/1.1\r\n")},
		"PostgreSQL":       {b: []byte("\x00\x00\x00\x08\x04\xd2\x16\x2f")},
		"one byte of it":   {b: []byte("\x16\x02")},
	} {
		h, need, err := ParseHello(c.b, make([]byte, 0, Max))
		if need != 0 || err != nil || h.TLS != c.tls || h.ECH != c.ech || string(h.Name()) != c.name || string(h.FirstALPN()) != c.alpn {
			t.Errorf("%s: %+v, %d, %v", name, h, need, err)
		}
		helloVerdicts(t, c.b)
	}
}

func TestBadHellos(t *testing.T) {
	twice := serverName("a.example") + serverName("b.example")
	long := []byte("\x16\x03\x01\x40\x00\x01\x00\x40\x00")
	for name, c := range map[string]struct {
		b    []byte
		want Fault
	}{
		"another message":   {[]byte("\x16\x03\x01\x00\x05\x02"), FaultHello},
		"an empty record":   {[]byte("\x16\x03\x01\x00\x00"), FaultHello},
		"a long record":     {[]byte("\x16\x03\x01\x40\x01"), FaultHello},
		"another record":    {append(inRecords(messageWith(""), 10)[:15], 23), FaultHello},
		"too long":          {long, FaultTooLong},
		"two names":         {hello(twice), FaultHello},
		"two ALPN":          {hello(alpn("a") + alpn("b")), FaultHello},
		"an empty name":     {hello(serverName("")), FaultHello},
		"only a dot":        {hello(serverName(".")), FaultHello},
		"a blank":           {hello(serverName("a b")), FaultHello},
		"a NUL":             {hello(serverName("a\x00b")), FaultHello},
		"a long name":       {hello(serverName(strings.Repeat("a", maxName+1))), FaultHello},
		"an empty list":     {hello(extension(extServerName, "")), FaultHello},
		"an empty ALPN":     {hello(alpn("")), FaultHello},
		"no ALPN":           {hello(alpn()), FaultHello},
		"ALPN with more":    {hello(extension(extALPN, "\x00\x03\x02h2x")), FaultHello},
		"a short extension": {hello("\x00\x17\x00\x05abc"), FaultHello},
		"half an extension": {hello("\x00\x17\x00"), FaultHello},
		"more behind":       {inRecords("\x01\x00\x00\x2f"+messageWith("")[4:]+"xx", maxRecord)[:5+4+47], FaultHello},
		"nothing in it":     {inRecords("\x01\x00\x00\x00", maxRecord), FaultHello},
	} {
		if _, need, err := ParseHello(c.b, make([]byte, 0, Max)); need != 0 || err != c.want {
			t.Errorf("%s: %d, %v; want %v", name, need, err, c.want)
		}
		helloVerdicts(t, c.b)
	}
}

// Nothing is allocated, however it comes.
func TestParsingAllocatesNothing(t *testing.T) {
	scratch := make([]byte, 0, Max)
	header, line := validHeaders()["v2 checksum"], validHeaders()["v1 longest"]
	whole, parts := hello(serverName("a.example")+alpn("h2")), inRecords(messageWith(serverName("a.example")), 7)
	if n := testing.AllocsPerRun(100, func() {
		ParseProxy(header)
		ParseProxy(line)
		ParseHello(whole, scratch)
		ParseHello(parts, scratch)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzParseHello(f *testing.F) {
	f.Add(hello(serverName("a.example") + alpn("h2", "http/1.1")))
	f.Add(inRecords(messageWith(serverName("a.example")), 9))
	f.Add(hello(extension(extECH, "ech") + serverName("A.example.")))
	f.Add(hello("none"))
	f.Add([]byte("\x80\x2e\x01\x03\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 600 {
			b = b[:600]
		}
		helloVerdicts(t, b)
		// Cut into records anew, a hello is the same.
		if h, need, err := ParseHello(b, nil); need == 0 && err == nil && h.TLS && len(b) > recordHead+messageHead {
			size := messageHead + int(b[6])<<16 + int(b[7])<<8 + int(b[8])
			if end := recordHead + size; end <= len(b) && int(binary.BigEndian.Uint16(b[3:])) >= size {
				again := inRecords(string(b[recordHead:end]), 1+rand.IntN(40))
				g, need, err := ParseHello(again, nil)
				if need != 0 || err != nil || g.name != h.name || !bytes.Equal(g.ALPN, h.ALPN) {
					t.Errorf("%q is %+v, and in records %+v, %d, %v", b, h, g, need, err)
				}
			}
		}
	})
}

func BenchmarkParseHello(b *testing.B) {
	scratch := make([]byte, 0, Max)
	for name, message := range map[string][]byte{
		"one_record": helloOf(b, &tls.Config{ServerName: "www.example.com", NextProtos: []string{"h2"}}),
		"many":       inRecords(messageWith(serverName("www.example.com")+extension(51, strings.Repeat("k", 1300))), 100),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				ParseHello(message, scratch)
			}
		})
	}
}
