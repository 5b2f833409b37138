package config

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func parsed(t *testing.T, path string) Config {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse(filepath.Base(path), data, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func lines(changes []Change) string {
	var b strings.Builder
	for _, c := range changes {
		b.WriteString(c.String() + "\n")
	}
	return b.String()
}

// testdata/diff holds two files with every kind of change between them.
func TestDiff(t *testing.T) {
	old, new := parsed(t, "testdata/diff/old.toml"), parsed(t, "testdata/diff/new.toml")
	there, back := lines(Diff(old, new)), lines(Diff(new, old))
	golden(t, "testdata/diff/there.txt", there)
	golden(t, "testdata/diff/back.txt", back)
	for _, o := range options {
		path := strings.ReplaceAll(o.path, "*", "web")
		if o.path != "listener.*.ipv6_only" && !strings.Contains(there, " "+path) { // it comes with a listener
			t.Errorf("the files do not differ in %s", path)
		}
	}
}

func TestChangeTouches(t *testing.T) {
	c := Change{Path: "listener.web.idle_timeout", Kind: Changed, Old: "10m", New: "5m", Apply: Live}
	for n, want := range map[int]string{-1: "", 0: ", touches 0 sessions", 1: ", touches 1 session", 2: ", touches 2 sessions"} {
		c.Touches = n
		if got := c.String(); got != "live     listener.web.idle_timeout: 10m -> 5m"+want {
			t.Errorf("%d sessions: %s", n, got)
		}
	}
}

// Diff is silent exactly where the two mean the same.
func TestDiffFindsWhatDiffers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawConfig(t), drawConfig(t)
		if rapid.Bool().Draw(t, "same pools") {
			b.Pools = a.Pools
		}
		if rapid.Bool().Draw(t, "same but for one key") {
			b = oneKeyOff(t, a)
		}
		if same := inAnyOrder(a) == inAnyOrder(b); same != (len(Diff(a, b)) == 0) {
			t.Fatalf("the same: %t, but the changes are\n%s", same, lines(Diff(a, b)))
		}
		if n := len(Diff(a, a)); n != 0 {
			t.Fatalf("%d changes to itself", n)
		}
	})
}

// oneKeyOff is a copy of c of which one option may have another value.
func oneKeyOff(t *rapid.T, c Config) Config {
	c.Listeners, c.Pools = slices.Clone(c.Listeners), slices.Clone(c.Pools)
	c.Listeners[0].Routes = slices.Clone(c.Listeners[0].Routes)
	o := rapid.SampledFrom(options).Draw(t, "option")
	if text, draws := drawText(t, o); draws {
		newBuilder(nil).set(o, scope{&c, &c.Listeners[0], &c.Pools[0], &c.Listeners[0].Routes[0]}, text, Fault{})
	}
	return c
}

// inAnyOrder writes a Config so that order, which means nothing, does not show.
func inAnyOrder(c Config) string {
	c.Listeners, c.Pools = slices.Clone(c.Listeners), slices.Clone(c.Pools)
	slices.SortFunc(c.Listeners, func(a, b Listener) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(c.Pools, func(a, b Pool) int { return cmp.Compare(a.Name, b.Name) })
	for i := range c.Pools {
		c.Pools[i].Backends = slices.Clone(c.Pools[i].Backends)
		slices.SortFunc(c.Pools[i].Backends, func(a, b Backend) int { return cmp.Compare(a.Address, b.Address) })
	}
	return c.TOML()
}
