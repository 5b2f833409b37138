package control

import (
	"log/slog"
	"syscall"

	"sluice/cmd/internal/logring"
	"sluice/proxy"
)

// logNotices writes what acceptors have to say, until the channel is closed.
func logNotices(log *slog.Logger, notices <-chan proxy.Notice) {
	log = slog.New(logring.Limit(log.Handler(), "acceptor", "name"))
	for n := range notices {
		log := log.With("acceptor", n.Acceptor, "name", n.Name)
		switch n.Kind {
		case proxy.NoticeAcceptPaused:
			log.Error("accepting pauses; connections wait in the queue", "error", n.Errno, "remedy", pauseRemedy(n.Errno))
		case proxy.NoticeAcceptResumed:
			log.Info("accepting goes on, the queue is empty")
		case proxy.NoticeNoPorts:
			log.Error("no source port left towards this backend", "remedy", "widen net.ipv4.ip_local_port_range, or add backends or addresses of this one")
		case proxy.NoticeConnectFailed:
			log.Warn("backend does not take connections", "class", n.Class.String())
		case proxy.NoticeConnectRestored:
			log.Info("backend takes connections again")
		case proxy.NoticeSpliceDenied:
			log.Warn("splice(2) is not to be had: bytes are copied", "error", n.Errno,
				"remedy", "let the sandbox allow splice(2) (seccomp profile, gVisor); without it streams cost more CPU, and nothing else")
		}
	}
}

// pauseRemedy is what ends a pause of accepting.
func pauseRemedy(errno syscall.Errno) string {
	switch errno {
	case syscall.EMFILE, syscall.ENFILE:
		return "no descriptors are left: raise the limit of open files (LimitNOFILE, ulimit -n, --ulimit nofile) or lower max_sessions"
	case syscall.ENOMEM, syscall.ENOBUFS:
		return "the kernel has no memory left: lower max_sessions, or look at net.ipv4.tcp_mem and the container's memory limit"
	case syscall.ENOSPC:
		return "no more may be watched: raise fs.epoll.max_user_watches or lower max_sessions"
	}
	return "the machine refuses a system call: look at the firewall and the sandbox (seccomp profile)"
}
