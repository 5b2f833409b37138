package config

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// Show reads as Read does, and writes the Config as a file with every key, each with
// where its value comes from: a place in the file, a flag, a variable, or the default.
func (s *Source) Show(w io.Writer) error {
	b, err := s.build()
	if err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	b.config.eachKey(
		func(table string) { fmt.Fprintf(t, "\n[%s]\n", table) },
		func(path string, o option, s scope) {
			fmt.Fprintf(t, "%s = %s\t# %s\n", o.key(), literal(o.field(s)), b.from(path))
		})
	return t.Flush()
}

// from names where the value of a key comes from.
func (b *builder) from(path string) string {
	at, set := b.origin[path]
	switch {
	case !set:
		return "default"
	case at.Line > 0:
		return fmt.Sprintf("%s:%d", at.File, at.Line)
	case at.Key != "":
		return at.Key
	default:
		return "made for the flags" // that a shorthand's listener has its pool
	}
}
