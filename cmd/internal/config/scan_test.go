package config

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/BurntSushi/toml"
)

// FuzzScan: for any text that toml accepts, the scanner finds the same keys in
// the same order; on any other it ends.
func FuzzScan(f *testing.F) {
	for _, text := range []string{
		"",
		"a = 1\nb.c = 2 # [x]\n[t]\nd = '#'\n[t.u]\n[[v]]\nw=1\n[[v]]\nw=2",
		"\xef\xbb\xbfa=1",
		"\xff\xfea=1",
		"\"q\\u0041\\\"=\".'l\\'.\"\" = \"x\"\r\n",
		"a = [1, [2, {b = 3, c.d = [4]}], # ]\n 5,\n]\ne = {f = {g = 1}, \"h\" = 2}",
		"a = \"\"\"x\\\"\"\" = \"\"\"\"\"\nb = '''\n'' = 1\n'''''\nc = 1",
		"d = 1979-05-27 07:32:00Z # = \ne = [1979-05-27 07:32:00, 07:32:00]\nf = {\n g = 1, # }\n}\n",
		"a = \"\\\\\"\nb = \"\\\"b\"\n[ t . \"u v\" ]\nc=1",
		"a = [[[",
		"= }]\n\"",
		"a = \"\\",
		"a = '''",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s := scan(trimBOM(text))
		var tree map[string]any
		md, err := toml.Decode(text, &tree)
		if err != nil {
			return
		}
		var got []toml.Key
		for _, path := range s.paths {
			got = append(got, path)
		}
		if want := md.Keys(); fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
			t.Errorf("%q:\nscan %q\ntoml %q", text, got, want)
		}
	})
}

func TestScanPositions(t *testing.T) {
	const text = `a = 1
[listener.web]
  bind = ":1" # not "pool"
  "é" . pool="x"
t = {u = 1, v = [
  'ü', {w = 2},
    "second"]}
`
	s := scan(text)
	got := make(map[string][2]int)
	for path, off := range s.at {
		line, col := lineCol(text, off)
		got[path] = [2]int{line, col}
	}
	want := map[string][2]int{
		"a":        {1, 1},
		"listener": {2, 2}, "listener.web": {2, 11},
		"listener.web.bind":     {3, 3},
		`listener.web."é"`:      {4, 3},
		`listener.web."é".pool`: {4, 9},
		"listener.web.t":        {5, 1},
		"listener.web.t.u":      {5, 6},
		"listener.web.t.v":      {5, 13},
		"listener.web.t.v[0]":   {6, 3},
		"listener.web.t.v[1]":   {6, 8},
		"listener.web.t.v.w":    {6, 9},
		"listener.web.t.v[2]":   {7, 5},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}
