package config

import (
	"fmt"
	"io"
	"strings"
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

// Text is the Config as a file with every key, for people who look at a running service.
// What checks send may hold a password, and is left out.
func (c Config) Text() string {
	var text strings.Builder
	t := tabwriter.NewWriter(&text, 0, 0, 1, ' ', 0)
	c.eachKey(
		func(table string) { fmt.Fprintf(t, "\n[%s]\n", table) },
		func(path string, o option, s scope) {
			value := literal(o.field(s))
			if o.key() == "send" && value != `""` {
				value = `"..." # not shown`
			}
			fmt.Fprintf(t, "%s\t= %s\n", o.key(), value)
		})
	_ = t.Flush() // a Builder takes all
	return text.String()
}
