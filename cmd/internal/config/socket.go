package config

import (
	"os"
	"path/filepath"
	"strings"
)

// maxSocketPath is what the kernel's sun_path holds: 108 bytes, one of them the NUL at
// the end.
const maxSocketPath = 107

// socketPath takes no abstract name (@...): a file's mode and directory say who may
// connect, an abstract name is open to everyone in the network namespace. It takes no
// relative path, since "sluice reload" may run in another directory.
var socketPath = kind{
	must:  `"auto", an absolute path of at most 107 bytes, or ""`,
	words: []string{SocketAuto},
	parse: onText(func(text string) (string, error) {
		if text == "" || text == SocketAuto {
			return text, nil
		}
		if !filepath.IsAbs(text) || len(text) > maxSocketPath || strings.HasSuffix(text, "/") || strings.ContainsFunc(text, unquotable) {
			return "", os.ErrInvalid
		}
		return text, nil
	}),
}

// unquotable are the characters that quote cannot write.
func unquotable(r rune) bool { return r < ' ' || r == 0x7f || r == '"' || r == '\\' || r == '\ufffd' }

// SocketPath is the path of the admin socket; "" = none.
//
// With "auto" it is <run directory>/<admin.listen>.sock, such as
// /run/sluice/127.0.0.1:9095.sock. The address of the admin endpoint tells the sluices
// of a machine apart already, as a second one cannot listen on it; so each has a socket
// of its own, and "sluice reload" finds it by what "sluice run" was given. Without an
// address of its own (off, or port 0) it has none. Only where two share the run
// directory but not the network (namespaces) can both want one path: the one that finds
// it answered must leave it alone and go without, with a word in the log.
//
// The run directory is /run/sluice for root, and for the user that owns it
// (RuntimeDirectory= of systemd, an image that made it); for others
// $XDG_RUNTIME_DIR/sluice; where that is not set there is none. It is not made here.
// /tmp is not used: others could be there first. A path that was not asked for is a
// convenience: a sluice that cannot make it logs that and goes on.
func (a Admin) SocketPath() string {
	return a.socketPath(os.Geteuid(), os.Getenv("XDG_RUNTIME_DIR"), ownedBy)
}

func (a Admin) socketPath(uid int, userRunDir string, ownedBy func(dir string, uid int) bool) string {
	if a.Socket != SocketAuto {
		return a.Socket
	}
	address, err := parseAddress(a.Listen)
	if err != nil || address.Port() == 0 {
		return ""
	}
	dir := "/run/sluice"
	if uid != 0 && !ownedBy(dir, uid) {
		if !filepath.IsAbs(userRunDir) {
			return ""
		}
		dir = filepath.Join(userRunDir, "sluice")
	}
	path := filepath.Join(dir, a.Listen+".sock")
	if len(path) > maxSocketPath {
		return ""
	}
	return path
}
