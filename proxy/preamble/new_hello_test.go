package preamble

import (
	"strings"
	"testing"
)

func TestNewHello(t *testing.T) {
	h, ok := NewHello("A.Example.", []string{"h2", "http/1.1"})
	if !ok || !h.TLS || string(h.Name()) != "a.example" || !h.OffersALPN("h2") || !h.OffersALPN("http/1.1") || h.OffersALPN("h3") || string(h.FirstALPN()) != "h2" {
		t.Errorf("%+v, %v", h, ok)
	}
	if h, ok := NewHello("", nil); !ok || !h.TLS || len(h.Name()) != 0 {
		t.Errorf("%+v, %v", h, ok)
	}
	for _, name := range []string{".", "a b", "é", strings.Repeat("a", 256)} {
		if _, ok := NewHello(name, nil); ok {
			t.Errorf("%q is a name", name)
		}
	}
	for _, p := range []string{"", strings.Repeat("a", 256)} {
		if _, ok := NewHello("", []string{p}); ok {
			t.Errorf("%q is a protocol", p)
		}
	}
}
