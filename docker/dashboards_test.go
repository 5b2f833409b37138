package docker

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// dashboard is what is looked at in a file of Grafana's.
type dashboard struct {
	file          string
	UID           string
	Title         string
	Description   string
	Editable      bool
	SchemaVersion int
	Templating    struct{ List []variable }
	Annotations   struct{ List []target }
	Panels        []panel
}

type variable struct {
	Name, Label, Type string
	Query             any
	Datasource        source
	Multi, IncludeAll bool
	Refresh           int
}

type panel struct {
	ID                       int
	Type, Title, Description string
	Datasource               source
	GridPos                  struct{ X, Y, W, H int }
	FieldConfig              struct {
		Defaults struct {
			Unit  string
			Links []struct{ Title, URL string }
		}
	}
	Targets []target
}

type target struct {
	Expr, LegendFormat string
	Datasource         source
}

type source struct{ Type, UID string }

func dashboards(t *testing.T) []dashboard {
	t.Helper()
	files, err := filepath.Glob("grafana/dashboards/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("dashboards: %v, %v", files, err)
	}
	all := make([]dashboard, len(files))
	for i, file := range files {
		all[i].file = filepath.Base(file)
		unmarshal(t, read(t, file), &all[i])
	}
	return all
}

// graphs are all panels but the headings of rows.
func (d dashboard) graphs() []panel {
	return slices.DeleteFunc(slices.Clone(d.Panels), func(p panel) bool { return p.Type == "row" })
}

func TestDashboardsAreGenerated(t *testing.T) {
	dir := t.TempDir()
	run(t, "go", "run", "./grafana", "-o", dir)
	made, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if kept := dashboards(t); len(made) != len(kept) {
		t.Errorf("%d dashboards are generated, %d are kept", len(made), len(kept))
	}
	for _, f := range made {
		if read(t, filepath.Join(dir, f.Name())) != read(t, filepath.Join("grafana/dashboards", f.Name())) {
			t.Errorf("%s is old: go run ./docker/grafana", f.Name())
		}
	}
}

// units are Grafana's names of those that are used.
var units = []string{"none", "short", "percentunit", "cps", "ops", "Bps", "bytes", "s", "d"}

// TestDashboardsFollowGrafanasLint checks the rules that Grafana Labs check their
// own dashboards by.
func TestDashboardsFollowGrafanasLint(t *testing.T) {
	all := dashboards(t)
	uids := map[string]bool{}
	for _, d := range all {
		if uids[d.UID] {
			t.Errorf("%s: another dashboard has the uid %s too", d.file, d.UID)
		}
		uids[d.UID] = true
	}
	for _, d := range all {
		t.Run(d.file, func(t *testing.T) {
			if d.UID == "" || d.Title == "" || d.Description == "" {
				t.Error("uid, title and description are needed")
			}
			if d.Editable || d.SchemaVersion != 39 {
				t.Errorf("editable %v, schema version %d; want false and 39", d.Editable, d.SchemaVersion)
			}
			d.checkVariables(t)
			d.checkLayout(t)
			for _, a := range d.Annotations.List {
				checkTarget(t, a)
			}
			for _, p := range d.graphs() {
				t.Run(p.Title, func(t *testing.T) {
					p.check(t)
					for _, l := range p.FieldConfig.Defaults.Links {
						uid, _, _ := strings.Cut(strings.TrimPrefix(l.URL, "/d/"), "?")
						if !uids[uid] {
							t.Errorf("the link %q leads to no dashboard: %s", l.Title, l.URL)
						}
					}
				})
			}
		})
	}
}

func (d dashboard) checkVariables(t *testing.T) {
	find := func(name string) variable {
		i := slices.IndexFunc(d.Templating.List, func(v variable) bool { return v.Name == name })
		if i < 0 {
			t.Fatalf("there is no variable %s", name)
		}
		return d.Templating.List[i]
	}
	if v := find("datasource"); v.Type != "datasource" || v.Query != "prometheus" || v.Label != "Data source" {
		t.Errorf("variable datasource: %+v", v)
	}
	find("job")
	find("instance")
	for _, v := range d.Templating.List {
		if v.Name == "datasource" {
			continue
		}
		if v.Type != "query" || v.Label == "" || v.Datasource != chosen || !v.Multi || !v.IncludeAll || v.Refresh != 2 {
			t.Errorf("variable %s: %+v", v.Name, v)
		}
	}
}

// chosen is the data source that the variable names.
var chosen = source{"prometheus", "${datasource}"}

// checkLayout finds panels of one number, outside the page, or on top of others.
func (d dashboard) checkLayout(t *testing.T) {
	ids := map[int]bool{}
	cells := map[[2]int]string{}
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("%s: another panel has the id %d too", p.Title, p.ID)
		}
		ids[p.ID] = true
		g := p.GridPos
		if g.W <= 0 || g.H <= 0 || g.X < 0 || g.X+g.W > 24 {
			t.Errorf("%s: does not fit the page: %+v", p.Title, g)
		}
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other, taken := cells[[2]int{x, y}]; taken {
					t.Fatalf("%s lies over %s", p.Title, other)
				}
				cells[[2]int{x, y}] = p.Title
			}
		}
	}
}

func (p panel) check(t *testing.T) {
	if p.Title == "" || p.Description == "" {
		t.Error("title and description are needed")
	}
	if !slices.Contains(units, p.FieldConfig.Defaults.Unit) {
		t.Errorf("unknown unit %q", p.FieldConfig.Defaults.Unit)
	}
	if p.Datasource != chosen {
		t.Errorf("data source %v", p.Datasource)
	}
	if len(p.Targets) == 0 {
		t.Error("shows nothing")
	}
	for _, q := range p.Targets {
		checkTarget(t, q)
		if len(p.Targets) > 1 && q.LegendFormat == "" && p.Type != "table" {
			t.Errorf("one of several queries has no legend: %s", q.Expr)
		}
	}
}

var (
	selector = regexp.MustCompile(`([a-zA-Z_:][\w:]*)\{([^}]*)\}`)
	window   = regexp.MustCompile(`\[([^\]]*)\]`)
	// counted matches what may be done with a counter, up to its name.
	counted = regexp.MustCompile(`\b(rate|irate|increase)\((\w+_(total|bucket))\b`)
	counter = regexp.MustCompile(`\b\w+_(total|bucket)\b`)
)

func checkTarget(t *testing.T, q target) {
	t.Helper()
	if q.Datasource != chosen {
		t.Errorf("data source %v of %s", q.Datasource, q.Expr)
	}
	selectors := selector.FindAllStringSubmatch(q.Expr, -1)
	if len(selectors) == 0 {
		t.Errorf("no selector in %s", q.Expr)
	}
	for _, s := range selectors {
		if !strings.Contains(s[2], `job=~"$job",instance=~"$instance"`) {
			t.Errorf("%s is not selected by job and instance in %s", s[1], q.Expr)
		}
	}
	for _, n := range word.FindAllString(selector.ReplaceAllString(q.Expr, ""), -1) {
		if strings.Contains(n, "sluice_") {
			t.Errorf("%s is not selected by job and instance in %s", n, q.Expr)
		}
	}
	for _, w := range window.FindAllStringSubmatch(q.Expr, -1) {
		if w[1] != "$__rate_interval" && !strings.HasPrefix(q.Expr, "changes(") { // an annotation
			t.Errorf("window %s instead of $__rate_interval in %s", w[1], q.Expr)
		}
	}
	if len(counted.FindAllString(q.Expr, -1)) != len(counter.FindAllString(q.Expr, -1)) {
		t.Errorf("a counter outside rate, irate and increase in %s", q.Expr)
	}
}
