package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestParseBackends(t *testing.T) {
	const both = `[10.0.0.1:80 db:80 weight=2 backup]`
	for text, want := range map[string]string{
		`["10.0.0.1:80", "db:80 weight=2 backup"]`:                                                      both,
		` [{"address": "10.0.0.1:80"}, {"address":"db:80","weight":2,"backup":true}]`:                   both,
		`{"backends": ["10.0.0.1:80", {"address": "db:80", "weight": 2, "backup": true}]}`:              both,
		"backends = ['10.0.0.1:80',\n 'db:80 weight=2 backup'] # two\n":                                 both,
		"[[backends]]\naddress = '10.0.0.1:80'\n[[backends]]\naddress='db:80'\nweight=2\nbackup=true\n": both,
		"backends = [{address = '10.0.0.1:80'}, {address = 'db:80', weight = 2, backup = true}]\n":      both,
		"[]": "[]", "{\"backends\": []}": "[]", "backends = []\n": "[]",

		"":                                  "is empty; a list without backends is []",
		" \n":                               "is empty; a list without backends is []",
		`["10.0.0.1:80", "db:8`:             "line 1, column 22: not JSON: unexpected end of JSON input",
		"[\n\"10.0.0.1:80\"\n":              "line 3, column 1: not JSON: unexpected end of JSON input",
		`["10.0.0.1:80"] x`:                 "line 1, column 18: not JSON: invalid character 'x' after top-level value",
		`["10.0.0.1"]`:                      `backend 1: must begin with HOST:PORT, port 1 to 65535, such as "10.0.0.1:8080"; got "10.0.0.1"`,
		`["10.0.0.1:80", "10.0.0.1:80"]`:    "backend 2: 10.0.0.1:80 is there twice; weight=2 gives it a double share",
		`[{"address": "a:1", "wieght": 2}]`: `json: unknown field "wieght"`,
		`[{"weight": 2}]`:                   `backend 1: must begin with HOST:PORT, port 1 to 65535, such as "10.0.0.1:8080"; got "weight=2"`,
		`[{"address": "a:1", "weight": 0}]`: `backend 1: weight must be a whole number from 1 to 256; got "0"`,
		`[{"address": "a:1 backup"}]`:       `backend 1: address must be HOST:PORT alone; got "a:1 backup"`,
		`[1]`:                               `a backend must be text or have an address; got 1`,
		`{"backend": []}`:                   `json: unknown field "backend"`,
		`{}`:                                `has no "backends"`,
		"backends = ['10.0.0.1:80']":        "its last line does not end, so it may be written half only",
		"backends = ['10.0.0.1:80'\n":       "line 1: not TOML: expected a comma (',') or array terminator (']'), but got end of file",
		"pool = 'a'\n":                      `json: unknown field "pool"`,
		"backends = ['a:1']\nweight = 2\n":  `json: unknown field "weight"`,
		"[[backends]]\naddr = 'a:1'\n":      `json: unknown field "addr"`,
	} {
		list, err := ParseBackends([]byte(text))
		got := fmt.Sprint(list)
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %s\nwant %s", text, got, want)
		}
		if slices.ContainsFunc(list, func(b Backend) bool { return !b.FromFile }) {
			t.Errorf("%s: not from a file", text)
		}
	}
}

// Whatever a JSON file is cut to, it is not taken.
func TestCutBackends(t *testing.T) {
	const whole = `{"backends": ["10.0.0.1:80", {"address": "db:80", "weight": 2}]}`
	for n := range whole {
		if list, err := ParseBackends([]byte(whole[:n])); err == nil {
			t.Errorf("%s is taken as %v", whole[:n], list)
		}
	}
}

func FuzzParseBackends(f *testing.F) {
	f.Add([]byte(`["10.0.0.1:80", {"address": "db:80", "weight": 2}]`))
	f.Add([]byte("[[backends]]\naddress = '10.0.0.1:80'\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := ParseBackends(text)
		for _, b := range list {
			if again, e := parseBackend(b.String()); err != nil || e != nil || again.Address != b.Address {
				t.Fatalf("%v: %v, %v", b, err, e)
			}
		}
	})
}

// The file's backends come beside the pool's own, which stay as they are; to do it again
// changes nothing.
func TestWithFiles(t *testing.T) {
	own := Backend{Address: "A:1", Weight: 3}
	c := Config{Pools: []Pool{{Name: "p", Backends: []Backend{own}, BackendsFile: "/f"}, {Name: "q", Backends: []Backend{own}}}}
	say := func(path string) []Backend {
		return []Backend{{Address: "a:1", Weight: 9, FromFile: true}, {Address: "b" + strings.ReplaceAll(path, "/", "") + ":1", Weight: 1, FromFile: true}}
	}
	for range 2 {
		c = c.WithFiles(say)
		if got := fmt.Sprint(c.Pools[0].Backends, c.Pools[1].Backends); got != "[A:1 weight=3 bf:1] [A:1 weight=3]" {
			t.Errorf("%s", got)
		}
	}
	if c = c.WithFiles(func(string) []Backend { return nil }); len(c.Pools[0].Backends) != 1 {
		t.Errorf("%v stay", c.Pools[0].Backends)
	}
}
