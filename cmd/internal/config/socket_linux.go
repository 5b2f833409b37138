package config

import (
	"os"
	"syscall"
)

// ownedBy is true if dir is a directory that belongs to the user.
func ownedBy(dir string, uid int) bool {
	info, err := os.Lstat(dir)
	if err != nil || !info.IsDir() {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == uid
}
