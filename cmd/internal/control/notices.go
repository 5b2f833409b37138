package control

import (
	"log/slog"

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
			log.Error("accepting pauses: no descriptors or memory left; connections wait in the queue", "error", n.Errno,
				"remedy", "raise the limit of open files (LimitNOFILE, ulimit -n, --ulimit nofile) or lower max_sessions")
		case proxy.NoticeAcceptResumed:
			log.Info("accepting goes on, the queue is empty")
		case proxy.NoticeNoPorts:
			log.Error("no source port left towards this backend", "remedy", "widen net.ipv4.ip_local_port_range, or add backends or addresses of this one")
		case proxy.NoticeConnectFailed:
			log.Warn("backend does not take connections", "class", n.Class.String())
		case proxy.NoticeConnectRestored:
			log.Info("backend takes connections again")
		}
	}
}
