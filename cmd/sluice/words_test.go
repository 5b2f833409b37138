package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// clumsy are turns of phrase that are not said in plain English, with what to say instead.
var clumsy = map[string]string{
	`\bcomes? on top\b`:                           "more than that",
	`\b(is|are|was|were|be|being) told of\b`:      "hears of, is shown in",
	`(?i)\bwhoever\b`:                             "name them",
	`(^|[.;] )(?i:whom?) (does|is|has|sends)\b`:   "those that, a client that",
	`\bso (long|soon) after\b`:                    "this long after",
	`\bwhat (comes|goes) beyond (it|that|this)\b`: "more than that",
}

// What people read is written in plain English.
func TestPlainEnglish(t *testing.T) {
	texts := readmes(t)
	example, err := os.ReadFile(filepath.Join("..", "..", "config.example.toml"))
	if err != nil {
		t.Fatal(err)
	}
	texts["config.example.toml"] = strings.ReplaceAll(string(example), "\n# ", " ")
	for _, words := range append([][]string{nil}, eachOf(append(commandNames(), topics...))...) {
		texts["help "+strings.Join(words, " ")] = helped(t, exitOK, append([]string{"help"}, words...)...)
	}
	for name, text := range texts {
		text = strings.Join(strings.Fields(text), " ")
		for phrase, instead := range clumsy {
			for _, at := range regexp.MustCompile(phrase).FindAllStringIndex(text, -1) {
				t.Errorf("%s: ...%s...: better: %s", name, text[max(0, at[0]-40):min(len(text), at[1]+40)], instead)
			}
		}
	}
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
