package steering

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// Two ends that reset a connection at once leave a RST that belongs to nothing any
// more. The kernel asks the program about that too, and it is no pick.
func TestStrayPacketsAreNoPicks(t *testing.T) {
	needBPF(t)
	for _, policy := range programs {
		t.Run(policy.String(), func(t *testing.T) {
			ownNetwork(t)
			s := start(t, "127.0.0.1:0", 4, policy)
			const ack, rst = 0x10, 0x04
			for range 10 {
				stray(t, s.group.Addr(), rst)
				stray(t, s.group.Addr(), ack)
			}
			s.dial("127.0.0.1", 3, false)
			s.held(3)
			var picked uint64
			for _, a := range s.acceptors {
				picked += a.row.Selected.Load()
			}
			if picked != 3 {
				t.Errorf("%d picks for 3 connections", picked)
			}
		})
	}
}

// stray sends a TCP segment of no connection from 127.0.0.1.
func stray(t *testing.T, to netip.AddrPort, flags byte) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1}).As4()
	pseudo := []byte{8: 0, 9: unix.IPPROTO_TCP, 11: 20}
	copy(pseudo, loopback[:])
	copy(pseudo[4:], loopback[:])
	header := make([]byte, 20)
	binary.BigEndian.PutUint16(header, 1) // from a port that nothing uses
	binary.BigEndian.PutUint16(header[2:], to.Port())
	header[12], header[13] = 5<<4, flags
	binary.BigEndian.PutUint16(header[16:], checksum(append(pseudo, header...)))
	if err := unix.Sendto(fd, header, 0, &unix.SockaddrInet4{Addr: loopback}); err != nil {
		t.Fatal(err)
	}
}

// checksum is the Internet checksum of RFC 1071.
func checksum(words []byte) uint16 {
	var sum uint32
	for i := 0; i < len(words); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(words[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
