package host

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sluice/listener/steering"
	"sluice/metrics"
	"sluice/proxy"
)

// A worker looks at what it is told before its acceptor does.
func TestWorkerChecksWhatItIsTold(t *testing.T) {
	b, err := metrics.NewBoard()
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	h, err := newHoldings(b, nil, &workerStart{Seat: 1, Settings: proxy.Settings{MaxPipes: 4}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	refuses := func(what, text string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v, want %q", what, err, text)
		}
	}
	plan := somePlan()
	id := plan.Listeners[0].ID
	refuses("a bind of nothing", "without a plan", h.bind(nil))
	refuses("a commit of nothing", "without a bind", h.commit())
	refuses("a plan of others", "without seat 1", h.bind(&body{Plan: plan}))
	plan.Seats[0].Number = 1
	refuses("a plan without descriptors", `"web": a descriptor is missing`, h.bind(&body{Plan: plan}))
	plan.Listeners[0].ID = metrics.NewID(metrics.MaxListeners, 1)
	refuses("a listener that the board has no room for", "bad id", h.bind(&body{Plan: plan}))
	plan.Listeners[0].ID = id

	open := openFDs("/proc/self/fd")
	rows, err := steering.NewRows()
	if err != nil {
		t.Fatal(err)
	}
	dup := func(fd int) int {
		d, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	socket := func(reusePort int) int {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, reusePort)
		}
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	gifts := []gift{{Kind: giftSocket, Listener: id}, {Kind: giftRows, Listener: id}}
	refuses("fewer descriptors than said", "1 of 2", h.take(gifts, []int{socket(1)}))
	refuses("more than said", "3 of 2", h.take(gifts, []int{socket(1), dup(rows.FD()), socket(1)}))
	refuses("a socket of no group", "SO_REUSEPORT", h.take(gifts[:1], []int{socket(0)}))
	refuses("a map as a socket", "descriptor", h.take(gifts[:1], []int{dup(rows.FD())}))
	refuses("a socket as rows", "mmap", h.take(gifts[1:], []int{socket(1)}))
	refuses("a gift of no kind", "unknown gift", h.take([]gift{{Kind: "gold"}}, []int{socket(1)}))
	refuses("with half of it", "missing", h.bind(&body{Plan: plan}))
	if err := h.take(gifts, []int{socket(1), dup(rows.FD())}); err != nil {
		t.Fatal(err)
	}
	if err := h.bind(&body{Plan: plan}); err != nil {
		t.Errorf("with all it needs: %v", err)
	}
	h.unbind()
	_ = rows.Close()
	if n := openFDs("/proc/self/fd"); n != open {
		t.Errorf("%d descriptors are open, %d were before", n, open)
	}
}
