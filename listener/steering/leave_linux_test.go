package steering

import (
	"errors"
	"os"
	"testing"

	"sluice/listener"
)

// A socket joins, takes its share, and is closed with connections waiting: they
// are all served by the others, each time.
func TestSocketJoinsAndLeaves(t *testing.T) {
	needBPF(t)
	times := 25 // with either policy
	if testing.Short() {
		times = 2
	}
	for _, migrate := range []string{"0", "1"} {
		for i := range times * len(programs) {
			policy := programs[i%len(programs)]
			t.Run(policy.String()+" tcp_migrate_req "+migrate, func(t *testing.T) {
				ownNetwork(t)
				if err := os.WriteFile("/proc/sys/net/ipv4/tcp_migrate_req", []byte(migrate), 0); err != nil {
					t.Fatal(err)
				}
				s := start(t, "127.0.0.1:0", 3, policy)
				if err := errors.Join(s.group.Add(3), s.group.Listen()); err != nil {
					t.Fatal(err)
				}
				leaver := s.accept(3)
				if err := s.steering.Place(3, s.group.FD(3)); err != nil {
					t.Fatal(err)
				}
				s.dial("127.0.0.1", 40, false)
				if held := s.held(40); spread(held) > 1 {
					t.Errorf("held %v after acceptor 3 joined", held)
				}

				leaver.halt()
				s.onlyTo(3)
				s.dial("127.0.0.1", 40, false)
				if q, err := listener.QueueOf(s.group.FD(3)); err != nil || q.Length != 40 {
					t.Fatalf("queue %+v, %v", q, err)
				}
				s.onlyTo(-1)
				if err := errors.Join(s.group.Remove(3), s.steering.Removed(3)); err != nil {
					t.Fatal(err)
				}
				held := s.held(80)
				if held[3] != 10 || spread(held[:3]) > 1 {
					t.Errorf("held %v after acceptor 3 left", held)
				}
			})
		}
	}
}

// A second Attach, as by a reload or a successor, takes over from the first,
// whether that was closed or its owner just died.
func TestAttachAgain(t *testing.T) {
	needBPF(t)
	s := start(t, "127.0.0.1:0", 4, Least)
	for _, died := range []bool{false, true} {
		for _, policy := range []Policy{RoundRobin, Least, CPU, Hash, Least} {
			if old := s.steering.program; died && old != nil {
				old.all.Close() // as the kernel does it: the group keeps the program, and that its maps
			} else if err := s.steering.Close(); err != nil {
				t.Fatal(err)
			}
			s.attach(policy)
		}
	}
	s.dial("127.0.0.1", 40, false)
	if held := s.held(40); spread(held) > 1 {
		t.Errorf("held %v", held)
	}
}
