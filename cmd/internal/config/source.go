package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Source is where a Config comes from: a file or none, flags, variables. A service
// keeps it and reads it again at each reload; what flags and variables said goes on
// winning over the file.
type Source struct {
	told map[string]said
	env  Environment
}

// NewSource holds what a command line and the environment say.
func NewSource(f Flags, env Environment) *Source {
	return &Source{told: f.told(env), env: env}
}

// Load reads and checks a file as -c does. See Source.Read.
func Load(path string, env Environment) (Config, string, error) {
	return NewSource(Flags{given: map[string][]string{"c": {path}}}, env).Read()
}

// At is a Source with another file, and with all that was said beside the first that may
// stand beside one.
func (s *Source) At(path string) *Source {
	told := maps.Clone(s.told)
	for _, sw := range switches {
		if patternOf(sw.path) != sw.path {
			delete(told, sw.name)
		}
	}
	told["c"] = said{"-c", []string{path}}
	return &Source{told: told, env: s.env}
}

// Path is the configuration file; "" = none.
func (s *Source) Path() string {
	if file := s.told["c"]; file.values != nil {
		return file.values[0]
	}
	return ""
}

// Again says why there is no use in another Read; nil = there is.
func (s *Source) Again() error {
	path := s.Path()
	if path == "" {
		return errors.New("the configuration came from flags and variables alone, which do not change while it runs")
	}
	if err := rereadable(path); err != nil {
		return fmt.Errorf("%s %w", path, err)
	}
	return nil
}

// Read builds the Config: defaults, then the file, then variables, then flags. Without
// a file --listen and --backend make one listener and one pool, both named main. The
// file is read once, and digest names the very bytes that were: the first 12 hex digits
// of their SHA-256, "" without a file. The error is Errors, and digest holds all the
// same if the file could be read.
func (s *Source) Read() (c Config, digest string, err error) {
	b, err := s.build()
	if err != nil {
		return Config{}, b.digest, err
	}
	return b.config, b.digest, nil
}

// build is Read, with what is known of where each value comes from.
func (s *Source) build() (*builder, error) {
	b := newBuilder(s.env)
	scope := scope{c: &b.config}
	switch file, listen, backend := s.told["c"], s.told["listen"], s.told["backend"]; {
	case file.values != nil:
		if !b.load(s.Path()) {
			return b, b.faults
		}
	case listen.values != nil && backend.values != nil:
		scope = b.shorthand()
	default:
		b.fault(Fault{}, "nothing to run: give -c FILE, or --listen ADDRESS and --backend HOST:PORT")
		return b, b.faults
	}
	for _, sw := range switches {
		if is, given := s.told[sw.name]; given {
			b.tell(sw.path, is, scope)
		}
	}
	b.checkVariables()
	b.checkWatch(s)
	for _, l := range b.config.Listeners {
		b.checkAccess(l)
	}
	_, err := b.finish()
	return b, err
}

// Admin is where the sluice that runs by this Source can be asked. It takes no more
// than that from the file: a sluice can be reached while its file has faults elsewhere,
// and without the rest of its flags. The error is Errors.
func (s *Source) Admin() (Admin, error) {
	b := newBuilder(s.env)
	if s.told["c"].values != nil && !b.load(s.Path()) {
		return Admin{}, b.faults
	}
	b.faults = slices.DeleteFunc(b.faults, func(f Fault) bool {
		return f.Key != "admin" && !strings.HasPrefix(f.Key, "admin.")
	})
	for _, sw := range switches {
		if is, given := s.told[sw.name]; given && strings.HasPrefix(sw.path, "admin.") {
			b.tell(sw.path, is, scope{c: &b.config})
		}
	}
	if len(b.faults) > 0 {
		b.faults.sort()
		return Admin{}, b.faults
	}
	return b.config.Admin, nil
}

// checkWatch refuses to watch what cannot be read again.
func (b *builder) checkWatch(s *Source) {
	if !b.config.Reload.Watch {
		return
	}
	if err := s.Again(); err != nil {
		b.fault(b.origin["reload.watch"], "there is nothing to watch: %v", err)
	}
}
