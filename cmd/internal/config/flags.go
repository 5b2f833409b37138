package config

import (
	"flag"
	"fmt"
	"slices"
	"strings"
)

// Flags is what the command line said. Use it as
//
//	var f config.Flags
//	f.Bind(flagSet)
//	flagSet.Parse(args)
//	c, digest, err := config.NewSource(f, config.NewEnvironment(os.Environ())).Read()
type Flags struct {
	given map[string][]string // by flag, in the order given
}

// switches are the flags. Each has a twin in the environment: SLUICE_ and its
// name in upper case. Those with a path of listener.main or pool.main set up a
// service without a file.
var switches = []struct {
	name string
	path string // of the option it sets
	help string
}{
	{"c", "", "configuration `FILE`"},
	{"listen", "listener.main.bind", "without a file: `ADDRESS` to listen on, such as :5432"},
	{"backend", "pool.main.backends", "without a file: `BACKEND`, such as \"db2:5432 weight=2\"; or backup; may be repeated; commas in the variable"},
	{"pick", "pool.main.pick", "`WORD` round_robin, least_sessions, source_hash, random2, first or fastest: which backend gets a session"},
	{"connect-timeout", "pool.main.connect_timeout", "`DURATION` one connect may take"},
	{"relay", "listener.main.relay", "`WORD` auto, splice or copy"},
	{"wait-for-backend", "listener.main.wait_for_backend", "`DURATION` that clients are held for while no backend takes them; 0s = not at all"},
	{"max-waiting", "listener.main.max_waiting", "`NUMBER` of clients at a time that wait-for-backend may hold"},
	{"idle-timeout", "listener.main.idle_timeout", "`DURATION` without a byte after which a session ends"},
	{"acceptors", "acceptors.count", "`NUMBER` of acceptors, or auto: one per CPU"},
	{"mode", "acceptors.mode", "`WORD` goroutine or process: where acceptors run"},
	{"steering", "acceptors.steering", "`WORD` auto, least, round_robin, cpu or hash: who gets a connection"},
	{"scheduling", "acceptors.scheduling", "`WORD` auto, batch or normal: how the kernel schedules busy acceptors"},
	{"pin-cpus", "acceptors.pin_cpus", "keep each acceptor on a CPU of its own"},
	{"admin", "admin.listen", "`ADDRESS` of the admin endpoint; empty = off"},
	{"admin-socket", "admin.socket", "`PATH` of the unix socket for verbs, or auto: in the run directory; empty = off"},
	{"reload-watch", "reload.watch", "reload whenever the file changes"},
	{"log-level", "log.level", "`WORD` debug, info, warn or error"},
	{"log-format", "log.format", "`WORD` auto, text or json"},
	{"access-log", "log.access", "`WORD` off, errors or all: sessions that have a line in the access log"},
	{"access-log-to", "log.access_to", "`PLACE` of it: stdout, an absolute path, syslog:udp:HOST:PORT, syslog:tcp:HOST:PORT or syslog:unix:PATH"},
	{"access-log-format", "log.access_format", "`FORMAT` of it: json, text or a template such as \"{time} {client} {reason}\""},
	{"max-sessions", "limits.max_sessions", "`NUMBER` of sessions at a time; 0 = no limit"},
	{"drain-delay", "limits.drain_delay", "`DURATION` in which sluice, told to stop, is not ready but still takes connections"},
	{"drain-timeout", "limits.drain_timeout", "`DURATION` sessions get to end when sluice stops"},
	{"instance", "instance", "`NAME` of this sluice in metrics"},
}

// Bind declares the flags of these names; none = all. It only collects what is given;
// Source.Read judges it, so that all faults are reported at once and in the same words
// as a file's.
func (f *Flags) Bind(fs *flag.FlagSet, names ...string) {
	f.given = make(map[string][]string)
	for _, sw := range switches {
		if len(names) > 0 && !slices.Contains(names, sw.name) {
			continue
		}
		collect := func(text string) error {
			f.given[sw.name] = append(f.given[sw.name], text)
			return nil
		}
		help := sw.help + " [" + variableOf(sw.name) + "]"
		if o, _ := optionAt(patternOf(sw.path)); o.kind.must == boolean.must {
			fs.BoolFunc(sw.name, help, collect)
		} else {
			fs.Func(sw.name, help, collect)
		}
	}
}

// FlagWords are the values of a flag that takes one of few; nil = it does not.
func FlagWords(name string) []string {
	for _, sw := range switches {
		if o, is := optionAt(patternOf(sw.path)); is && sw.name == name && o.kind.must != boolean.must {
			return o.kind.words
		}
	}
	return nil
}

// FlagGroup is a title and flags that belong together.
type FlagGroup struct {
	Title string
	Names []string
}

// FlagGroups are the flags as help shows them, those used most first.
func FlagGroups() []FlagGroup {
	groups := []FlagGroup{{Title: "What to run:"}, {Title: "Without a file, also:"}, {Title: "Acceptors:"}, {Title: "The service:"}}
	for i, sw := range switches {
		at := &groups[3]
		switch {
		case i < 3:
			at = &groups[0]
		case patternOf(sw.path) != sw.path:
			at = &groups[1]
		case strings.HasPrefix(sw.path, "acceptors."):
			at = &groups[2]
		}
		at.Names = append(at.Names, sw.name)
	}
	return groups
}

// patternOf is the pattern of a switch's path.
func patternOf(path string) string { return strings.Replace(path, ".main.", ".*.", 1) }

// shorthand adds the listener and the pool that stand for those of a file.
func (b *builder) shorthand() scope {
	l := DefaultListener("main")
	l.Pool = "main"
	b.origin["listener.main.pool"] = Fault{}
	b.config.Listeners = []Listener{l}
	b.config.Pools = []Pool{DefaultPool("main")}
	return scope{c: &b.config, l: &b.config.Listeners[0], p: &b.config.Pools[0]}
}

// tell sets the option at path to what a flag or variable said. s.l and s.p are
// nil if there is a file.
func (b *builder) tell(path string, is said, s scope) {
	at := Fault{Key: is.label}
	pattern := patternOf(path)
	switch {
	case len(is.values) > 1 && path != "pool.main.backends":
		b.origin[path] = at
		b.fault(at, "is given %d times, but takes one value", len(is.values))
	case path == "": // -c has had its effect
	case pattern != path && s.l == nil:
		b.fault(at, "cannot be combined with -c FILE (or SLUICE_CONFIG): write it in the file")
	case path == "pool.main.backends":
		b.origin[path] = at
		places := make([]Fault, len(is.values))
		for i, text := range is.values {
			places[i] = Fault{Key: fmt.Sprintf("%s %q", is.label, text)}
		}
		b.setBackends(s.p, is.values, places)
	default:
		o, _ := optionAt(pattern)
		b.origin[path] = at
		b.set(o, s, is.values[0], at)
	}
}

// said is what one flag or its variable said.
type said struct {
	label  string   // how the user wrote it: --listen or SLUICE_LISTEN
	values []string // nil = not given
}

// told gathers what is said by flag, and where a flag is silent by variable. An empty
// variable says something only where empty is a value, as for SLUICE_ADMIN: compose
// files set variables to nothing when they mean "as usual".
func (f Flags) told(env Environment) map[string]said {
	told := make(map[string]said)
	for _, sw := range switches {
		variable := variableOf(sw.name)
		if values := f.given[sw.name]; values != nil {
			label := "--" + sw.name
			if sw.name == "c" {
				label = "-c"
			}
			told[sw.name] = said{label, values}
		} else if text, set := env[variable]; set && (text != "" || takesEmpty(sw.path)) {
			values := []string{text}
			if sw.name == "backend" {
				values = strings.Split(text, ",")
			}
			told[sw.name] = said{variable, values}
		}
	}
	return told
}

// takesEmpty is true if the option at a switch's path may be "".
func takesEmpty(path string) bool {
	o, _ := optionAt(patternOf(path))
	if o.kind.parse == nil {
		return false
	}
	_, ok := o.kind.parse("")
	return ok
}
