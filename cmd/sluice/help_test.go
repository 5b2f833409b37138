package main

import (
	"bytes"
	"flag"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sluice/cmd/internal/config"
)

// helped is what a command line writes to stdout.
func helped(t *testing.T, status int, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if got := dispatch(env{stdout: &stdout, stderr: &stderr, vars: config.Environment{}}, args); got != status {
		t.Fatalf("sluice %v: status %d, %s", args, got, &stderr)
	}
	if status != exitOK {
		return stderr.String()
	}
	return stdout.String()
}

// fits complains of help that a terminal of lines x 80 does not show whole.
func fits(t *testing.T, what, text string, lines int) {
	t.Helper()
	if n := strings.Count(text, "\n"); n > lines {
		t.Errorf("%s has %d lines", what, n)
	}
	for line := range strings.Lines(text) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > helpWidth {
			t.Errorf("%s has a line of %d: %s", what, n, line)
		}
	}
}

// -h of every command fits a screen, and help shows every flag that it has.
func TestHelpFits(t *testing.T) {
	fits(t, "sluice -h", helped(t, exitOK, "-h"), 26)
	for _, c := range commands() {
		ways := [][]string{{c.name}}
		for _, word := range c.arguments() {
			if fs, _ := c.flagsOf(env{vars: config.Environment{}}, word); fs != nil && fs.Name() == "sluice "+c.name+" "+word {
				ways = append(ways, []string{c.name, word})
			}
		}
		for _, words := range ways {
			name := strings.Join(words, " ")
			fits(t, name+" -h", helped(t, exitOK, append(words, "-h")...), 24)
			if !slices.Contains(topics, name) {
				fits(t, "help "+name, helped(t, exitOK, append([]string{"help"}, words...)...), 80)
			}
			fs, _ := c.flagsOf(env{vars: config.Environment{}}, words[1:]...)
			if fs == nil {
				t.Errorf("%s shows no flags", name)
				continue
			}
			all := helped(t, exitOK, append([]string{"help"}, words...)...)
			fs.VisitAll(func(f *flag.Flag) {
				if !strings.Contains(all, "\n  "+dashed(f.Name)+" ") {
					t.Errorf("help %s does not show %s", name, f.Name)
				}
			})
		}
	}
}

// Every flag that is shown first exists.
func TestMostUsedFlagsExist(t *testing.T) {
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	var f config.Flags
	f.Bind(fs)
	for _, name := range mostUsed {
		if fs.Lookup(name) == nil {
			t.Errorf("no flag %s", name)
		}
	}
	for _, name := range append(first, last...) {
		if !slices.ContainsFunc(commands(), func(c command) bool {
			own, _ := c.flagsOf(env{vars: config.Environment{}})
			return own != nil && own.Lookup(name) != nil
		}) {
			t.Errorf("no command has the flag %s", name)
		}
	}
}

var (
	withValue = regexp.MustCompile(`\b([a-z][a-z_]+)\s+\(([0-9]+(?:ms|s|m|h)?)\)`)
	compound  = regexp.MustCompile(`\b[a-z0-9]+(?:_[a-z0-9]+)+\b`)
	ordered   = regexp.MustCompile(`"sluice ([a-z]+)|^  sluice ([a-z]+)`)
)

// The texts on topics are true to the tables: keys exist and have the values that the
// text says, as do words with an underscore, commands and metrics.
func TestTopics(t *testing.T) {
	words := map[string]bool{}
	for _, k := range config.Keys() {
		words[k.Path[strings.LastIndex(k.Path, ".")+1:]] = true
		for _, word := range regexp.MustCompile(`"([a-z0-9_]+)"`).FindAllStringSubmatch(k.Must, -1) {
			words[word[1]] = true
		}
	}
	for _, readme := range readmes(t) { // their tables are compared with the metrics that there are
		for _, row := range regexp.MustCompile("(?m)^\\| `(sluice_[a-z0-9_]+)` ").FindAllStringSubmatch(readme, -1) {
			words[row[1]] = true
		}
	}
	for _, name := range topics {
		raw, err := topicFiles.ReadFile("topics/" + name + ".txt")
		if err != nil {
			t.Fatal(err)
		}
		text, table, _ := strings.Cut(string(raw), "\nKeys:\n")
		fits(t, name, topic(name), 80)
		keys := map[string]config.Key{}
		for path := range strings.FieldsSeq(table) {
			k, known := config.KeyAt(strings.TrimPrefix(path, "@"))
			if !known {
				t.Errorf("%s: no key %s", name, path)
			}
			keys[k.Path[strings.LastIndex(k.Path, ".")+1:]] = k
		}
		values := 0
		for _, m := range withValue.FindAllStringSubmatch(text, -1) {
			k, listed := keys[m[1]]
			if !listed {
				t.Errorf("%s: %s is not in its list of keys", name, m[1])
			} else if got := strings.Trim(k.Default, `"`); got != m[2] {
				t.Errorf("%s: %s is %s by the text and %s by default", name, m[1], m[2], got)
			}
			values++
		}
		if name != "balance" && values == 0 {
			t.Errorf("%s: no value is compared", name)
		}
		for _, word := range compound.FindAllString(text, -1) {
			if !words[word] {
				t.Errorf("%s: no word %s", name, word)
			}
		}
		for line := range strings.Lines(text) {
			for _, m := range ordered.FindAllStringSubmatch(line, -1) {
				if word := m[1] + m[2]; word != "help" && !slices.Contains(commandNames(), word) {
					t.Errorf("%s: no command %s", name, word)
				}
			}
		}
	}
}

func TestHelpOnNothing(t *testing.T) {
	for word, want := range map[string]string{"stearing": `did you mean "steering"?`, "relaod": `did you mean "reload"?`, "xyzzy": "There is some on each command, and on steering, "} {
		if said := helped(t, exitUsage, "help", word); !strings.Contains(said, want) {
			t.Errorf("help %s: %s", word, said)
		}
	}
	if both := helped(t, exitOK, "help", "reload"); !strings.Contains(both, "Reload: how a running sluice") || !strings.Contains(both, "--dry-run") {
		t.Error("help reload is not the topic and the command:", both)
	}
	if helped(t, exitOK, "help") != helped(t, exitOK, "-h") {
		t.Error("help and -h differ")
	}
}

// A page of the manual says every flag, or every key with its default; no line is a
// request that man does not know.
func TestManualPages(t *testing.T) {
	e := env{stdout: io.Discard, stderr: io.Discard, vars: config.Environment{}}
	request := regexp.MustCompile(`^\.(TH|SH|TP|B|nf|fi)\b`)
	plain := func(text string) string { return strings.NewReplacer(`\-`, "-", `\e`, `\`, `\&`, "").Replace(text) }
	for _, name := range append(commandNames(), "sluice", filePage) {
		page := helped(t, exitOK, "man", name)
		for line := range strings.Lines(page) {
			if (strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'")) && !request.MatchString(line) {
				t.Errorf("%s: %q", name, line)
			}
		}
		for _, section := range []string{"NAME", "SYNOPSIS", "DESCRIPTION", "SEE ALSO"} {
			if !strings.Contains(page, "\n.SH \""+section+"\"\n") {
				t.Errorf("%s has no section %s", name, section)
			}
		}
		if i := slices.Index(commandNames(), name); i >= 0 {
			fs, _ := commands()[i].flagsOf(e)
			fs.VisitAll(func(f *flag.Flag) {
				if !strings.Contains(plain(page), "\n.B "+dashed(f.Name)) {
					t.Errorf("%s: no flag %s", name, f.Name)
				}
			})
		}
	}
	file := plain(helped(t, exitOK, "man", filePage))
	for _, k := range config.Keys() {
		if !strings.Contains(file, "\n.B "+k.Path[strings.LastIndex(k.Path, ".")+1:]+"\nMust be "+k.Must+". ") || k.Default != "" && !strings.Contains(file, "Default: "+k.Default+".") {
			t.Errorf("no key %s with %s", k.Path, k.Default)
		}
	}
	if said := helped(t, exitUsage, "man", "relod"); !strings.Contains(said, `did you mean "reload"?`) {
		t.Error(said)
	}
}

// readmes are the texts of the repository for people, by their path.
func readmes(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	root := filepath.Join("..", "..")
	for _, pattern := range []string{"README.md", ".github/*.md", "*/README.md", "*/*/README.md"} {
		paths, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			name, _ := filepath.Rel(root, path)
			all[name] = string(text)
		}
	}
	if len(all) < 2 {
		t.Fatalf("only %d texts found", len(all))
	}
	return all
}
