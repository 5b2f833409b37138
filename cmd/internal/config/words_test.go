package config

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestExpand(t *testing.T) {
	vars := Environment{"A": "1", "B_2": "$A ${A}"}
	value := func(name string) string { return vars[name] }
	for _, test := range []struct{ text, want string }{
		{"", ""},
		{"plain", "plain"},
		{"${A}", "1"},
		{"<${A}${A}>", "<11>"},
		{"${B_2}", "$A ${A}"}, // values are not expanded again
		{"${A:-x}", "1"},
		{"${C:-}", ""},
		{"${C:-a:-b\nc}", "a:-b\nc"},
		{"${A:?no}", "1"},
		{"$$", "$"},
		{"$${A}", "${A}"},
		{"$$${A}", "$1"},
		{"$A $", "$A $"},
	} {
		if got, err := expand(test.text, value); err != nil || got != test.want {
			t.Errorf("expand(%q) = %q, %v, want %q", test.text, got, err, test.want)
		}
	}
	for _, text := range []string{"${C}", "${C:?}", "${C:?why}", "${", "${}", "${A", "${A-x}", "${1}", "${A B}", "${C:-${A}}"} {
		if got, err := expand(text, value); err == nil {
			t.Errorf("expand(%q) = %q, want a fault", text, got)
		}
	}
}

// Doubling every $ protects any text.
func TestExpandEscaped(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[a${}:]*`).Draw(t, "text")
		if got, err := expand(strings.ReplaceAll(text, "$", "$$"), func(string) string { return "" }); err != nil || got != text {
			t.Fatalf("%q became %q, %v", text, got, err)
		}
	})
}

func TestSlips(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"bind", "bind", 0}, {"bnd", "bind", 1}, {"bindd", "bind", 1}, {"bond", "bind", 1},
		{"bnid", "bind", 1}, {"", "bind", 4}, {"wieght", "weight", 1}, {"pick", "bind", 3}, {"abcd", "badc", 2},
	} {
		if got := slips(test.a, test.b); got != test.want {
			t.Errorf("slips(%q, %q) = %d, want %d", test.a, test.b, got, test.want)
		}
	}
}

// One slip is found and is worth one, whichever it is.
func TestOneSlip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := rapid.SampledFrom(options).Draw(t, "option")
		key := o.path[strings.LastIndex(o.path, ".")+1:]
		i := rapid.IntRange(0, len(key)-2).Draw(t, "at")
		bad := rapid.SampledFrom([]string{
			key[:i] + key[i+1:],
			key[:i] + "z" + key[i:],
			key[:i] + "z" + key[i+1:],
			key[:i] + key[i+1:i+2] + key[i:i+1] + key[i+2:],
		}).Draw(t, "bad")
		if got := slips(bad, key); got > 1 {
			t.Fatalf("slips(%q, %q) = %d", bad, key, got)
		}
		if nearest(bad, []string{"xxxxxxxx", key}) != key {
			t.Fatalf("%q is not near %q", bad, key)
		}
	})
}

func TestNothingNear(t *testing.T) {
	for _, word := range []string{"", "x", "zz", "colour", "bibibi"} {
		if near := nearest(word, keysOf("listener.*")); near != "" {
			t.Errorf("%q is taken for %q", word, near)
		}
	}
}

func TestShort(t *testing.T) {
	for text, want := range map[string]string{
		"0s": "0s", "10s": "10s", "10m": "10m", "1h": "1h", "90s": "1m30s", "1h30m": "1h30m", "1h0m5s": "1h0m5s", "100ms": "100ms", "20m": "20m", "720h": "720h",
	} {
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := short(d); got != want {
			t.Errorf("%s is written %s, want %s", text, got, want)
		}
	}
}

func TestOverlaps(t *testing.T) {
	type bind struct {
		text string
		only bool // ipv6_only
	}
	for _, test := range []struct {
		a, b bind
		want bool
	}{
		{bind{":80", false}, bind{":80", false}, true},
		{bind{":80", false}, bind{":81", false}, false},
		{bind{":0", false}, bind{":0", false}, false},
		{bind{":80", false}, bind{"[::]:80", false}, true},
		{bind{":80", false}, bind{"0.0.0.0:80", false}, true},
		{bind{":80", true}, bind{"0.0.0.0:80", false}, false},
		{bind{"[::]:80", true}, bind{"10.0.0.1:80", false}, false},
		{bind{"[::]:80", true}, bind{"[::1]:80", false}, true},
		{bind{"0.0.0.0:80", false}, bind{"[::1]:80", false}, false},
		{bind{"0.0.0.0:80", false}, bind{"10.0.0.1:80", false}, true},
		{bind{"10.0.0.1:80", false}, bind{"10.0.0.1:80", false}, true},
		{bind{"10.0.0.1:80", false}, bind{"[::ffff:10.0.0.1]:80", false}, true},
		{bind{"10.0.0.1:80", false}, bind{"10.0.0.2:80", false}, false},
		{bind{"[fe80::1%eth0]:80", false}, bind{"[fe80::1%eth1]:80", false}, false},
	} {
		a, okA := newClaim("a", test.a.text, test.a.only)
		b, okB := newClaim("b", test.b.text, test.b.only)
		if got := okA && okB && a.overlaps(b); got != test.want {
			t.Errorf("%v and %v overlap: %v", test.a, test.b, got)
		}
		if okA && okB && a.overlaps(b) != b.overlaps(a) {
			t.Errorf("%v and %v overlap one way only", test.a, test.b)
		}
	}
}
