package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// imports says which of the module's packages each package may import, tests left
// out. Imports go down only; listener and proxy never meet.
var imports = map[string][]string{
	"cmd/sluice":             {"cmd/internal/admin", "cmd/internal/cgroup", "cmd/internal/config", "cmd/internal/control", "cmd/internal/host", "cmd/internal/logring", "listener", "listener/netns", "listener/steering", "metrics", "proxy"},
	"cmd/sluice-bench":       {},
	"cmd/internal/accesslog": {"cmd/internal/logring", "metrics", "metrics/journal"},
	"cmd/internal/browser":   {},
	"cmd/internal/cgroup":    {},
	"cmd/internal/config":    {"cmd/internal/accesslog", "cmd/internal/cgroup", "cmd/internal/discovery", "listener/netns", "proxy/access"},
	"cmd/internal/discovery": {},
	"cmd/internal/control": {"cmd/internal/accesslog", "cmd/internal/admin", "cmd/internal/config", "cmd/internal/discovery", "cmd/internal/explain", "cmd/internal/health", "cmd/internal/host", "cmd/internal/logring", "cmd/internal/moving", "cmd/internal/sessions",
		"listener", "listener/netns", "listener/steering", "metrics", "metrics/journal", "proxy", "proxy/access", "proxy/pool"},
	"cmd/internal/host":     {"listener", "listener/steering", "metrics", "metrics/journal", "proxy", "proxy/access"},
	"cmd/internal/admin":    {"listener", "metrics"},
	"cmd/internal/explain":  {"cmd/internal/admin", "cmd/internal/config", "listener/steering", "metrics", "proxy", "proxy/access", "proxy/pool"},
	"cmd/internal/sessions": {"cmd/internal/accesslog", "cmd/internal/admin", "cmd/internal/moving", "metrics", "metrics/journal", "proxy"},
	"cmd/internal/health":   {"cmd/internal/config", "listener/netns", "metrics", "proxy/pool", "proxy/preamble"},
	"cmd/internal/moving":   {"metrics", "proxy"},
	"cmd/internal/logring":  {},
	"proxy":                 {"metrics", "metrics/journal", "proxy/access", "proxy/internal/sys", "proxy/pool", "proxy/preamble"},
	"proxy/access":          {"metrics"},
	"proxy/internal/sys":    {},
	"proxy/pool":            {"metrics"},
	"proxy/preamble":        {},
	"listener":              {"listener/netns", "metrics"},
	"listener/netns":        {},
	"listener/steering":     {"listener", "metrics"},
	"metrics":               {},
	"metrics/journal":       {"metrics"},
	"docker/grafana":        {},
}

// walls are modules that only some packages may import, and why.
var walls = []struct {
	prefix string
	only   []string
	why    string
}{
	{"github.com/BurntSushi/toml", []string{"cmd/internal/config"}, "one package knows TOML"},
	{"github.com/prometheus/", []string{"metrics", "cmd/internal/admin"}, "the data plane counts in cells"},
	{"github.com/fsnotify/", []string{"cmd/internal/discovery"}, "one package knows how a file is watched"},
	{"github.com/gaissmai/bart", []string{"proxy/access"}, "one package knows how a prefix is found"},
	{"github.com/miekg/dns", []string{"cmd/internal/discovery"}, "one package knows how a name is resolved"},
	{"github.com/chromedp/", []string{"cmd/internal/browser"}, "one package knows how a browser is driven, for tests"},
	{"golang.org/x/term", []string{"cmd/sluice"}, "only sluice top has a terminal"},
	{"github.com/cilium/ebpf", []string{"listener/steering"}, "the rest is given what steers, not how"},
}

func TestImportsGoDown(t *testing.T) {
	for _, f := range sources(t) {
		dir := path.Dir(f.name)
		allowed, known := imports[dir]
		if !known {
			t.Errorf("%s: package is not in the layout", f.name)
			continue
		}
		for _, imported := range f.imports {
			if inside, ok := strings.CutPrefix(imported, "sluice/"); ok && !slices.Contains(allowed, inside) {
				t.Errorf("%s imports %s", f.name, imported)
			}
			for _, w := range walls {
				if strings.HasPrefix(imported, w.prefix) && !slices.Contains(w.only, dir) {
					t.Errorf("%s imports %s: %s", f.name, imported, w.why)
				}
			}
			if imported == "golang.org/x/sys/unix" && !strings.HasSuffix(f.name, "_linux.go") {
				t.Errorf("%s imports %s: system calls live in *_linux.go", f.name, imported)
			}
		}
	}
}

func TestEveryPackageHasOneComment(t *testing.T) {
	comments := map[string]int{}
	for _, f := range sources(t) {
		dir := path.Dir(f.name)
		comments[dir] += 0
		if f.doc {
			comments[dir]++
		}
	}
	for dir, n := range comments {
		if n != 1 {
			t.Errorf("package %s has %d package comments", dir, n)
		}
	}
}

type source struct {
	name    string // from the root of the repository
	imports []string
	doc     bool
}

// sources reads every Go file of the module that is not a test.
func sources(t *testing.T) (all []source) {
	t.Helper()
	root := os.DirFS(filepath.Join("..", ".."))
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return err
		}
		text, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		s := source{name: name, doc: f.Doc != nil}
		for _, i := range f.Imports {
			imported, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			s.imports = append(s.imports, imported)
		}
		all = append(all, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 50 {
		t.Fatalf("only %d sources found", len(all))
	}
	return all
}
