package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// clumsy are turns of phrase that are not said in plain English, with what to say instead. A
// process, an acceptor or a session is "it" and "that"; "who" is for people.
var clumsy = map[string]string{
	`\bcomes? on top\b`:                            "more than that",
	`\b(is|are|was|were|be|being) told of\b`:       "hears of, is shown in",
	`(?i)\bwhoever\b`:                              "name them",
	`(?i)\b(no|some|any|every)body else\b`:         "no other, another",
	`(?i)\bnobody new\b`:                           "no new sessions",
	`(^|[.;:] )(?i:whom?) ` + doing:                "those that, a client that",
	`\b(for|by|to|of|from|than|with) who ` + doing: "for callers that",
	`\b(hung|well|healthy) is who\b`:               "one that is",
	`\bso (long|soon) after\b`:                     "this long after",
	`\bever more seldom\b`:                         "less and less often",
	`\bwhat (comes|goes) beyond (it|that|this)\b`:  "more than that",
	`(^|[.;:] )Not so\b`:                           "the usual word order",
	`(^|[.;:] )(So|Nor) (is|are|do|does|did)\b`:    "the usual word order",
}

// doing follows a "who" that is no person.
const doing = `(is|are|was|has|had|does|sends|takes|holds|comes|leaves|turns|waits|gives|lacks|fails)\b`

// What people read is written in plain English.
func TestPlainEnglish(t *testing.T) {
	texts := readmes(t)
	for _, pattern := range []string{"config.example.toml", ".ci/run", "docker/*file*", "docker/*.yaml", "docker/*/*.y*ml", "docker/*/*.toml"} {
		paths, err := filepath.Glob(filepath.Join("..", "..", pattern))
		if err != nil || len(paths) == 0 {
			t.Fatal(pattern, err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			texts[strings.TrimPrefix(path, "../../")] = regexp.MustCompile(`\n *# `).ReplaceAllString(string(text), " ")
		}
	}
	for _, words := range append([][]string{nil}, eachOf(append(commandNames(), topics...))...) {
		texts["help "+strings.Join(words, " ")] = helped(t, exitOK, append([]string{"help"}, words...)...)
	}
	for name, text := range texts {
		text = strings.Join(strings.Fields(text), " ")
		for _, f := range clumsyIn(text) {
			t.Errorf("%s: %s", name, f.said)
		}
	}
}

// The same holds for the comments and the texts in Go.
func TestPlainGo(t *testing.T) {
	root := os.DirFS(filepath.Join("..", ".."))
	files := 0
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || d.Name() == ".git") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		files++
		set := token.NewFileSet()
		text, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(set, name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, group := range file.Comments {
			p := passage{}
			for _, c := range group.List {
				p.add(strings.TrimLeft(c.Text, "/* \t"), set.Position(c.Pos()).Line)
			}
			p.judge(t, name)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING && strings.Contains(l.Value, " ") {
				p := passage{}
				for i, line := range strings.Split(strings.Trim(l.Value, "`\""), "\n") {
					p.add(line, set.Position(l.Pos()).Line+i)
				}
				p.judge(t, name)
			}
			return true
		})
		return nil
	})
	if err != nil || files < 500 {
		t.Fatal(files, err)
	}
}

// passage is a text of several lines of a file, with one blank between words.
type passage struct {
	text   string
	starts []int // of each line, in text
	lines  []int // their numbers in the file
}

func (p *passage) add(line string, number int) {
	if words := strings.Join(strings.Fields(line), " "); words != "" {
		if p.text != "" {
			p.text += " "
		}
		p.starts, p.lines = append(p.starts, len(p.text)), append(p.lines, number)
		p.text += words
	}
}

func (p *passage) judge(t *testing.T, name string) {
	t.Helper()
	for _, f := range clumsyIn(p.text) {
		i, found := slices.BinarySearch(p.starts, f.at)
		if !found {
			i--
		}
		t.Errorf("%s:%d: %s", name, p.lines[i], f.said)
	}
}

// clumsyPhrase is where one stands in a text, and what to say of it.
type clumsyPhrase struct {
	at   int
	said string
}

var anyClumsy = regexp.MustCompile("(" + strings.Join(slices.Sorted(maps.Keys(clumsy)), ")|(") + ")")

func clumsyIn(text string) (all []clumsyPhrase) {
	if !anyClumsy.MatchString(text) {
		return nil
	}
	for phrase, instead := range clumsy {
		for _, at := range regexp.MustCompile(phrase).FindAllStringIndex(text, -1) {
			all = append(all, clumsyPhrase{at[0],
				"..." + text[max(0, at[0]-40):min(len(text), at[1]+40)] + "...: better: " + instead})
		}
	}
	return all
}

func eachOf(words []string) (all [][]string) {
	for _, word := range slices.Compact(words) {
		all = append(all, []string{word})
	}
	return all
}

// A link to a file of the repository, or to a heading, leads somewhere.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#\s]*)(#[^)\s]*)?\)`)
	texts := readmes(t)
	for name, text := range texts {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			path := name
			if m[1] != "" {
				path = filepath.Join(filepath.Dir(name), m[1])
				if _, err := os.Stat(filepath.Join("..", "..", path)); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			if m[2] != "" && !slices.Contains(anchors(texts[path]), m[2]) {
				t.Errorf("%s: no heading %s in %s", name, m[2], path)
			}
		}
	}
}

// anchors are what links to the headings of a text end with.
func anchors(text string) (all []string) {
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		word := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		all = append(all, "#"+strings.ReplaceAll(word, " ", "-"))
	}
	return all
}

// The figures at the front door are those of the benchmark's table.
func TestFrontDoorFigures(t *testing.T) {
	texts := readmes(t)
	report := texts["README.md"] + texts["cmd/sluice-bench/README.md"]
	rows := regexp.MustCompile("(?m)^\\|[^|]+\\| `([a-z0-9-]+)` \\| ([0-9.]+) \\| ([0-9.]+) \\| ([0-9.]+) \\|$").FindAllStringSubmatch(texts["README.md"], -1)
	if len(rows) != 3 {
		t.Fatalf("%d rows", len(rows))
	}
	for _, row := range rows {
		_, measured, found := strings.Cut(report, "\n| "+row[1]+" | sluice |")
		lines := strings.SplitN("| sluice |"+measured, "\n", 4)
		if !found || len(lines) < 4 {
			t.Errorf("no case %s in the table", row[1])
			continue
		}
		for i, name := range []string{"sluice", "haproxy", "nginx"} {
			if line := lines[i]; !strings.Contains(line, "| "+name+" |") || !strings.Contains(line, " "+row[2+i]+" ") {
				t.Errorf("%s: %s has %s, and the table %s", row[1], name, row[2+i], line)
			}
		}
	}
}
