package config

import (
	"strings"
	"testing"
	"time"
)

// The many ways to write the same in TOML, and text where numbers are meant.
func TestGoodFile(t *testing.T) {
	c, err := Parse("good.toml", []byte("\ufeff"+`
instance = "${HOST:-none}"
acceptors = { count = "${N:-4}", pin_cpus = "true", hang_after = '50ms' }
log.level = "debug"
listener.b = { bind = "[::]:80", pool = "x", ipv6_only = true, max_duration_jitter = 0 }
listener.a.bind = "0.0.0.0:80"
listener.a.pool = "x"
pool."x".backends = [
  "${DB}:5432 weight=3", # the "main" one
  'db2:5432   backup',
  "[::1]:5432",
]
pool.x.source = "::ffff:10.0.0.9"
pool.unused.backends = ["a:1"]
[limits]
max_sessions = 1_000
`), Environment{"HOST": "edge-1.example", "DB": "db1"})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, l := range c.Listeners {
		names = append(names, l.Name)
	}
	if strings.Join(names, " ") != "b a" {
		t.Errorf("listeners %v are not in the order of the file", names)
	}
	for _, check := range []struct {
		what string
		ok   bool
	}{
		{"instance", c.Instance == "edge-1.example"},
		{"count", c.Acceptors.Number() == 4},
		{"pin_cpus", c.Acceptors.PinCPUs},
		{"hang_after", c.Acceptors.HangAfter == 50*time.Millisecond},
		{"level", c.Log.Level == "debug"},
		{"max_sessions", c.Limits.MaxSessions == 1000},
		{"max_duration_jitter", c.Listeners[0].MaxDurationJitter == 0},
		{"backend 0", c.Pools[0].Backends[0] == (Backend{Address: "db1:5432", Weight: 3})},
		{"backend 1", c.Pools[0].Backends[1] == Backend{Address: "db2:5432", Weight: 1, Backup: true}},
		{"backend 2", c.Pools[0].Backends[2] == Backend{Address: "[::1]:5432", Weight: 1}},
		{"source", c.Pools[0].Source[0].String() == "10.0.0.9"},
	} {
		if !check.ok {
			t.Errorf("%s is wrong in %+v", check.what, c)
		}
	}
}

func TestNumberOfAcceptors(t *testing.T) {
	if n := (Acceptors{Count: 7}).Number(); n != 7 {
		t.Errorf("7 acceptors are %d", n)
	}
	if n := (Acceptors{}).Number(); n < 1 || n > maxAcceptors {
		t.Errorf("auto is %d", n)
	}
}

func TestLoadMissing(t *testing.T) {
	_, _, err := Load("testdata/missing.toml", nil)
	if err == nil || err.Error() != "testdata/missing.toml: no such file or directory" {
		t.Error(err)
	}
}

// FuzzParse: no file makes it panic, and what it accepts it can write and read
// again.
func FuzzParse(f *testing.F) {
	f.Add(smallFile)
	f.Add("[[listener]]\n[Pool.\"\"]\nbackends=[1,\"${\"]\nlistener.x=1")
	f.Add("\"\"=1\n[listener.web.bind]\n[pool.web]\nBackends=[\"a:1 b\"]\nbackends={}")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse("fuzz.toml", []byte(text), nil)
		if err != nil {
			if err.Error() == "" {
				t.Error("refused without a word")
			}
			return
		}
		if again, err := Parse("again.toml", []byte(c.TOML()), nil); err != nil || again.TOML() != c.TOML() {
			t.Errorf("%q\nwas written as %q\nand read with %v", text, c.TOML(), err)
		}
	})
}

// A health table without a word on what to ask asks whether connections are taken; a pool
// without the table is not asked.
func TestHealthTableAlone(t *testing.T) {
	const text = "[listener.web]\nbind = \":80\"\npool = \"p\"\n[pool.p]\nbackends = [\"a:1\"]\n"
	for more, want := range map[string]string{
		"": CheckOff, "[pool.p.health]\ninterval = \"1s\"": CheckTCP, "[pool.p.health]\ncheck = \"off\"": CheckOff, "[pool.p.health]": CheckTCP,
	} {
		c, err := Parse("f.toml", []byte(text+more), nil)
		if err != nil {
			t.Errorf("%q: %v", more, err)
		} else if got := c.Pools[0].Health.Check; got != want {
			t.Errorf("%q: check %q, want %q", more, got, want)
		}
	}
}
