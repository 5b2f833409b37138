package main

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sluice/metrics"
)

// stoppable starts a program of which single acceptors can be stopped in either mode.
// Pinned ones keep a thread of their own. The garbage collector is off: it waits until
// every thread that runs Go code has heard of it, so one that is stopped from outside
// would stop all the others of its process. In process mode that is no matter.
func stoppable(t *testing.T, mode, policy string, hangAfter time.Duration) *instance {
	t.Helper()
	t.Setenv("GOGC", "off")
	return steered(t, mode, policy, hangAfter, "pin_cpus = true")
}

// stopAcceptor stops an acceptor as nothing within it can notice, and returns what lets
// it go on: its process by SIGSTOP, or its thread, without the others, by ptrace. The
// caller's goroutine stays on its thread, which is the tracer.
func (s *instance) stopAcceptor(mode string, acceptor int) (resume func()) {
	s.t.Helper()
	a := s.status().Acceptors[acceptor]
	if mode == "process" {
		kill(s.t, int(a.PID), syscall.SIGSTOP)
		eventually(s.t, patience, "the worker has stopped", func() bool {
			stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", a.PID))
			return strings.Contains(string(stat), ") T ")
		})
		// A stopped worker holds the log open, and the test that failed would wait for its end for ever.
		s.t.Cleanup(func() { _ = syscall.Kill(int(a.PID), syscall.SIGCONT) })
		return sync.OnceFunc(func() { kill(s.t, int(a.PID), syscall.SIGCONT) })
	}
	if a.CPU == nil {
		s.t.Fatal("an acceptor that is not pinned has no thread that could be stopped")
	}
	thread := int(a.ThreadID)
	runtime.LockOSThread()
	if err := syscall.PtraceAttach(thread); err != nil {
		unable(s.t, "may not stop a thread (needs CAP_SYS_PTRACE or ptrace_scope 0 or 1): %v", err)
	}
	for {
		var status syscall.WaitStatus
		if _, err := syscall.Wait4(thread, &status, syscall.WALL, nil); err != nil {
			s.t.Fatalf("wait for thread %d: %v", thread, err)
		}
		if status.StopSignal() == syscall.SIGSTOP {
			break
		}
		if err := syscall.PtraceCont(thread, int(status.StopSignal())); err != nil { // a signal came first
			s.t.Fatalf("continue thread %d: %v", thread, err)
		}
	}
	return sync.OnceFunc(func() {
		_ = syscall.PtraceDetach(thread)
		runtime.UnlockOSThread()
	})
}

// visit is one client's.
type visit struct {
	took time.Duration // from the connect to the end of the answer
	err  error
}

// traffic is clients that come by a timetable, whatever becomes of those before them.
type traffic struct {
	stopped chan struct{}
	clients sync.WaitGroup
	mu      sync.Mutex
	done    []visit
}

func startTraffic(addr string, perSecond int) *traffic {
	f := &traffic{stopped: make(chan struct{})}
	f.clients.Go(func() {
		pace := time.NewTicker(time.Second / time.Duration(perSecond))
		defer pace.Stop()
		for {
			select {
			case <-f.stopped:
				return
			case <-pace.C:
				f.clients.Go(func() { f.client(addr) })
			}
		}
	})
	return f
}

func (f *traffic) client(addr string) {
	began := time.Now()
	c, err := net.DialTimeout("tcp", addr, patience)
	if err == nil {
		err = pingPong(c)
	}
	v := visit{time.Since(began), err}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.done = append(f.done, v)
}

// stop ends the traffic, and returns the visits when there is one of every client.
func (f *traffic) stop() []visit {
	close(f.stopped)
	f.clients.Wait()
	return f.done
}

// slowest is the longest visit of all but the longest n.
func slowest(visits []visit, n int) time.Duration {
	var took []time.Duration
	for _, v := range visits {
		took = append(took, v.took)
	}
	slices.Sort(took)
	return took[len(took)-1-n]
}

// One acceptor of four is stopped for seconds under a load. Only the clients that it
// was serving at that moment notice; and it is back when it goes on.
func TestStoppedAcceptorDelaysNobody(t *testing.T) {
	takesLong(t)
	if testing.Short() {
		t.Skip("-short: takes 5 s for each policy")
	}
	const (
		hangAfter = 100 * time.Millisecond
		allowed   = hangAfter + 100*time.Millisecond
		perSecond = 1000
		stopped   = 2
	)
	modes(t, func(t *testing.T, mode string) {
		ways := map[string]func(*testing.T, string, string, time.Duration) *instance{"least": stoppable, "hash": stoppable}
		if mode == "process" { // in the other it has no threads of its own that could be stopped
			ways["auto"] = unprivileged
		}
		for policy, start := range ways {
			t.Run(policy, func(t *testing.T) {
				if policy == "least" {
					needBPF(t)
				}
				s, control := start(t, mode, policy, hangAfter), start(t, mode, policy, time.Minute)
				through := startTraffic(s.at("127.0.0.1"), perSecond)
				// What this machine's other work does to clients meanwhile.
				undisturbed := startTraffic(control.at("127.0.0.1"), perSecond/2)
				time.Sleep(500 * time.Millisecond)

				resume := s.stopAcceptor(mode, stopped)
				defer resume()
				// It may have been stopped between accept(2) and the count of the session.
				inService := int(s.status().Acceptors[stopped].Sessions) + 1
				time.Sleep(2 * time.Second) // twenty times hang_after
				during := s.status()
				resume()
				// Seven standard deviations below what a fair hash gives of 1,000. On a busy
				// machine it may hang once more meanwhile.
				const fair = .15
				var share float64
				eventually(t, patience, "it has its share of a second again", func() bool {
					before := s.status()
					time.Sleep(time.Second)
					share = shareOf(stopped, before, s.status())
					return share >= fair
				})

				noise := slowest(undisturbed.stop(), 0)
				visits := through.stop()
				for _, v := range visits {
					if v.err != nil {
						t.Errorf("a client failed: %v", v.err)
					}
				}
				// The watchdog, the sibling it tells and that one's loop may each be late by
				// as much as any thread on this machine.
				if slow := slowest(visits, inService); slow > allowed+3*noise {
					t.Errorf("a client took %v, with the %d that may have been in service by the stopped one left out; allowed are %v, and 3 times %v of noise", slow, inService, allowed, noise)
				}
				// One that holds sessions may be given nothing more under least, and owes nothing then.
				if !during.Acceptors[stopped].Hung && inService == 1 {
					t.Error("it does not count as hung")
				}
				t.Logf("%d clients; in service by the stopped one at most %d, the slowest of all others %v; noise %v; %d rescued; its share when it is back %.2f",
					len(visits), inService, slowest(visits, inService), noise, rescued(during), share)
			})
		}
	})
}

// shareOf is an acceptor's part of what was accepted between two moments.
func shareOf(acceptor int, before, after metrics.Snapshot) float64 {
	var own, all uint64
	for i, a := range after.Listeners[0].Acceptors {
		n := a.Accepted - before.Listeners[0].Acceptors[i].Accepted
		all += n
		if i == acceptor {
			own = n
		}
	}
	return float64(own) / float64(all)
}

func rescued(s metrics.Snapshot) (sum uint64) {
	for _, a := range s.Listeners[0].Acceptors {
		sum += a.Rescued
	}
	return sum
}

// A hang is logged once as it begins and once as it ends, and counted; and how long its
// clients have waited to be accepted is shown with the acceptor that rescued them.
func TestHangIsTold(t *testing.T) {
	const (
		hangAfter = 800 * time.Millisecond // rarely reached by a busy machine's doing
		clients   = 40                     // that the hash gives none to one of four is 1 in 100,000
	)
	t.Setenv("GOGC", "off") // as in TestStoppedAcceptorDelaysNobody
	modes(t, func(t *testing.T, mode string) {
		s := stoppable(t, mode, "hash", hangAfter)
		for stopped := range 2 {
			before := s.status()
			resume := s.stopAcceptor(mode, stopped)
			defer resume()
			var c crowd
			c.join(t, s.at("127.0.0.1"), clients, 1, false)
			label := fmt.Sprintf("acceptor=\"%d\"", stopped)
			eventually(t, patience, "the hang is seen", func() bool { return s.metric("sluice_acceptor_hung", label) == 1 })
			if n := s.metric("sluice_acceptor_hung"); n != 1 {
				t.Errorf("%v acceptors hang", n)
			}
			s.held(clients)
			after := s.status()
			n := rescued(after) - rescued(before)
			if w := waited(after) - waited(before); n == 0 || w != n {
				t.Errorf("%d were rescued, %d have waited for about %v", n, w, hangAfter)
			}
			resume()
			eventually(t, patience, "it turns again", func() bool { return s.metric("sluice_acceptor_hung") == 0 })
			if n := s.metric("sluice_acceptor_hangs_total", label); n != 1 {
				t.Errorf("%v hangs counted", n)
			}
			for _, line := range []string{"acceptor hangs", "acceptor turns again"} {
				eventually(t, patience, fmt.Sprintf("%q is logged once a hang", line), func() bool { return strings.Count(s.logged(), line) == stopped+1 })
			}
			c.leave(t)
			s.held(0)
		}
	})
}

// waited is how many connections were seen to have waited for longer than half a second
// and at most two and a half to be accepted.
func waited(s metrics.Snapshot) (n uint64) {
	for _, a := range s.Listeners[0].Acceptors {
		for _, b := range a.Wait.Buckets {
			switch b.LE {
			case .5:
				n -= b.Count
			case 2.5:
				n += b.Count
			}
		}
	}
	return n
}
