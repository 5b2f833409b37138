package config

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// tokenPlace takes "", or where the token is.
var tokenPlace = kind{
	must:  `"", "file:" and an absolute path, or "env:" and the name of a variable that does not begin with ` + variablePrefix,
	words: []string{""},
	parse: onText(func(text string) (string, error) {
		path, isFile := strings.CutPrefix(text, "file:")
		name, isEnv := strings.CutPrefix(text, "env:")
		switch {
		case text == "",
			isFile && strings.HasPrefix(path, "/") && !strings.ContainsRune(path, 0),
			isEnv && name != "" && !strings.HasPrefix(name, variablePrefix) && !strings.ContainsFunc(name, unprintable) && !strings.Contains(name, "="):
			return text, nil
		}
		return "", errors.New("no place")
	}),
}

// checkWrite reports verbs over HTTP that no client could ask for.
func (b *builder) checkWrite() {
	a := b.config.Admin
	faulty := slices.ContainsFunc(b.faults, func(f Fault) bool { return f.Key == "admin.token" })
	if a.AllowWrite && a.Token == "" && !faulty {
		b.fault(b.origin["admin.allow_write"], `needs token, such as token = "file:/etc/sluice/token"`)
	}
}

// doubts are what may be wrong with verbs over HTTP.
func (a Admin) doubts() (all []string) {
	place := a.TokenPlace()
	if place == "" {
		return nil
	}
	if path, isFile := strings.CutPrefix(place, "file:"); isFile {
		info, err := os.Stat(path)
		switch {
		case err != nil:
			all = append(all, "admin.token: "+err.Error()+": until it can be read, no verb is taken over HTTP")
		case info.Mode().Perm()&0o077 != 0:
			all = append(all, "admin.token: "+path+" can be read by others than its owner")
		}
	} else if os.Getenv(strings.TrimPrefix(place, "env:")) == "" {
		all = append(all, "admin.token: "+strings.TrimPrefix(place, "env:")+" is not set: no verb is taken over HTTP")
	}
	if host, _, err := net.SplitHostPort(a.Listen); err == nil {
		if ip, err := netip.ParseAddr(host); err != nil || !ip.IsLoopback() {
			all = append(all, "admin.allow_write: the token goes unencrypted over "+a.Listen+": let only a private network, or a proxy with TLS, reach it")
		}
	}
	return all
}
