package config

import (
	"os"
	"path/filepath"
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
