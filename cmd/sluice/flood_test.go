package main

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// inOwnNetwork runs a test in a process with a network namespace of its own, which has
// a loopback and a network 10.77.0.0/16 where no host answers; this machine is
// 10.77.0.1.
func inOwnNetwork(t *testing.T, body func(t *testing.T)) {
	const inside = "TEST_SLUICE_OWN_NETWORK"
	ip := need(t, "ip", "iproute2")
	if os.Getenv(inside) != "" {
		for _, command := range []string{
			"link set lo up",
			"link add near type veth peer name far",
			"link set far up",
			"addr add 10.77.0.1/16 dev near",
			"link set near up",
		} {
			finish(t, patience, ip, strings.Fields(command)...)
		}
		body(t)
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root, for a network namespace")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, fs.ErrPermission) {
		unable(t, "may not make a network namespace: %v", err)
	}
	t.Logf("in a network of its own:\n%s", out)
	if err != nil {
		t.Error(err)
	}
}

// For three seconds SYNs come whose handshakes never finish, far more than clients. The
// clients are spread over the acceptors as if there were no others.
func TestFloodDoesNotSkew(t *testing.T) {
	const (
		clients   = 1000
		lasts     = 3 * time.Second
		perSecond = 5000
	)
	needBPF(t)
	inOwnNetwork(t, func(t *testing.T) {
		modes(t, func(t *testing.T, mode string) {
			s := steered(t, mode, "least", 5*time.Second)
			stop := startFlood(t, s.at("10.77.0.1"), perSecond)
			var c crowd
			defer c.leave(t)
			for range clients {
				c.join(t, s.at("10.77.0.1"), 1, 1, false)
				time.Sleep(lasts / clients) // the clients' pace
			}
			sent := stop()
			b := s.held(clients)
			if b.MaxOverMean > 1.1 {
				t.Errorf("shares %v, the highest %.2f of the mean", b.Shares, b.MaxOverMean)
			}
			half := halfOpen(t)
			if sent < 5*clients || half < clients {
				t.Errorf("%d SYNs and %d half-open connections are no flood for %d clients", sent, half, clients)
			}
			t.Logf("%d SYNs, %d half-open; of %d clients the shares are %.4f, the highest %.3f of the mean", sent, half, clients, b.Shares, b.MaxOverMean)
		})
	})
}

// halfOpen is the connections in SYN_RECV on listeners of both families.
func halfOpen(t *testing.T) (n int) {
	t.Helper()
	table, err := os.ReadFile("/proc/net/tcp6")
	if err != nil {
		t.Fatal(err)
	}
	const synRecv = "03"
	for line := range strings.Lines(string(table)) {
		if strings.Fields(line)[3] == synRecv {
			n++
		}
	}
	return n
}

// startFlood sends SYNs to addr, each from another address that does not exist. stop
// returns how many.
func startFlood(t *testing.T, addr string, perSecond int) (stop func() int) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, syscall.IPPROTO_RAW)
	if err != nil {
		t.Fatal(err)
	}
	to := netip.MustParseAddrPort(addr)
	end, ended, sent := make(chan struct{}), make(chan struct{}), 0
	go func() {
		defer close(ended)
		defer syscall.Close(fd)
		random := rand.New(rand.NewPCG(1, 2))
		pace := time.NewTicker(time.Millisecond)
		defer pace.Stop()
		for began := time.Now(); ; {
			select {
			case <-end:
				return
			case <-pace.C:
			}
			for due := int(time.Since(began).Seconds() * float64(perSecond)); sent < due; sent++ {
				from := [4]byte{10, 77, byte(1 + random.IntN(200)), byte(1 + random.IntN(200))}
				packet := synPacket(from, uint16(1024+random.IntN(60000)), to.Addr().As4(), to.Port())
				if err := syscall.Sendto(fd, packet, 0, &syscall.SockaddrInet4{Addr: to.Addr().As4()}); err != nil {
					t.Errorf("send a SYN: %v", err)
					return
				}
			}
		}
	}()
	return func() int {
		close(end)
		<-ended
		return sent
	}
}

// synPacket is an IPv4 packet with a TCP SYN.
func synPacket(from [4]byte, fromPort uint16, to [4]byte, toPort uint16) []byte {
	be := binary.BigEndian
	const header = 20 // of IP, and of TCP
	ip := make([]byte, 2*header)
	ip[0], ip[8], ip[9] = 4<<4|header/4, 64, syscall.IPPROTO_TCP // version and length, TTL; the kernel fills in the rest
	copy(ip[12:], from[:])
	copy(ip[16:], to[:])
	tcp := ip[header:]
	be.PutUint16(tcp[0:], fromPort)
	be.PutUint16(tcp[2:], toPort)
	const syn = 1 << 1
	tcp[12], tcp[13] = header/4<<4, syn
	be.PutUint16(tcp[14:], 65535) // window

	// The checksum spans the addresses, the protocol and the length, too.
	sum := uint32(syscall.IPPROTO_TCP + header)
	for i := 12; i < len(ip); i += 2 {
		sum += uint32(be.Uint16(ip[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	be.PutUint16(tcp[16:], ^uint16(sum))
	return ip
}
