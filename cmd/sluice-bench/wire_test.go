package main

import (
	"errors"
	"testing"
)

func TestHead(t *testing.T) {
	want := request{At: 1 << 40, Up: 12345678901, Down: 64}
	got, err := parseHead(want.head())
	if err != nil || got != want {
		t.Fatalf("got %v, %v, want %v", got, err, want)
	}
	for i := range headSize {
		h := want.head()
		h[i] ^= 0x80
		if _, err := parseHead(h); !errors.Is(err, errWrongBytes) {
			t.Errorf("byte %d changed: error %v", i, err)
		}
	}
	if _, err := parseHead(request{Down: tailSize - 1}.head()); err == nil {
		t.Error("an answer without a tail was taken")
	}
}

// The pattern must repeat with its period, in every position and to its last byte.
func TestPattern(t *testing.T) {
	long := patternAt(period-1, readSize)
	for i := range long {
		at := (period - 1 + i) % period
		if long[i] != pattern[at] {
			t.Fatalf("byte %d is not that of position %d", i, at)
		}
	}
}

// Bytes that are changed, lost or doubled must be found: those of the first 64 always, all others where all are compared.
func TestCheckPattern(t *testing.T) {
	for _, c := range []struct {
		name  string
		bytes []byte
		all   bool
		want  bool
	}{
		{"right", patternAt(1000, 5000), true, true},
		{"moved by one", patternAt(1001, 5000), false, false},
		{"first byte wrong", append([]byte{pattern[1000] + 1}, patternAt(1001, 4999)...), false, false},
		{"last byte wrong", append(append([]byte{}, patternAt(1000, 4999)...), pattern[5999]+1), true, false},
		{"last byte wrong, sampled", append(append([]byte{}, patternAt(1000, 4999)...), pattern[5999]+1), false, true},
	} {
		if err := checkPattern(c.bytes, 1000, c.all); (err == nil) != c.want {
			t.Errorf("%s: error %v", c.name, err)
		}
	}
}
