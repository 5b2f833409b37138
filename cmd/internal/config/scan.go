package config

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
)

// scanner finds where the keys of a TOML text stand, which the toml package
// knows but does not tell. It relies on toml to refuse what is not TOML: for
// every text that toml accepts its paths equal MetaData.Keys(); for others it
// ends, and what it found up to the error is right.
type scanner struct {
	text  string
	off   int        // of the next byte
	paths [][]string // of each header and key, in order
	// at is the byte offset of the first mention of a path (in the notation of
	// toml.Key.String), of each of its parents, and, as "path[i]", of the elements
	// of its array.
	at map[string]int
}

func scan(text string) *scanner {
	s := &scanner{text: text, at: make(map[string]int)}
	var table []string
	for s.skip(" \t\r\n"); s.off < len(s.text); s.skip(" \t\r\n") {
		switch s.text[s.off] {
		case '#':
			s.line()
		case '[':
			s.skip("[")
			table = s.key(nil)
			s.line()
		default:
			s.advance(func() { s.pair(table) })
		}
	}
	return s
}

// trimBOM cuts the marks off that toml cuts off before it counts offsets.
func trimBOM(text string) string {
	for _, mark := range []string{"\xff\xfe", "\xfe\xff", "\xef\xbb\xbf"} {
		if rest, found := strings.CutPrefix(text, mark); found {
			return rest
		}
	}
	return text
}

// lineCol turns a byte offset into a line and a column, both from 1. Columns
// count characters, as editors do.
func lineCol(text string, off int) (line, col int) {
	c := cursor{text: text}
	return c.lineCol(off)
}

// cursor is a lineCol that goes on from where it was last: keys are asked for in the
// order of the file, and 65536 backends may stand in one line of it.
type cursor struct {
	text  string
	off   int // what is counted so far
	lines int // line feeds before off
	chars int // characters between the last of them and off
}

func (c *cursor) lineCol(off int) (line, col int) {
	off = min(max(off, 0), len(c.text))
	if off < c.off {
		*c = cursor{text: c.text}
	}
	between := c.text[c.off:off]
	if last := strings.LastIndexByte(between, '\n'); last >= 0 {
		c.lines += strings.Count(between, "\n")
		c.chars = 0
		between = between[last+1:]
	}
	c.chars += utf8.RuneCountInString(between)
	c.off = off
	return 1 + c.lines, 1 + c.chars
}

// pair reads "key = value" inside the table of prefix.
func (s *scanner) pair(prefix []string) {
	path := s.key(prefix)
	if s.next("=") {
		s.value(path)
	}
}

// key reads a dotted key and notes its path below prefix.
func (s *scanner) key(prefix []string) []string {
	path := prefix[:len(prefix):len(prefix)]
	for {
		s.skip(" \t")
		off := s.off
		path = append(path, s.part())
		s.note(toml.Key(path).String(), off)
		if s.skip(" \t"); !s.next(".") {
			s.paths = append(s.paths, path)
			return path
		}
	}
}

func (s *scanner) note(path string, off int) {
	if _, known := s.at[path]; !known {
		s.at[path] = off
	}
}

// part reads one part of a key: bare or quoted.
func (s *scanner) part() string {
	start := s.off
	if s.off < len(s.text) && strings.IndexByte(`"'`, s.text[s.off]) >= 0 {
		s.quoted()
		var decoded struct{ K string }
		// On an error the part stays empty: toml refuses the whole text as well.
		_, _ = toml.Decode("k="+s.text[start:s.off], &decoded)
		return decoded.K
	}
	s.skip("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
	return s.text[start:s.off]
}

// value skips the value of path, and notes the keys and elements inside.
func (s *scanner) value(path []string) {
	s.skip(" \t")
	switch {
	case s.next("["):
		element := 0
		s.list("]", func() {
			s.note(elementKey(toml.Key(path).String(), element), s.off)
			element++
			s.value(path)
		})
	case s.next("{"):
		s.list("}", func() { s.pair(path) })
	case s.off < len(s.text) && strings.IndexByte(`"'`, s.text[s.off]) >= 0:
		s.quoted()
	default: // a number, a date (which may hold a blank), true, false
		s.until(",]}#\n")
	}
}

// elementKey names an element of an array. No path looks so: toml.Key.String
// would quote the brackets.
func elementKey(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

// list reads items up to the closing bracket.
func (s *scanner) list(closing string, item func()) {
	for {
		s.skip(" \t\r\n,")
		switch {
		case s.off == len(s.text) || s.next(closing):
			return
		case s.text[s.off] == '#':
			s.line()
		default:
			s.advance(item)
		}
	}
}

// quoted skips a string in any of TOML's four forms.
func (s *scanner) quoted() {
	quote := s.text[s.off : s.off+1]
	escapes := quote == `"`
	end := quote
	if triple := strings.Repeat(quote, 3); strings.HasPrefix(s.text[s.off:], triple) {
		end = triple
	}
	s.off += len(end)
	for s.off < len(s.text) && !s.next(end) {
		if escapes && s.text[s.off] == '\\' {
			s.off++
		}
		s.off++
	}
	s.off = min(s.off, len(s.text))
	if len(end) == 3 {
		s.skip(quote) // quotes just before the closing three belong to the string
	}
}

// advance runs read, and skips one byte if it could make nothing of the text.
func (s *scanner) advance(read func()) {
	before := s.off
	if read(); s.off == before {
		s.off++
	}
}

// next consumes word if the text goes on with it.
func (s *scanner) next(word string) bool {
	found := strings.HasPrefix(s.text[s.off:], word)
	if found {
		s.off += len(word)
	}
	return found
}

func (s *scanner) skip(chars string) {
	s.off = len(s.text) - len(strings.TrimLeft(s.text[s.off:], chars))
}

func (s *scanner) until(chars string) {
	if i := strings.IndexAny(s.text[s.off:], chars); i >= 0 {
		s.off += i
	} else {
		s.off = len(s.text)
	}
}

func (s *scanner) line() { s.until("\n") }
