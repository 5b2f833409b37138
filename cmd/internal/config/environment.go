package config

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Environment is the variables that are set, by name. What is set may be empty.
type Environment map[string]string

// NewEnvironment reads variables in the form of os.Environ.
func NewEnvironment(vars []string) Environment {
	e := make(Environment, len(vars))
	for _, v := range vars {
		name, value, _ := strings.Cut(v, "=")
		e[name] = value
	}
	return e
}

// variablePrefix begins the names of all variables that stand for flags.
const variablePrefix = "SLUICE_"

// variableOf is a flag's twin in the environment.
func variableOf(flag string) string {
	if flag == "c" {
		return "SLUICE_CONFIG"
	}
	return variablePrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// serviceLink is what Kubernetes sets for a Service, and Docker for a link, whose name
// is sluice or begins with sluice-. They come unasked.
var serviceLink = regexp.MustCompile(`^SLUICE_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)

// servicePort is the one of them that only its value gives away.
var servicePort = regexp.MustCompile(`^(tcp|udp|sctp)://`)

// checkVariables reports those that look like sluice's and are not: a misspelt one
// would be without effect and without a word. A variable that the file asked for by
// ${NAME} is the user's own.
func (b *builder) checkVariables() {
	known, words := map[string]bool{}, []string{}
	for _, sw := range switches {
		known[variableOf(sw.name)] = true
		words = append(words, strings.ToLower(strings.TrimPrefix(variableOf(sw.name), variablePrefix)))
	}
	for _, name := range slices.Sorted(maps.Keys(b.env)) {
		word, ours := strings.CutPrefix(name, variablePrefix)
		linked := serviceLink.MatchString(name) || strings.HasSuffix(name, "_PORT") && servicePort.MatchString(b.env[name])
		if !ours || known[name] || b.asked[name] || linked {
			continue
		}
		hint := `; "sluice run -h" lists the known ones`
		if near := nearest(word, words); near != "" {
			hint = ", did you mean " + variablePrefix + strings.ToUpper(near) + "?"
		}
		b.fault(Fault{Key: name}, "unknown variable%s", hint)
	}
}
