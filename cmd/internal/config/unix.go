package config

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// UnixPrefix stands before the path of a unix socket, or before @ and the name of an
// abstract one.
const UnixPrefix = "unix:"

// UnixPath is the path of the unix socket that b is; an @ begins the name of an abstract one.
func (b Backend) UnixPath() (path string, is bool) { return strings.CutPrefix(b.Address, UnixPrefix) }

// unixPathOK tells paths that the kernel takes from typing errors.
func unixPathOK(path string) bool {
	if len(path) > maxSocketPath || strings.ContainsFunc(path, unquotable) {
		return false
	}
	if name, abstract := strings.CutPrefix(path, "@"); abstract {
		return name != ""
	}
	return filepath.IsAbs(path) && !strings.HasSuffix(path, "/")
}

// socketMissing says whether a path leads to no unix socket now. An abstract name can't
// be looked at.
func socketMissing(path string) bool {
	if strings.HasPrefix(path, "@") {
		return false
	}
	info, err := os.Stat(path)
	return err != nil || info.Mode()&os.ModeSocket == 0
}

// fileMode takes permission bits; execute and the special bits mean nothing on a socket.
var fileMode = kind{
	must: `permission bits in octal, from "0600" to "0666", such as "0660"`,
	json: map[string]any{"type": "string", "pattern": "^0?[0-6]{3}$"},
	parse: onText(func(text string) (string, error) {
		n, err := strconv.ParseUint(text, 8, 32)
		if err == nil && (n&^0o666 != 0 || n&0o600 != 0o600) {
			err = strconv.ErrRange
		}
		return fmt.Sprintf("%04o", n), err
	}),
}

// Mode is what SocketMode says.
func (l Listener) Mode() fs.FileMode {
	n, _ := strconv.ParseUint(l.SocketMode, 8, 32) // it was read before
	return fs.FileMode(n)
}

// accountName takes what may name a user or a group: the machine says whether it has it.
var accountName = checkedText(`the name or number of a user or group, such as "www-data", or ""`, nil, func(text string) error {
	if text != "" && !dottedName(text) {
		return errName
	}
	return nil
})

// unixBind is the first of l's addresses that is a unix socket; "" = none is.
func (l Listener) unixBind() string {
	for _, d := range l.Binds() {
		if _, is := d.UnixPath(); is {
			return d.Address
		}
	}
	return ""
}

// onlyUnix says that all of them are.
func (l Listener) onlyUnix() bool {
	return !slices.ContainsFunc(l.Binds(), func(d Bind) bool {
		_, is := d.UnixPath()
		return !is
	})
}

// notForUnix are the keys that mean nothing to a unix socket. A service that took them there
// would look as if they held. What holds for connections to backends, too, is none of them.
var notForUnix = []string{
	"fastopen", "defer_accept", "congestion", "tos", "mark", "interface", "netns", "freebind", "ipv6_only", "mptcp", "share",
}

// bySource are the keys that go by the client's address, which only a PROXY header can tell
// behind a unix socket.
var bySource = []string{"allow", "deny", "allow_file", "deny_file", "source_sessions", "source_rate"}

// checkUnix reports what a unix socket can't do, and its keys where there is none.
func (b *builder) checkUnix(l Listener) {
	table, address, plain := pathOf("listener", l.Name), l.unixBind(), DefaultListener(l.Name)
	each := func(keys []string, report func(at Fault)) {
		for _, key := range keys {
			o, _ := optionAt("listener.*." + key)
			if !reflect.DeepEqual(o.field(scope{l: &l}), o.field(scope{l: &plain})) {
				report(b.origin[table+"."+key])
			}
		}
	}
	if !l.hasSocketFile() {
		each([]string{"socket_mode", "socket_user", "socket_group"}, func(at Fault) {
			b.fault(at, `is for the file of a unix socket, such as bind = "unix:/run/app.sock"`)
		})
	}
	if address == "" {
		return
	}
	if l.onlyUnix() {
		each(notForUnix, func(at Fault) { b.fault(at, "means nothing to %s: a unix socket has no such option", address) })
	}
	if l.ProxyProtocol == ProxyRequired {
		return
	}
	report := func(at Fault) {
		b.fault(at, `goes by the client's address, and clients of %s have none: socket_mode says who may connect, or proxy_protocol = "required" tells addresses`, address)
	}
	each(bySource, report)
	for _, r := range l.Routes {
		if len(r.Source) > 0 {
			report(b.origin[table+"."+pathOf("route", r.Name)+".source"])
		}
	}
	for _, p := range b.config.Pools {
		if p.Transparent && (p.Name == l.Pool || slices.ContainsFunc(l.Routes, func(r Route) bool { return r.Pool == p.Name })) {
			report(b.origin[pathOf("pool", p.Name)+".transparent"])
		}
	}
}

// hasSocketFile says whether one of l's unix sockets has one: abstract names do not.
func (l Listener) hasSocketFile() bool {
	return slices.ContainsFunc(l.Binds(), func(d Bind) bool {
		path, is := d.UnixPath()
		return is && path[0] != '@'
	})
}
