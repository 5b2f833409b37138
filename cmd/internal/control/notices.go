package control

import (
	"log/slog"
	"strings"
	"syscall"

	"sluice/cmd/internal/config"
	"sluice/cmd/internal/logring"
	"sluice/metrics"
	"sluice/proxy"
)

// logNotices writes what acceptors have to say, until the channel is closed.
func logNotices(log *slog.Logger, notices <-chan proxy.Notice) {
	bySource := slog.New(logring.Limit(log.Handler(), "listener", "source"))
	log = slog.New(logring.Limit(log.Handler(), "acceptor", "name"))
	for n := range notices {
		log := log.With("acceptor", n.Acceptor, "name", n.Name)
		switch n.Kind {
		case proxy.NoticeAcceptPaused:
			if n.Errno == syscall.EINVAL { // its socket was closed, and the acceptor has yet to hear of it
				log.Debug("a socket listens no more")
				continue
			}
			log.Error("accepting pauses; connections wait in the queue", "error", n.Errno, "remedy", pauseRemedy(n.Errno))
		case proxy.NoticeAcceptResumed:
			log.Info("accepting goes on, the queue is empty")
		case proxy.NoticeNoPorts:
			if strings.Contains(n.Name, "/"+config.UnixPrefix) {
				log.Error("the queue of this backend is full", "remedy", "let it accept faster, or give it a longer backlog (listen(2), net.core.somaxconn)")
				continue
			}
			log.Error("no source port left towards this backend", "remedy", "widen net.ipv4.ip_local_port_range, or add backends or addresses of this one")
		case proxy.NoticeConnectFailed:
			log.Warn("backend does not take connections", failure(n)...)
		case proxy.NoticeConnectRestored:
			log.Info("backend takes connections again")
		case proxy.NoticeNoSource:
			log.Error("the source address of this pool is not on this machine: no session gets a backend",
				"source", n.Source.String(), "remedy", "give the machine this address, or correct or remove the pool's source")
		case proxy.NoticeNotAsClient:
			log.Error("no connection to this backend can be made with this client's address: its session ends",
				"source", n.Source.String(), "remedy", "look at who sends PROXY headers, or route such clients to a pool that is not transparent")
		case proxy.NoticeNoMultipath:
			log.Warn("this kernel has no Multipath TCP: connections to backends are plain ones", "error", n.Errno, "remedy", "sysctl -w net.mptcp.enabled=1")
		case proxy.NoticeLoop:
			log.Error("this backend is a listener of this very sluice: its sessions are ended", "remedy", "correct the backend's address, or what its name stands for here (name server, hosts file)")
		case proxy.NoticeBadPreamble:
			bySource.Warn("a client is refused for what it sent first", "listener", n.Name, "source", n.Source.String(), "error", n.Text)
		case proxy.NoticeNoTLS:
			log.Error("backend was asked for TLS as its client had asked, and did not say yes", "answer", n.Text,
				"remedy", "let the backend speak TLS (PostgreSQL: ssl = on), or route its sessions elsewhere")
		case proxy.NoticeEjected:
			log.Warn("backend closes sessions before it says a word: it is picked last for a time")
		case proxy.NoticeEjectionCapped:
			log.Warn("backends close sessions early, and no more of this pool may be ejected", "remedy", "look at the backends; ejection.max_share and panic_below say how many may be out")
		case proxy.NoticeSpliceDenied:
			log.Warn("splice(2) is not to be had: bytes are copied", "error", n.Errno,
				"remedy", "let the sandbox allow splice(2) (seccomp profile, gVisor); without it streams cost more CPU, and nothing else")
		}
	}
}

// failure is what the log says of a backend that takes no connection.
func failure(n proxy.Notice) []any {
	told := []any{"class", n.Class.String()}
	if n.Class == metrics.ConnectNoFamily {
		told = append(told, "remedy", "give the machine (and the pool's source) an address of the backend's family (net.ipv6.conf.*.disable_ipv6 turns IPv6 off), or name another address of the backend")
	}
	return told
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
