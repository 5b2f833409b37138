package config

import (
	"errors"
	"path/filepath"
	"strings"
	"unicode"
)

// congestion takes what may be the name of one: the machine says whether it has it.
// The kernel's buffer has 16 bytes.
var congestion = checkedText(`the name of a congestion control, such as "bbr", or ""`, nil, func(text string) error {
	if len(text) > 15 || text != "" && !nameRule.MatchString(text) {
		return errName
	}
	return nil
})

// interfaceName takes what may be the name of a network interface.
var interfaceName = checkedText(`the name of a network interface, such as "eth0", or ""`, nil, func(text string) error {
	if len(text) > 15 || strings.ContainsFunc(text, func(r rune) bool { return r == '/' || r == ':' || unicode.IsSpace(r) || unquotable(r) }) {
		return errName
	}
	return nil
})

var errName = errors.New("not such a name")

// netnsDir is where ip-netns(8) keeps the namespaces that it names.
const netnsDir = "/run/netns/"

// netnsName takes what may name a network namespace.
var netnsName = checkedText(`the name of a network namespace, such as "blue", its absolute path, or ""`, nil, func(text string) error {
	if text == "." || text == ".." || strings.ContainsFunc(text, unquotable) || strings.Contains(text, "/") && !filepath.IsAbs(text) {
		return errName
	}
	return nil
})

// NetnsPath is where the network namespace of l is found; "" = it is sluice's own.
func (l Listener) NetnsPath() string { return netnsPath(l.Netns) }

// NetnsPath is where the network namespace is found that connections to p's backends are made
// from; "" = it is sluice's own.
func (p Pool) NetnsPath() string { return netnsPath(p.Netns) }

func netnsPath(text string) string {
	if text == "" || filepath.IsAbs(text) {
		return text
	}
	return netnsDir + text
}
