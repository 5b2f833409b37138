package steering

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sluice/listener"
)

// Aside keeps new connections away from this process's sockets of a group that it shares
// with others, so that the sockets can run empty and be closed while the others serve.
type Aside struct {
	fd     int // a member of the group
	lock   int // held for as long: one at a time steps aside from an address
	others int
}

// ErrAlone says that no other socket listens there: there is none to send clients to.
var ErrAlone = errors.New("no other process serves there")

// StepAside gives all that comes to an address to those that listen there besides fds,
// which are all sockets that this process has in the group there. It needs no privilege. Those that were
// begun before end where they began.
//
// A classic program chooses by the kernel's numbers, and in a shared group no process
// knows them. So they are found first: a SYN of our own that a program sends to one
// number carries a signature (TCP MD5) that no listener here expects. The kernel drops
// it, and counts the drop at the socket that it was for. No acceptor sees it, and no
// client.
//
// After an error nothing has changed: the kernel has no such signatures, the group takes
// no program, or another instance steps aside at the same time. A process that dies
// between StepAside and End leaves the program to the group, where it sends on to some
// only.
func StepAside(addr netip.AddrPort, fds []int) (_ *Aside, err error) {
	count, err := countListening(addr)
	if err != nil {
		return nil, err
	}
	if count <= len(fds) {
		return nil, ErrAlone
	}
	a := &Aside{fd: fds[0], others: count - len(fds)}
	if a.lock, err = lock(addr); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = a.End()
		}
	}()
	to, err := reached(addr)
	if err != nil {
		return nil, err
	}
	var ours []int
	for number := 0; number < count && len(ours) < len(fds); number++ {
		is, err := isOneOf(fds, to, number)
		if err != nil {
			return nil, err
		}
		if is {
			ours = append(ours, number)
		}
	}
	if len(ours) < len(fds) {
		return nil, fmt.Errorf("%d of the %d sockets were found in the group of %s", len(ours), len(fds), addr)
	}
	var others []int
	for number := range count {
		if !slices.Contains(ours, number) {
			others = append(others, number)
		}
	}
	// Nothing new comes after this call.
	if err := attachClassic(a.fd, chooseAtRandom(others)); err != nil {
		return nil, err
	}
	return a, nil
}

// Others is how many sockets get what comes now.
func (a *Aside) Others() int { return a.others }

// End leaves the group to the kernel's hash again. The sockets are closed right after: a
// SYN that is hashed to one of them in between, some 20 us each, is dropped by the kernel
// and comes again after 1 s. (Seen in 1 of 72 departures under 400 connections a second.)
func (a *Aside) End() error {
	err := detach(a.fd)
	if errors.Is(err, errNoDetach) {
		err = attachClassic(a.fd, chooseNobody)
	}
	return errors.Join(err, unix.Close(a.lock))
}

// chooseNobody returns a number that no socket has: the hash chooses.
var chooseNobody = []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 1<<32 - 1}}

// isOneOf says whether the group's socket of a number is one of fds. A drop that has
// nothing to do with it, or another program, would have to mislead it twice.
func isOneOf(fds []int, addr netip.AddrPort, number int) (bool, error) {
	first, err := dropsAt(fds, addr, number)
	if err != nil || first < 0 {
		return false, err
	}
	second, err := dropsAt(fds, addr, number)
	return first == second, err
}

// dropWithin bounds the wait for a SYN that goes over loopback: it is handled within
// connect(2), or by a kernel thread a moment later.
const dropWithin = 200 * time.Millisecond

// dropsAt sends a SYN that no socket accepts to the group's socket of a number, and
// returns the one of fds that dropped it; -1 = another process's did.
func dropsAt(fds []int, addr netip.AddrPort, number int) (int, error) {
	conn, from, err := signing(addr)
	if err != nil {
		return -1, err
	}
	defer unix.Close(conn)
	if err := attachClassic(fds[0], chooseFor(from, number)); err != nil {
		return -1, err
	}
	before, err := dropsOf(fds)
	if err != nil {
		return -1, err
	}
	unexpected, err := unexpectedSignatures()
	if err != nil {
		return -1, err
	}
	if err := unix.Connect(conn, sockaddr(addr)); !errors.Is(err, unix.EINPROGRESS) {
		return -1, fmt.Errorf("connect to %s: %w", addr, err)
	}
	for end := time.Now().Add(dropWithin); ; time.Sleep(100 * time.Microsecond) {
		n, err := unexpectedSignatures() // counted before the drop is, so it is read first
		if err != nil {
			return -1, err
		}
		settled := n > unexpected
		if settled {
			time.Sleep(time.Millisecond)
		}
		now, err := dropsOf(fds)
		if err != nil {
			return -1, err
		}
		for i, fd := range fds {
			if settled && now[i] != before[i] {
				return fd, nil
			}
		}
		switch {
		case settled:
			return -1, nil
		case time.Now().After(end):
			return -1, fmt.Errorf("a SYN to %s was not dropped within %v", addr, dropWithin)
		}
	}
}

// signing is a socket that signs what it sends to addr, and the port it sends from.
func signing(addr netip.AddrPort) (fd int, from uint16, err error) {
	domain := unix.AF_INET
	if addr.Addr().Is6() {
		domain = unix.AF_INET6
	}
	fd, err = unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, 0, fmt.Errorf("socket: %w", err)
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	key := unix.TCPMD5Sig{Keylen: 1, Addr: unix.SockaddrStorage{Family: uint16(domain)}}
	key.Key[0] = 1
	raw := binary.BigEndian.AppendUint16(nil, addr.Port())
	if domain == unix.AF_INET6 {
		raw = append(raw, 0, 0, 0, 0) // the flow
	}
	copy(key.Addr.Data[:], append(raw, addr.Addr().AsSlice()...))
	if err := unix.SetsockoptTCPMD5Sig(fd, unix.IPPROTO_TCP, unix.TCP_MD5SIG, &key); err != nil {
		return -1, 0, fmt.Errorf("TCP_MD5SIG: %w", err)
	}
	if err := unix.Bind(fd, sockaddr(netip.AddrPortFrom(addr.Addr(), 0))); err != nil {
		return -1, 0, fmt.Errorf("bind: %w", err)
	}
	switch own, err := unix.Getsockname(fd); own := own.(type) {
	case *unix.SockaddrInet4:
		return fd, uint16(own.Port), nil
	case *unix.SockaddrInet6:
		return fd, uint16(own.Port), nil
	default:
		return -1, 0, fmt.Errorf("getsockname: %T, %w", own, err)
	}
}

// chooseFor returns a number for what comes from a port, and leaves all else to the hash.
func chooseFor(port uint16, number int) []unix.SockFilter {
	const (
		skfNetOff = -0x100000 // the network header
		otherwise = 3
	)
	at := func(offset int32) uint32 { return uint32(skfNetOff + offset) }
	return []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: at(0)},
		{Code: unix.BPF_ALU | unix.BPF_RSH | unix.BPF_K, K: 4}, // the version
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 6, Jf: 2},
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: at(40)},
		{Code: unix.BPF_JMP | unix.BPF_JA, K: 1},
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: at(20)}, // no options: it is ours, or it does not matter
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(port), Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: uint32(number)},
		chooseNobody[0],
	}
}

func dropsOf(fds []int) ([]uint64, error) {
	all := make([]uint64, len(fds))
	for i, fd := range fds {
		q, err := listener.QueueOf(fd)
		if err != nil {
			return nil, err
		}
		all[i] = q.Drops
	}
	return all, nil
}

// unexpectedSignatures is how many signed segments the kernel has dropped for want of a
// key, in the network namespace of this thread.
func unexpectedSignatures() (uint64, error) {
	b, err := os.ReadFile("/proc/thread-self/net/netstat")
	if err != nil {
		return 0, err
	}
	var names []string
	for line := range strings.Lines(string(b)) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] != "TcpExt:" {
			continue
		}
		i := slices.Index(names, "TCPMD5Unexpected")
		if i >= 0 && i < len(words) {
			return strconv.ParseUint(words[i], 10, 64)
		}
		names = words
	}
	return 0, errors.New("/proc/thread-self/net/netstat: no TCPMD5Unexpected")
}

// countListening is how many sockets of any process listen on exactly addr.
func countListening(addr netip.AddrPort) (n int, err error) {
	file := "/proc/thread-self/net/tcp"
	if addr.Addr().Is6() {
		file = "/proc/thread-self/net/tcp6"
	}
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var want strings.Builder // 32 bits at a time as the machine reads them
	for word := range slices.Chunk(addr.Addr().AsSlice(), 4) {
		fmt.Fprintf(&want, "%08X", binary.NativeEndian.Uint32(word))
	}
	fmt.Fprintf(&want, ":%04X", addr.Port())
	lines := bufio.NewScanner(f)
	lines.Scan() // the heading
	for lines.Scan() {
		const listening = "0A"
		words := strings.Fields(lines.Text())
		if len(words) < 4 || words[3] != listening { // those that listen come first
			break
		}
		if words[1] == want.String() {
			n++
		}
	}
	return n, lines.Err()
}

// reached is where a socket bound to addr is reached from this machine.
func reached(addr netip.AddrPort) (netip.AddrPort, error) {
	at := []netip.Addr{addr.Addr()}
	switch addr.Addr() {
	case netip.IPv4Unspecified():
		at = []netip.Addr{loopback4}
	case netip.IPv6Unspecified():
		at = []netip.Addr{netip.IPv6Loopback(), loopback4}
	}
	var err error
	for _, ip := range at {
		var fd int
		to := netip.AddrPortFrom(ip, addr.Port())
		if fd, _, err = signing(to); err == nil {
			return to, unix.Close(fd)
		}
	}
	return netip.AddrPort{}, err
}

var loopback4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})

func sockaddr(addr netip.AddrPort) unix.Sockaddr {
	if addr.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16()}
}

// lock is held by one process at a time for each address of a network namespace: an
// abstract name, which goes with the descriptor.
func lock(addr netip.AddrPort) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("lock: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: "@sluice/aside/" + addr.String()}); err != nil {
		unix.Close(fd)
		if errors.Is(err, unix.EADDRINUSE) {
			return -1, errors.New("another instance is leaving at the same time")
		}
		return -1, fmt.Errorf("lock: %w", err)
	}
	return fd, nil
}
