package accesslog

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The formats that have a name; everything else is a template.
const (
	JSON = "json" // one object a line
	Text = "text" // name=value, separated by spaces
)

// Format writes lines. It is immutable.
type Format struct {
	parts []part // of a template
	json  bool
}

// part is a field of a template, or text between fields.
type part struct {
	text  string
	field *field // nil = text
}

// ParseFormat reads "json", "text" or a template: text with fields in braces, such as
// "{time} {client} {reason}". A brace itself is written twice. What a record does not
// have is "-" there; JSON and text leave it out.
func ParseFormat(text string) (*Format, error) {
	switch text {
	case JSON:
		return &Format{json: true}, nil
	case Text:
		return &Format{}, nil
	}
	if strings.ContainsFunc(text, unicode.IsControl) {
		return nil, fmt.Errorf("a template is one line of text")
	}
	f := &Format{}
	literal, named := "", false
	for rest := text; rest != ""; {
		i := strings.IndexAny(rest, "{}")
		if i < 0 {
			literal, rest = literal+rest, ""
			break
		}
		literal += rest[:i]
		switch c := rest[i]; {
		case i+1 < len(rest) && rest[i+1] == c:
			literal += string(c)
			rest = rest[i+2:]
		case c == '}':
			return nil, fmt.Errorf(`a "}" stands alone: write it twice`)
		default:
			name, after, closed := strings.Cut(rest[i+1:], "}")
			if !closed {
				return nil, fmt.Errorf(`a "{" has no "}": write it twice if it is text`)
			}
			at := slices.IndexFunc(fields, func(f field) bool { return f.name == name })
			if at < 0 {
				return nil, fmt.Errorf("there is no field {%s}; there are %s", name, strings.Join(FieldNames(), ", "))
			}
			f.parts = append(f.parts, part{text: literal}, part{field: &fields[at]})
			literal, rest, named = "", after, true
		}
	}
	if !named {
		return nil, fmt.Errorf(`%q is neither "json" nor "text", nor a template with a field such as {client}`, text)
	}
	f.parts = append(f.parts, part{text: literal + "\n"})
	return f, nil
}

// FieldNames lists the fields in the order of a line.
func FieldNames() (names []string) {
	for i := range fields {
		names = append(names, fields[i].name)
	}
	return names
}

// append adds the line of e.
func (f *Format) append(b []byte, e *entry) []byte {
	switch {
	case f.parts != nil:
		return f.template(b, e)
	case f.json:
		return appendJSON(b, e)
	}
	return appendPairs(b, e)
}

func (f *Format) template(b []byte, e *entry) []byte {
	if e.gap { // it may have no field that tells it
		return fmt.Appendf(b, "# %d lines were lost\n", e.lost)
	}
	for i := range f.parts {
		p := &f.parts[i]
		if p.field == nil {
			b = append(b, p.text...)
			continue
		}
		at := len(b)
		if b = p.field.append(b, e); len(b) == at {
			b = append(b, '-')
		}
	}
	return b
}

func appendJSON(b []byte, e *entry) []byte {
	first := len(b)
	for i := range fields {
		f := &fields[i]
		begin := len(b)
		b = append(b, ',', '"')
		b = append(b, f.name...)
		b = append(b, '"', ':')
		if f.text {
			b = append(b, '"')
		}
		at := len(b)
		switch b = f.append(b, e); {
		case len(b) == at:
			b = b[:begin]
		case f.text && plain(b[at:]):
			b = append(b, '"')
		case f.text:
			b = appendQuoted(b[:at-1], bytes.Clone(b[at:]))
		}
	}
	b[first] = '{' // was the first comma
	return append(b, '}', '\n')
}

func appendPairs(b []byte, e *entry) []byte {
	for i := range fields {
		begin := len(b)
		b = append(b, fields[i].name...)
		b = append(b, '=')
		at := len(b)
		if b = fields[i].append(b, e); len(b) == at {
			b = b[:begin]
			continue
		}
		if fields[i].text && (!plain(b[at:]) || bytes.IndexByte(b[at:], ' ') >= 0) {
			b = appendQuoted(b[:at], bytes.Clone(b[at:]))
		}
		b = append(b, ' ')
	}
	b[len(b)-1] = '\n' // was the last space
	return b
}

// plain says whether a text is the same within quotes.
func plain(text []byte) bool {
	for _, c := range text {
		if c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}
