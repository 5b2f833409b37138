package access

import (
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// naive is what a Set should say, by looking at every prefix.
func naive(allow, deny []netip.Prefix, only bool, a netip.Addr) bool {
	longest, admitted := -1, !only
	for _, p := range allow {
		if p.Contains(a) && p.Bits() > longest {
			longest, admitted = p.Bits(), true
		}
	}
	for _, p := range deny {
		if p.Contains(a) && p.Bits() >= longest {
			longest, admitted = p.Bits(), false
		}
	}
	return admitted
}

// drawPrefix draws from few networks, so that prefixes lie in each other.
func drawPrefix(t *rapid.T) netip.Prefix {
	if rapid.Bool().Draw(t, "v6") {
		a := netip.AddrFrom16([16]byte{0xfd, byte(rapid.IntRange(0, 3).Draw(t, "a")), 15: byte(rapid.IntRange(0, 3).Draw(t, "b"))})
		return netip.PrefixFrom(a, rapid.SampledFrom([]int{0, 8, 15, 16, 64, 126, 127, 128}).Draw(t, "bits")).Masked()
	}
	a := netip.AddrFrom4([4]byte{10, byte(rapid.IntRange(0, 3).Draw(t, "a")), 0, byte(rapid.IntRange(0, 3).Draw(t, "b"))})
	return netip.PrefixFrom(a, rapid.SampledFrom([]int{0, 8, 15, 16, 24, 30, 31, 32}).Draw(t, "bits")).Masked()
}

// A Set and what comes out of its image say what looking at every prefix says.
func TestSetIsAsItsLists(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		allow, deny := rapid.SliceOfN(rapid.Custom(drawPrefix), 0, 8).Draw(t, "allow"), rapid.SliceOfN(rapid.Custom(drawPrefix), 0, 8).Draw(t, "deny")
		only := rapid.Bool().Draw(t, "only")
		s := New(allow, deny, only)
		image := s.Image()
		again, err := FromImage(image)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(again.Image(), image) {
			t.Fatal("the image of an image is another")
		}
		for range 20 {
			a := drawPrefix(t).Addr()
			want := naive(allow, deny, only, a)
			if s.Admits(a) != want || again.Admits(a) != want {
				t.Fatalf("%s: %t, by its image %t, want %t", a, s.Admits(a), again.Admits(a), want)
			}
		}
		if s.Admits(netip.Addr{}) == only {
			t.Fatal("nobody's address is not as others")
		}
	})
}

func TestParsePrefix(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.0/8": "10.0.0.0/8", "10.1.2.3": "10.1.2.3/32", "fd00::/8": "fd00::/8", "::1": "::1/128", "0.0.0.0/0": "0.0.0.0/0",
		"::ffff:10.0.0.1": "10.0.0.1/32", "::ffff:10.0.0.0/104": "10.0.0.0/8",
		"": "", "ten": "", "10.0.0.0/33": "", "10.0.0.1/8": "", "10.0.0": "", "fe80::1%eth0": "", "fe80::%eth0/10": "", "::ffff:0.0.0.0/8": "", "10.0.0.0/ 8": "",
	} {
		got, err := ParsePrefix(text)
		if (err != nil) != (want == "") || err == nil && got.String() != want {
			t.Errorf("%q: %v, %v, want %q", text, got, err, want)
		}
	}
}

func TestParseList(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.0/8\n\n  # all\r\n::1 # that\r\n": "[10.0.0.0/8 ::1/128]",
		"#\n":                            "[]",
		"":                               "is empty; if nobody is meant, write a line with a # only",
		"10.0.0.0/8\n10.0.0.0/1":         "line 2: does not end, so the file may be written half only",
		"10.0.0.0/8\n10.0.0.0/1\n":       `line 2: "10.0.0.0/1" has bits behind its length; the prefix is 0.0.0.0/1`,
		"10.0.0.0/8 10.0.0.1\n":          `line 1: "10.0.0.0/8 10.0.0.1" is neither an address nor a prefix such as 10.0.0.0/8`,
		strings.Repeat("x", 1000) + "\n": `line 1: "` + strings.Repeat("x", 80) + `" is neither an address nor a prefix such as 10.0.0.0/8`,
	} {
		list, err := ParseList([]byte(text))
		got := fmt.Sprint(list)
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

// Whatever a list is cut to, it is refused, or ends with the end of a line.
func FuzzParseList(f *testing.F) {
	f.Add([]byte("10.0.0.0/8\n::1 # x\n"))
	f.Add([]byte("::ffff:1.2.3.4/128\n"))
	f.Add([]byte("#\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := ParseList(text)
		if err == nil && text[len(text)-1] != '\n' {
			t.Fatal("half a line was taken")
		}
		for _, p := range list {
			if p != p.Masked() || !p.IsValid() || p.Addr().Is4In6() {
				t.Fatalf("%s", p)
			}
		}
	})
}

func FuzzFromImage(f *testing.F) {
	f.Add(New([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, []netip.Prefix{netip.MustParsePrefix("fd00::/8")}, true).Image())
	f.Fuzz(func(t *testing.T, image []byte) {
		if s, err := FromImage(image); err == nil {
			s.Admits(netip.MustParseAddr("10.0.0.1"))
		}
	})
}

// manyPrefixes are n that spread as lists of rude networks do.
func manyPrefixes(n int) []netip.Prefix {
	all := make([]netip.Prefix, n)
	for i := range all {
		x := uint32(i) * 2654435761
		all[i] = netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(x >> 24), byte(x >> 16), byte(x >> 8), byte(x)}), 20+i%13).Masked()
	}
	return all
}

// A look-up among 100,000 allocates nothing.
func TestAdmitsAllocatesNothing(t *testing.T) {
	s := New(nil, manyPrefixes(100_000), false)
	a := netip.MustParseAddr("203.0.113.7")
	if n := testing.AllocsPerRun(1000, func() { s.Admits(a) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAdmits(b *testing.B) {
	for _, n := range []int{10, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var before, after runtime.MemStats
			prefixes := manyPrefixes(n)
			runtime.GC()
			runtime.ReadMemStats(&before)
			s := New(nil, prefixes, false)
			runtime.GC()
			runtime.ReadMemStats(&after)
			i := uint32(0)
			for b.Loop() {
				i += 2654435761
				s.Admits(netip.AddrFrom4([4]byte{byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)}))
			}
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(n), "B/prefix")
		})
	}
}

func BenchmarkNew(b *testing.B) {
	prefixes := manyPrefixes(100_000)
	for b.Loop() {
		New(nil, prefixes, false)
	}
}

func BenchmarkImage(b *testing.B) {
	s := New(nil, manyPrefixes(100_000), false)
	for b.Loop() {
		if _, err := FromImage(s.Image()); err != nil {
			b.Fatal(err)
		}
	}
}
