package access

import (
	"net/netip"
	"os"
	"slices"
	"testing"
)

// A Set comes out of its file as it was, however often it is read, and the file can't be
// changed.
func TestFile(t *testing.T) {
	image := New(nil, manyPrefixes(1000), true).Image()
	f, err := File(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for range 2 {
		s, err := Open(int(f.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(s.Image(), image) || s.Admits(netip.MustParseAddr("::1")) {
			t.Error("it is another")
		}
	}
	if _, err := f.WriteAt([]byte{1}, 0); err == nil {
		t.Error("it can be written to")
	}
	if err := f.Truncate(1); err == nil {
		t.Error("it can be cut")
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for _, fd := range []int{int(null.Fd()), -1} {
		if _, err := Open(fd); err == nil {
			t.Errorf("descriptor %d was taken for a set", fd)
		}
	}
}
