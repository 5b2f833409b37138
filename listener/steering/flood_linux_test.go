package steering

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// SYNs whose handshake never finishes come five times as often as clients, and
// only acceptors that turn do anything. The clients are spread as if there were
// no others.
func TestUnfinishedHandshakesDoNotSkew(t *testing.T) {
	needBPF(t)
	ownNetwork(t)
	const clients, perClient = 400, 5
	s := start(t, "127.0.0.1:0", 4, Least)
	random := rand.New(rand.NewPCG(1, 2)) // so that no acceptor's turn coincides with the clients'
	for range clients {
		for range random.IntN(2*perClient + 1) {
			abandonedSYN(t, s.group.Addr())
		}
		s.dial("127.0.0.1", 1, false)
		s.eachTurns()
	}
	held := s.held(clients)
	var picked uint64
	for _, a := range s.acceptors {
		picked += a.row.Selected.Load()
	}
	if picked < clients*perClient*3/4 {
		t.Fatalf("%d SYNs were steered: that was no flood", picked)
	}
	for _, h := range held {
		if h*4*10 > clients*11 { // max over mean
			t.Errorf("held %v, want at most 1.1 times the mean", held)
		}
	}
	t.Logf("held %v, %d SYNs steered", held, picked)

	// It is over, and a window later nothing of it counts any more.
	waitFor(t, "the picks to be forgiven", func() bool {
		for _, a := range s.acceptors {
			if a.row.Selected.Load() != a.row.Settled.Load() {
				return false
			}
		}
		return true
	})
}

// All unfinished handshakes are one acceptor's. Soon it is again the equal of the others.
func TestSkewOfAFloodIsForgiven(t *testing.T) {
	needBPF(t)
	ownNetwork(t)
	s := start(t, "127.0.0.1:0", 4, Least)
	s.onlyTo(2)
	for range 50 {
		abandonedSYN(t, s.group.Addr())
	}
	s.onlyTo(-1)
	s.dial("127.0.0.1", 12, false)
	if held := s.held(12); held[2] != 0 {
		t.Errorf("held %v: in-flight counts were not looked at", held)
	}
	began := time.Now()
	waitFor(t, "the picks to be forgiven", func() bool {
		return s.acceptors[2].row.Selected.Load() == s.acceptors[2].row.Settled.Load()
	})
	t.Logf("forgiven %v after the last connection", time.Since(began).Round(time.Millisecond))
	s.dial("127.0.0.1", 20, false)
	if held := s.held(32); spread(held) > 1 {
		t.Errorf("held %v", held)
	}
}

// abandonedSYN sends a SYN and takes no answer. The least TTL drops the SYN-ACK.
func abandonedSYN(t *testing.T, to netip.AddrPort) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MINTTL, 255); err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}); err != unix.EINPROGRESS {
		t.Fatalf("connect: %v", err)
	}
}
