package preamble

import (
	"bytes"
	"slices"
	"testing"
)

const startup = "\x00\x00\x00\x17\x00\x03\x00\x00user\x00postgres\x00\x00"

// startVerdicts is proxyVerdicts for how a PostgreSQL client begins.
func startVerdicts(t *testing.T, b []byte) int {
	t.Helper()
	first := -1
	var found, before Start
	for n := range len(b) + 1 {
		s, need := ParsePostgres(slices.Clip(bytes.Clone(b[:n])))
		switch {
		case s.Len > n || s.Len != len(s.Answers)*requestSize || n > before.Len && s.Len < before.Len:
			t.Fatalf("%q is %+v, and was %+v", b[:n], s, before)
		case first < 0 && need == 0:
			first, found = n, s
		case first >= 0 && (need > 0 || s != found):
			t.Fatalf("%q is %+v, %d with %d bytes, and was %+v with %d", b, s, need, n, found, first)
		}
		before = s
	}
	return first
}

func TestPostgresStarts(t *testing.T) {
	hello := string(hello(serverName("a.example")))
	for name, c := range map[string]struct {
		b       string
		want    Start
		decided int // by so many bytes; -1 = not at all
	}{
		"TLS":                {SSLRequest + hello, Start{8, "S", true}, 8},
		"GSSAPI, then TLS":   {gssENCRequest + SSLRequest + hello, Start{16, "NS", true}, 16},
		"GSSAPI, then plain": {gssENCRequest + startup, Start{8, "N", false}, 12},
		"GSSAPI twice":       {gssENCRequest + gssENCRequest, Start{8, "N", false}, 16},
		"GSSAPI alone":       {gssENCRequest, Start{8, "N", false}, -1},
		"TLS twice":          {SSLRequest + SSLRequest, Start{8, "S", true}, 8},
		"plain":              {startup, Start{}, 4},
		"cancel":             {"\x00\x00\x00\x10\x04\xd2\x16\x2e\x00\x00\x00\x01\x00\x00\x00\x02", Start{}, 4},
		"an unknown request": {requestHead + "\x31", Start{}, 8},
		"TLS at once":        {hello, Start{}, 1},
		"HTTP":               {"GET / HTTP/1.1\r\n", Start{}, 1},
		"half a request":     {SSLRequest[:7], Start{}, -1},
		"nothing":            {"", Start{}, -1},
	} {
		if s, _ := ParsePostgres([]byte(c.b)); s != c.want {
			t.Errorf("%s: %+v, want %+v", name, s, c.want)
		}
		if n := startVerdicts(t, []byte(c.b)); n != c.decided {
			t.Errorf("%s: decided with %d bytes, want %d", name, n, c.decided)
		}
	}
	if n := testing.AllocsPerRun(100, func() { ParsePostgres([]byte(gssENCRequest + SSLRequest)) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzParsePostgres(f *testing.F) {
	for _, b := range []string{SSLRequest, gssENCRequest + SSLRequest, gssENCRequest + startup, startup, requestHead} {
		f.Add([]byte(b))
	}
	f.Fuzz(func(t *testing.T, b []byte) { startVerdicts(t, b[:min(len(b), 100)]) })
}
