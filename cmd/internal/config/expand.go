package config

import (
	"fmt"
	"regexp"
	"strings"
)

// expand replaces variables in the text of a TOML string:
//
//	${VAR}            its value; a fault if there is none
//	${VAR:-default}   or the default
//	${VAR:?message}   or a fault with this message
//	$$                one $
//
// A variable that is set but empty counts as not set. Any other $ stays. It
// runs after TOML is parsed, so a value cannot add keys, and comments may say
// ${anything}.
func expand(text string, lookup func(string) string) (string, error) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(text, "$")
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		text = rest
		switch {
		case strings.HasPrefix(rest, "$"):
			b.WriteByte('$')
			text = rest[1:]
		case strings.HasPrefix(rest, "{"):
			inner, tail, closed := strings.Cut(rest[1:], "}")
			if !closed {
				return "", fmt.Errorf("${ without } (a plain $ is written $$)")
			}
			value, err := variable(inner, lookup)
			if err != nil {
				return "", err
			}
			b.WriteString(value)
			text = tail
		default:
			b.WriteByte('$')
		}
	}
}

var variableForm = regexp.MustCompile(`^([a-zA-Z_][a-zA-Z0-9_]*)(?s:(:-|:\?)(.*))?$`)

// variable evaluates what stands between ${ and }.
func variable(inner string, lookup func(string) string) (string, error) {
	m := variableForm.FindStringSubmatch(inner)
	if m == nil || strings.Contains(inner, "${") {
		return "", fmt.Errorf("${%s} is none of ${NAME}, ${NAME:-default}, ${NAME:?message}", inner)
	}
	name, how, word := m[1], m[2], m[3]
	value := lookup(name)
	switch {
	case value != "" || how == ":-":
		if value == "" {
			value = word
		}
		return value, nil
	case how == ":?" && word != "":
		return "", fmt.Errorf("${%s}: %s", name, word)
	default:
		return "", fmt.Errorf("environment variable %s is not set; ${%s:-default} would give a default", name, name)
	}
}
