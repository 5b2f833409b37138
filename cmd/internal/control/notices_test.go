package control

import (
	"bytes"
	"log/slog"
	"strings"
	"syscall"
	"testing"

	"sluice/proxy"
)

// An acceptor that is so late that its socket was closed meanwhile lacks nothing.
func TestNoticesOfAcceptors(t *testing.T) {
	for errno, want := range map[syscall.Errno]string{
		syscall.EMFILE: "level=ERROR msg=\"accepting pauses; connections wait in the queue\" acceptor=1 name=web",
		syscall.EINVAL: "level=DEBUG msg=\"a socket listens no more\" acceptor=1 name=web",
	} {
		var out bytes.Buffer
		notices := make(chan proxy.Notice, 1)
		notices <- proxy.Notice{Kind: proxy.NoticeAcceptPaused, Acceptor: 1, Name: "web", Errno: errno}
		close(notices)
		logNotices(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})), notices)
		if !strings.Contains(out.String(), want) {
			t.Errorf("%v: %s", errno, out.String())
		}
	}
}
