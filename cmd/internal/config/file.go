package config

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// Parse reads and checks the text of a file; name stands for it in messages. The
// error is Errors. env is for ${VAR}.
func Parse(name string, data []byte, env Environment) (Config, error) {
	b := newBuilder(env)
	if b.parse(name, string(data)) {
		return b.finish()
	}
	return Config{}, b.faults
}

// load is false if the file cannot be read or is not TOML.
func (b *builder) load(path string) bool {
	data, err := readFile(path, pipeWithin)
	if err != nil {
		b.fault(Fault{File: path}, "%v", err)
		return false
	}
	b.digest = digestOf(data)
	return b.parse(path, string(data))
}

func (b *builder) parse(name, text string) bool {
	f := &file{builder: b, name: name, text: trimBOM(text)}
	f.cursor.text = f.text
	scanned := scan(f.text)
	f.at = scanned.at
	b.origin[""] = Fault{File: name}
	var tree map[string]any
	if _, err := toml.Decode(text, &tree); err != nil {
		f.syntax(err, scanned)
		return false
	}
	f.table(nil, "", tree, scope{c: &b.config})
	return true
}

// file walks the tree of one TOML file along the table of options.
type file struct {
	*builder
	name   string
	text   string
	at     map[string]int // from the scanner
	cursor cursor
}

// place is where a path stands in the file.
func (f *file) place(path string) Fault {
	line, col := f.cursor.lineCol(f.at[path])
	return Fault{File: f.name, Line: line, Col: col, Key: path}
}

// syntax reports what toml says. It stops at the first error, and so must we.
func (f *file) syntax(err error, scanned *scanner) {
	at := Fault{File: f.name}
	var parse toml.ParseError
	if !errors.As(err, &parse) {
		f.fault(at, "%v", err)
		return
	}
	at.Line, at.Col = lineCol(f.text, parse.Position.Start)
	if key, twice := strings.CutSuffix(parse.Message, "' has already been defined."); twice {
		at.Key = strings.TrimPrefix(key, "Key '")
		if off, known := scanned.at[at.Key]; known {
			line, _ := lineCol(f.text, off)
			f.fault(at, "is already in line %d", line)
			return
		}
	}
	hint := ""
	if strings.HasPrefix(parse.Message, "expected value") {
		hint = `; text stands in quotes, such as "auto"`
	}
	f.fault(at, "not TOML: %s%s", parse.Message, hint)
}

// table goes through the keys of one table. path is its own, and pattern the
// same with * for the names that users choose.
func (f *file) table(path toml.Key, pattern string, t map[string]any, s scope) {
	for _, key := range f.inOrder(path, t) {
		value := t[key]
		meant, known := f.meant(path, key, pattern, t)
		if !known {
			continue
		}
		f.entry(child(path, meant), strings.TrimPrefix(pattern+"."+meant, "."), value, s)
	}
}

// entry reads the value of a known key: an option or a table.
func (f *file) entry(path toml.Key, pattern string, value any, s scope) {
	at := f.place(path.String())
	f.origin[path.String()] = at
	if o, is := optionAt(pattern); is {
		f.option(o, s, value, at)
		return
	}
	named := slices.Equal(keysOf(pattern), []string{"*"})
	example := header(pattern)
	if named {
		example = header(pattern + ".*")
	}
	t, isTable := value.(map[string]any)
	switch {
	case !isTable:
		f.fault(at, "must be a table, written %s; got %s", example, show(value))
		f.broken[pattern] = true
	case named:
		f.named(path, pattern, t, s)
	default:
		f.table(path, pattern, t, s)
	}
}

// named goes through [listener.NAME], [pool.NAME] and, within the listener of s,
// [listener.NAME.route.NAME].
func (f *file) named(path toml.Key, pattern string, t map[string]any, s scope) {
	for _, name := range f.inOrder(path, t) {
		inner := child(path, name)
		at := f.place(inner.String())
		f.origin[inner.String()] = at
		body, isTable := t[name].(map[string]any)
		if !isTable {
			if slices.Contains(keysOf(pattern+".*"), name) {
				f.fault(at, "must stand in a table with a name, %s", header(pattern+".*"))
			} else {
				f.fault(at, "must be a table, written %s; got %s", header(pattern+".*"), show(t[name]))
			}
			f.broken[pattern] = true
			continue
		}
		if !nameRule.MatchString(name) {
			f.fault(at, "a name must be %s", nameMust)
		}
		switch pattern {
		case "listener":
			l := DefaultListener(name)
			f.table(inner, "listener.*", body, scope{l: &l})
			f.config.Listeners = append(f.config.Listeners, l)
		case "listener.*.route":
			r := Route{Name: name}
			f.table(inner, "listener.*.route.*", body, scope{r: &r})
			s.l.Routes = append(s.l.Routes, r)
		default:
			p := DefaultPool(name)
			f.table(inner, "pool.*", body, scope{p: &p})
			if _, asks := body["health"].(map[string]any); asks && !f.isSet(inner.String()+".health.check") {
				p.Health.Check = CheckTCP // the table means that checks are wanted
			}
			f.config.Pools = append(f.config.Pools, p)
		}
	}
}

// isSet says whether the file has a key.
func (f *file) isSet(path string) bool {
	_, set := f.origin[path]
	return set
}

// option expands variables and sets one option.
func (f *file) option(o option, s scope, value any, at Fault) {
	if _, isList := o.field(s).(*[]Backend); isList {
		f.backends(s.p, o, value, at)
		return
	}
	if text, ok := value.(string); ok {
		expanded, err := expand(text, f.lookup)
		if err != nil {
			f.fault(at, "%v", err)
			return
		}
		value = expanded
	}
	if list, is := value.([]any); is {
		if o.kind.each != nil && !f.each(o, list, at) {
			return
		}
		expanded, err := f.expandAll(list)
		if err != nil {
			f.fault(at, "%v", err)
			return
		}
		value = expanded
	}
	f.set(o, s, value, at)
}

// expandAll expands variables in the texts of a list. One that comes out empty is left
// out: a file can have places for more than there are.
func (f *file) expandAll(list []any) (all []any, err error) {
	for _, e := range list {
		if text, is := e.(string); is {
			if e, err = expand(text, f.lookup); err != nil {
				return nil, err
			}
		}
		if e != "" {
			all = append(all, e)
		}
	}
	return all, nil
}

// backends sets a list whose elements have places of their own.
func (f *file) backends(p *Pool, o option, value any, at Fault) {
	elements, ok := value.([]any)
	if !ok {
		f.fault(at, "must be %s; got %s", o.kind.must, show(value))
		return
	}
	f.isEmpty[pathOf("pool", p.Name)] = len(elements) == 0
	var texts []string
	var places []Fault
	for i, e := range elements {
		place := f.place(elementKey(at.Key, i))
		text, ok := e.(string)
		if !ok {
			f.fault(place, `must be text such as "10.0.0.1:8080"; got %s`, show(e))
			continue
		}
		text, err := expand(text, f.lookup)
		if err != nil {
			f.fault(place, "%v", err)
			continue
		}
		texts, places = append(texts, text), append(places, place)
	}
	f.setBackends(p, texts, places)
}

// meant is the legal key that key stands for. A misspelt one is reported, and
// read as the one that was meant so that nothing is reported twice.
func (f *file) meant(path toml.Key, key, pattern string, t map[string]any) (string, bool) {
	legal := keysOf(pattern)
	if slices.Contains(legal, key) {
		return key, true
	}
	written := child(path, key).String()
	at := f.place(written)
	near := nearest(key, legal)
	homes := tablesWith(key)
	switch {
	case near != "" && strings.EqualFold(near, key):
		f.fault(at, "unknown key: upper and lower case differ, write %q", near)
	case near != "":
		f.fault(at, "unknown key, did you mean %q?", near)
	case len(homes) > 0:
		f.fault(at, "unknown key here, it belongs to %s", strings.Join(homes, " or "))
	default:
		f.fault(at, "unknown key, known ones are %s", strings.Join(legal, ", "))
	}
	if _, also := t[near]; near == "" || also {
		return "", false
	}
	f.alias(written, child(path, near).String())
	return near, true
}

// alias makes places below one path be found below another as well.
func (f *file) alias(written, meant string) {
	for path, off := range f.at {
		if rest, below := strings.CutPrefix(path, written); below && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			f.at[meant+rest] = off
		}
	}
}

// inOrder lists the keys of a table as they stand in the file.
func (f *file) inOrder(path toml.Key, t map[string]any) []string {
	keys := make([]string, 0, len(t))
	for key := range t {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b string) int {
		return cmp.Compare(f.at[child(path, a).String()], f.at[child(path, b).String()])
	})
	return keys
}

func child(path toml.Key, key string) toml.Key {
	return append(path[:len(path):len(path)], key)
}
