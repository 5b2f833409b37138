package discovery

import (
	"os"
	"syscall"
)

// fileID tells a file from another that has taken its name.
type fileID struct{ dev, ino uint64 }

func idOf(info os.FileInfo) fileID {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fileID{}
	}
	return fileID{stat.Dev, stat.Ino}
}
