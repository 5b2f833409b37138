package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Fault is one thing wrong with a configuration, and where.
type Fault struct {
	File      string // "" = a flag or a variable
	Line, Col int    // from 1, in characters; 0 = the file as a whole
	Key       string // dotted path, or the flag or variable; "" = none
	Msg       string
}

// Error writes the fault the way editors jump to: file:line:col: key: message.
func (f Fault) Error() string {
	var b strings.Builder
	if f.File != "" {
		b.WriteString(f.File)
		if f.Line > 0 {
			fmt.Fprintf(&b, ":%d:%d", f.Line, f.Col)
		}
		b.WriteString(": ")
	}
	if f.Key != "" {
		b.WriteString(f.Key + ": ")
	}
	return b.String() + f.Msg
}

// Errors are all faults of a configuration, in the order of the file.
type Errors []Fault

func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, f := range e {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

// sort brings faults into the order of the file; flags come first.
func (e Errors) sort() {
	slices.SortStableFunc(e, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col))
	})
}
