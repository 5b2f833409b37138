package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestMain lets the test binary be started again as the bench itself, and in its hidden roles.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "_bench" {
		runtime.LockOSThread()
		exit(bench(os.Args[2:], os.Stdout, os.Stderr))
	}
	if len(os.Args) > 1 && strings.HasPrefix(os.Args[1], "_") {
		exit(serveRole(os.Args[1:], os.Stdin, os.Stdout))
	}
	os.Exit(m.Run())
}

// golden compares text with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("differs from %s (-update rewrites it); got:\n%s", path, got)
	}
}

func TestFlagsRefused(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"-cases nosuch", `no case matches "nosuch"`},
		{"-cases (", "-cases: error parsing"},
		{"-proxies haproxy,squid", `unknown "squid"`},
		{"-rounds 0", "at least 1"},
		{"stray", `unexpected argument "stray"`},
		{"-compare testdata/nosuch.json", "no such file"},
		{"-from testdata/nosuch.json", "no such file"},
		{"-cases kept-1-64B -proxies haproxy -haproxy /nosuch", "haproxy (-haproxy gives its path)"},
	} {
		var out, errors bytes.Buffer
		err := bench(strings.Fields(c.args), &out, &errors)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", c.args, err, c.want)
		}
	}
}

func TestListShowsEveryCase(t *testing.T) {
	var out, errors bytes.Buffer
	if err := bench([]string{"-list"}, &out, &errors); err != nil {
		t.Fatal(err)
	}
	golden(t, "list.txt", out.String())
}

// Every bar must be about a case and a figure that exist, and about proxies that run in it, or it would never be judged.
func TestBarsNameCasesAndFigures(t *testing.T) {
	for _, b := range bars {
		if b.of != better && b.of != absolute && b.of != everyRound && proxyNamed(b.of) == nil {
			t.Errorf("bar of %s: a multiple of %q", b.cases, b.of)
		}
		found := false
		for _, c := range allCases() {
			if strings.HasPrefix(c.name, b.cases) {
				found = true
				if columnNamed(c.family, b.key).head == "" {
					t.Errorf("bar of %s: no figure %q", c.name, b.key)
				}
				for _, mode := range b.modes {
					if !c.takesPart(proxyNamed(mode), false) {
						t.Errorf("bar of %s: %s does not run in it", c.name, mode)
					}
				}
			}
		}
		if !found {
			t.Errorf("bar: no case begins with %q", b.cases)
		}
	}
}

// A run that fails must be reported and must end the bench with an error, and the others must still be
// measured.
func TestFailedRunIsReported(t *testing.T) {
	var out, errors bytes.Buffer
	err := bench([]string{"-smoke", "-host-network", "-cases", "kept-1-64B", "-proxies", "direct,haproxy", "-haproxy", "/bin/true"}, &out, &errors)
	if err == nil || !strings.Contains(err.Error(), "1 run failed") {
		t.Errorf("error %v, want 1 run failed", err)
	}
	for _, want := range []string{"- kept-1-64B, haproxy, round 1: the proxy ended at its start", "direct"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("report lacks %q:\n%s", want, out.String())
		}
	}
}

// The whole way: measure, write the file, and compare the file with itself.
func TestMeasureSaveCompare(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: it measures")
	}
	file := filepath.Join(t.TempDir(), "result.json")
	var out, errors bytes.Buffer
	args := fmt.Sprintf("-host-network -rounds 1 -cases kept-1-64B -proxies direct,go -json %s", file)
	if err := bench(strings.Fields(args), &out, &errors); err != nil {
		t.Fatalf("%v\n%s", err, errors.String())
	}
	r, err := loadResult(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Runs) != 2 || r.Rounds != 1 { // the first round is dropped
		t.Errorf("%d runs in %d rounds, want 2 in 1", len(r.Runs), r.Rounds)
	}
	for _, x := range r.Runs {
		if x.Figures["rate"] <= 0 || x.Figures["ends"] <= 0 || x.Figures["p50"] <= 0 || x.Figures["p99"] < x.Figures["p50"] {
			t.Errorf("%s: figures %v", x.Proxy, x.Figures)
		}
		if _, has := x.Figures["cpu"]; has != (x.Proxy == "go") {
			t.Errorf("%s: CPU of the proxy measured: %v", x.Proxy, has)
		}
	}
	out.Reset()
	if err := bench([]string{"-from", file, "-compare", file}, &out, &errors); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "0 of these outside the noise") {
		t.Errorf("a result differs from itself:\n%s", out.String())
	}
}
