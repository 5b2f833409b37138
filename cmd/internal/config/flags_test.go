package config

import (
	"flag"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

const smallFile = `
[acceptors]
count = 2
mode = "process"
[listener.web]
bind = ":8080"
pool = "web"
[pool.web]
backends = ["10.0.0.1:8080"]
`

func sourceOf(t *testing.T, vars Environment, args ...string) *Source {
	t.Helper()
	var f Flags
	fs := flag.NewFlagSet("run", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	f.Bind(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return NewSource(f, vars)
}

func fromArgs(t *testing.T, vars Environment, args ...string) (Config, error) {
	t.Helper()
	c, _, err := sourceOf(t, vars, args...).Read()
	return c, err
}

func TestFlagsWithoutFile(t *testing.T) {
	want := Default()
	l, p := DefaultListener("main"), DefaultPool("main")
	l.Bind, l.Pool, l.IdleTimeout = ":5432", "main", time.Hour
	l.WaitForBackend, l.MaxWaiting = 30*time.Second, 5
	p.Pick = PickLeastSessions
	p.Backends = []Backend{{Address: "db1:5432", Weight: 1}, {Address: "db2:5432", Weight: 2}}
	want.Listeners, want.Pools = []Listener{l}, []Pool{p}
	want.Acceptors.Count, want.Acceptors.PinCPUs = 4, true
	want.Admin.Listen = ""

	got, err := fromArgs(t, nil, "--listen", ":5432", "--backend", "db1:5432", "--backend", "db2:5432 weight=2",
		"--idle-timeout=1h", "--wait-for-backend=30s", "--max-waiting", "5", "--pick", "least_sessions", "--acceptors", "4", "--pin-cpus", "--admin", "")
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("flags: %v\ngot  %+v\nwant %+v", err, got, want)
	}

	got, err = fromArgs(t, Environment{
		"SLUICE_LISTEN": ":5432", "SLUICE_BACKEND": "db1:5432, db2:5432 weight=2", "SLUICE_IDLE_TIMEOUT": "1h",
		"SLUICE_WAIT_FOR_BACKEND": "30s", "SLUICE_MAX_WAITING": "5",
		"SLUICE_PICK": "least_sessions", "SLUICE_ACCEPTORS": "64", "SLUICE_PIN_CPUS": "true",
	}, "--acceptors", "4", "--admin", "")
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("variables: %v\ngot  %+v\nwant %+v", err, got, want)
	}
}

// Each layer overwrites the one before it.
func TestFlagsOverFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sluice.toml")
	if err := os.WriteFile(path, []byte(smallFile), 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := fromArgs(t, Environment{"SLUICE_CONFIG": path, "SLUICE_MODE": "goroutine", "SLUICE_ACCEPTORS": "3"},
		"--acceptors", "4")
	if err != nil {
		t.Fatal(err)
	}
	if c.Acceptors.Count != 4 || c.Acceptors.Mode != ModeGoroutine || c.Listeners[0].Bind != ":8080" {
		t.Errorf("got %+v", c)
	}
}

func TestFlagFaults(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sluice.toml")
	if err := os.WriteFile(path, []byte(smallFile), 0o644); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(t.TempDir(), "missing.toml")
	service := []string{"--listen", ":1", "--backend", "a:1"}
	for _, test := range []struct {
		name string
		vars Environment
		args []string
		want string
	}{
		{"nothing", nil, nil, `nothing to run: give -c FILE, or --listen ADDRESS and --backend HOST:PORT`},
		{"half", nil, service[:2], `nothing to run: give -c FILE, or --listen ADDRESS and --backend HOST:PORT`},
		{"file and listen", nil, []string{"-c", path, "--listen", ":1"},
			`--listen: cannot be combined with -c FILE (or SLUICE_CONFIG): write it in the file`},
		{"file and variable", Environment{"SLUICE_BACKEND": "a:1"}, []string{"-c", path},
			`SLUICE_BACKEND: cannot be combined with -c FILE (or SLUICE_CONFIG): write it in the file`},
		{"no such file", nil, []string{"-c", missing}, missing + `: no such file or directory`},
		{"backend word", nil, []string{"--listen", ":1", "--backend", "db2:5432 wieght=2"},
			`--backend "db2:5432 wieght=2": unknown word "wieght=2", did you mean "weight"? (weight=N, max_sessions=N and backup may follow HOST:PORT)`},
		{"variable", Environment{"SLUICE_MODE": "proces"}, service,
			`SLUICE_MODE: must be one of "goroutine", "process"; got "proces", did you mean "process"?`},
		{"boolean", nil, append(service, "--pin-cpus=yes"), `--pin-cpus: must be true or false; got "yes"`},
		{"twice", nil, append(service, "--listen", ":2"), `--listen: is given 2 times, but takes one value`},
		{"file twice", nil, []string{"-c", path, "-c", path}, `-c: is given 2 times, but takes one value`},
		{"overlap", nil, append(service, "--admin", ":1"), `--listen: ":1" overlaps with admin.listen ":1"`},
		{"number without time", nil, append(service, "--max-waiting", "5"),
			`--max-waiting: needs wait_for_backend, such as wait_for_backend = "30s": without it no session waits`},
		{"several", nil, append(service, "--mode", "x", "--acceptors", "0"),
			"--acceptors: must be \"auto\" or a whole number from 1 to 64; got \"0\"\n" +
				`--mode: must be one of "goroutine", "process"; got "x"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := fromArgs(t, test.vars, test.args...)
			if err == nil || err.Error() != test.want {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}

func TestPath(t *testing.T) {
	vars := Environment{"SLUICE_CONFIG": "b.toml"}
	if got := sourceOf(t, nil).Path(); got != "" {
		t.Errorf("no file is %q", got)
	}
	if got := sourceOf(t, vars).Path(); got != "b.toml" {
		t.Errorf("by variable %q", got)
	}
	if got := sourceOf(t, vars, "-c", "a.toml").Path(); got != "a.toml" {
		t.Errorf("by flag %q", got)
	}
}

// Every flag leads to an option that a file may have, too.
func TestFlagsAreOptions(t *testing.T) {
	for _, sw := range switches {
		if sw.name == "c" {
			continue
		}
		if _, is := optionAt(strings.Replace(sw.path, ".main.", ".*.", 1)); !is {
			t.Errorf("--%s leads to %s, which is no option", sw.name, sw.path)
		}
	}
}
