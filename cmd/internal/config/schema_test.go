package config

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// schemaOf compiles what WriteSchema writes.
func schemaOf(t *testing.T) *jsonschema.Schema {
	t.Helper()
	var text bytes.Buffer
	if err := WriteSchema(&text); err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(&text)
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("sluice.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("sluice.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func decode(t *testing.T, text string) any {
	t.Helper()
	var tree map[string]any
	if _, err := toml.Decode(text, &tree); err != nil {
		t.Fatal(err)
	}
	return tree
}

// What sluice accepts the schema accepts: the example, with every key in it, and what is
// written for variables.
func TestSchemaAcceptsWhatReadAccepts(t *testing.T) {
	s := schemaOf(t)
	example, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		string(example),
		"[acceptors]\ncount = 4\npin_cpus = \"${PIN}\"\nhang_after = \"1m30s\"",
		"[limits]\nmax_sessions = \"${MAX:-5}\"\ndrain_timeout = \"0s\"",
	} {
		if err := s.Validate(decode(t, text)); err != nil {
			t.Errorf("%s\n%v", text, err)
		}
	}
}

// Of what sluice refuses the schema refuses what a single key tells: an unknown one, a
// value of another type or out of range, a word that is none of a few.
func TestSchemaRefusesWhatReadRefuses(t *testing.T) {
	s := schemaOf(t)
	bad, err := filepath.Glob("testdata/bad/*.toml")
	if err != nil || len(bad) == 0 {
		t.Fatal(bad, err)
	}
	kinds := []string{"unknown_", "enum_", "type_", "count_", "duration_bad", "duration_number"}
	seen := 0
	for _, file := range bad {
		if filepath.Base(file) == "type_integer_float.toml" { // 1.0 is a whole number in JSON
			continue
		}
		if !slices.ContainsFunc(kinds, func(k string) bool { return strings.HasPrefix(filepath.Base(file), k) }) {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		seen++
		if s.Validate(decode(t, string(text))) == nil {
			t.Errorf("%s is accepted", file)
		}
	}
	if seen < 10 {
		t.Errorf("only %d files", seen)
	}
}

// Every value has the origin that set it.
func TestShowNamesOrigins(t *testing.T) {
	file := filepath.Join(t.TempDir(), "s.toml")
	text := "[limits]\nmax_sessions = 5\n[listener.web]\nbind = \":80\"\npool = \"p\"\n[pool.p]\nbackends = [\"a:1\"]\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f := Flags{given: map[string][]string{"c": {file}, "mode": {"process"}}}
	var out strings.Builder
	if err := NewSource(f, Environment{"SLUICE_STEERING": "hash"}).Show(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`mode = "process" # --mode`, `steering = "hash" # SLUICE_STEERING`, "max_sessions = 5 # " + file + ":2",
		`bind = ":80" # ` + file + ":4", `backends = ["a:1"] # ` + file + ":7", `relay = "auto" # default`,
	} {
		if !strings.Contains(strings.Join(strings.Fields(out.String()), " "), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
	again, err := Parse("shown.toml", []byte(out.String()), nil)
	if err != nil || again.Acceptors.Mode != ModeProcess || again.Limits.MaxSessions != 5 {
		t.Errorf("what is shown cannot be read again: %v, %+v", err, again)
	}
}
