package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// startChangingAsNobody is startChanging for a user who may load no program into the
// kernel. The user that runs the test may change its file.
func startChangingAsNobody(t *testing.T, mode, text string) *changing {
	t.Helper()
	dir, err := os.MkdirTemp("", "sluice-unprivileged-") // t.TempDir is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	program := filepath.Join(dir, "sluice")
	copyProgram(t, program)
	c := &changing{path: filepath.Join(dir, "sluice.toml"), socket: filepath.Join(dir, "run", "admin.sock")}
	write(t, c.path, text)
	if err := os.Mkdir(filepath.Dir(c.socket), 0o777); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, program} {
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(filepath.Dir(c.socket), 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	c.instance = launch(t, func(cmd *exec.Cmd) {
		cmd.Path, cmd.Dir = program, dir
		if os.Geteuid() == 0 {
			cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
		}
	}, "run", "--mode", mode, "--admin", "127.0.0.1:0", "--log-format", "json", "-c", c.path, "--admin-socket", c.socket)
	c.awaitReady()
	return c
}

// writeReadable is write, for a sluice of another user.
func (c *changing) writeReadable(text string) {
	c.t.Helper()
	c.write(text)
	if err := os.Chmod(c.path, 0o644); err != nil {
		c.t.Fatal(err)
	}
}

// resizing runs a body over both modes and all that decides which acceptor gets a connection.
func resizing(t *testing.T, ways []string, body func(t *testing.T, start func(count int) *resized)) {
	if testing.Short() {
		ways = ways[:1]
	}
	modesTogether(t, func(t *testing.T, mode string) {
		for _, way := range ways {
			t.Run(way, func(t *testing.T) {
				addr := unused(t)
				rest := "[limits]\ndrain_timeout = \"10s\"\n" + listenerAt("main", addr, "app") + poolOf("app", []string{echoing(t).addr})
				body(t, func(count int) *resized {
					r := &resized{addr: addr, even: way == "least" || way == "round_robin"}
					steering := way
					switch way {
					case "least", "round_robin":
						needBPF(t)
					case "hand_off":
						steering = "auto"
					}
					r.file = func(count int) string { return acceptorsTable(count, steering) + rest }
					if way == "hand_off" {
						r.changing = startChangingAsNobody(t, mode, r.file(count))
						if r.status().Listeners[0].Steering.Effective == "least" {
							t.Skip("this user may load BPF programs: run as root, who starts sluice as nobody")
						}
					} else {
						r.changing = startChanging(t, mode, r.file(count))
					}
					return r
				})
			})
		}
	})
}

// resized is a sluice whose number of acceptors changes.
type resized struct {
	*changing
	addr string
	file func(count int) string
	even bool // each acceptor gets its share of the sessions
}

func (r *resized) resize(count int) {
	r.t.Helper()
	r.writeReadable(r.file(count))
	if status, _, faults := r.ask(); status != exitOK {
		r.t.Fatal(faults)
	}
}

// present are the numbers of the acceptors that have series, and of those that leave.
func (r *resized) present() (serving, leaving []int) {
	r.t.Helper()
	for _, a := range r.status().Acceptors {
		if a.Leaving {
			leaving = append(leaving, a.Number)
		} else {
			serving = append(serving, a.Number)
		}
	}
	return serving, leaving
}

// awaitCount waits until as many acceptors serve and all others have left.
func (r *resized) awaitCount(count int) {
	r.t.Helper()
	eventually(r.t, patience, fmt.Sprintf("%d acceptors are there", count), func() bool {
		serving, leaving := r.present()
		return len(serving) == count && len(leaving) == 0
	})
	r.awaitGeneration()
}

// The number of acceptors goes up and down under a stream of connections, with sessions
// that last. No client notices, and no total falls.
func TestResizeUnderLoad(t *testing.T) {
	resizing(t, []string{"hash", "least", "round_robin", "hand_off"}, func(t *testing.T, start func(int) *resized) {
		r := start(1)
		through := startTraffic(r.addr, 300)
		watched := r.watchTotals()
		defer watched()
		var held []crowd
		join := func(n int) {
			held = append(held, crowd{})
			held[len(held)-1].join(t, r.addr, n, 4, false)
		}
		talk := func(when string) {
			t.Helper()
			for i := range held {
				for _, c := range held[i].conns {
					c.SetDeadline(time.Now().Add(patience))
					if !talks(c) {
						t.Fatalf("%s a session has ended", when)
					}
				}
			}
		}
		join(2)
		for _, count := range []int{4, 16, 3, 1} {
			before, already := r.present()
			r.resize(count)
			talk(fmt.Sprint("after the resize to ", count))
			serving, leaving := r.present()
			if len(serving) != count {
				t.Errorf("%v serve, want %d", serving, count)
			}
			// An acceptor that holds no session is gone after some seconds.
			if n := max(len(before)-count, 0) + len(already); len(leaving) > n || len(leaving) < n && r.even {
				t.Errorf("%v leave, want %d", leaving, n)
			}
			if count > len(before) {
				join(3 * count) // some of them are held by each
			}
		}
		// What leaves is out of the way of new connections, and stays while it has sessions.
		time.Sleep(2500 * time.Millisecond) // longer than its queues are looked after
		checkVisits(t, through.stop())
		for _, a := range r.status().Acceptors {
			if a.Leaving && a.Sessions == 0 {
				t.Errorf("acceptor %d has no session any more and is there", a.Number)
			}
		}
		talk("with all but one acceptors leaving")
		for i := range held {
			held[i].leave(t)
		}
		r.awaitCount(1)
		r.held(0)
		r.awaitNoSeries(`acceptor="5"`)
		watched()
	})
}

// The same where the kernel moves what waits in a closed socket's queue to another.
func TestResizeUnderLoadWithMigration(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: 10 s")
	}
	withMigration(t, "^TestResizeUnderLoad$/^goroutine$/^(hash|least|hand_off)$")
}

// Where no program can keep connections away from one that leaves, as on a shared
// port, clients may have to knock twice, and are served.
func TestResizeOfASharedListener(t *testing.T) {
	modesTogether(t, func(t *testing.T, mode string) {
		addr := unused(t)
		file := func(count int) string {
			return acceptorsTable(count, "auto") + listenerAt("main", addr, "app", "share = true") + poolOf("app", []string{echoing(t).addr})
		}
		s := startChanging(t, mode, file(4))
		through := startTraffic(addr, 200)
		for _, count := range []int{1, 3, 2} {
			s.reload(file(count))
			eventually(t, patience, "the others have left", func() bool { return len(s.status().Acceptors) == count })
		}
		checkVisits(t, through.stop())
	})
}

// watchTotals watches sums that must not fall, until the function it returns is called.
func (s *instance) watchTotals() (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		var closed, bytes float64
		for {
			select {
			case <-end:
				return
			case <-time.After(20 * time.Millisecond):
			}
			c, b := s.metric("sluice_listener_closed_connections_total"), s.moved()
			if c < closed || b < bytes {
				s.t.Errorf("totals fell: %v to %v sessions, %v to %v bytes", closed, c, bytes, b)
			}
			closed, bytes = c, b
		}
	}()
	return sync.OnceFunc(func() { close(end); <-ended })
}

// After each resize the acceptors hold as many sessions each, to the last one.
func TestResizeKeepsExactBalance(t *testing.T) {
	resizing(t, []string{"least", "round_robin"}, func(t *testing.T, start func(int) *resized) {
		r := start(1)
		for _, count := range []int{4, 8, 2, 4, 1, 16, 4} {
			r.resize(count)
			r.awaitCount(count)
			var c crowd
			c.join(t, r.addr, 16, 4, false)
			b := r.held(16)
			if b.Spread != 0 {
				var each []int64
				for _, a := range r.status().Acceptors {
					each = append(each, a.Sessions)
				}
				t.Errorf("16 sessions over %d: %v", count, each)
			}
			c.leave(t)
			r.held(0)
		}
	})
}

// An acceptor that left is shown as it was until its last session ends, then no more;
// the next with its number begins at zero.
func TestResizeUsesNumbersAgain(t *testing.T) {
	resizing(t, []string{"hash", "least"}, func(t *testing.T, start func(int) *resized) {
		r := start(2)
		var c crowd
		c.join(t, r.addr, 40, 4, false) // that the hash gives one of two none is 1 in 10^12
		r.held(40)
		for i, conn := range c.conns {
			conn.SetDeadline(time.Now().Add(patience))
			if !talks(conn) {
				t.Fatal("no session ", i)
			}
		}
		const label = `acceptor="1"`
		accepted := func() float64 { return r.metric("sluice_acceptor_accepted_connections_total", label) }
		was := accepted()
		if was == 0 {
			t.Fatal("acceptor 1 got nothing")
		}
		r.resize(1)
		// More than it needs for its queues, and some clients more, which it does not get.
		for deadline := time.Now().Add(2500 * time.Millisecond); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
			if err := pingPong(dial(t, r.addr)); err != nil {
				t.Fatal(err)
			}
		}
		if got := r.metric("sluice_acceptor_leaving", label); got != 1 {
			t.Errorf("leaving: %v, want 1", got)
		}
		if got := accepted(); got < was {
			t.Errorf("it shows %v accepted, and had %v", got, was)
		}
		r.resize(2) // with another number, for 1 is taken
		r.awaitGeneration()
		if serving, leaving := r.present(); !slices.Equal(serving, []int{0, 2}) || !slices.Equal(leaving, []int{1}) {
			t.Errorf("%v serve and %v leave, want 0 and 2, and 1", serving, leaving)
		}
		c.leave(t)
		r.awaitNoSeries(label)
		r.resize(3)
		r.awaitCount(3)
		if serving, _ := r.present(); !slices.Equal(serving, []int{0, 1, 2}) {
			t.Errorf("%v serve, want 0 to 2", serving)
		}
		if got := accepted(); got != 0 {
			t.Errorf("the number begins with %v accepted, want 0", got)
		}
		c.join(t, r.addr, 40, 4, false)
		r.held(40)
		if got := r.heldBy(1); got == 0 {
			t.Error("the next with the number gets nothing")
		}
		c.leave(t)
		r.held(0)
	})
}

// Resizes leave nothing behind.
func TestResizeLeavesNothingBehind(t *testing.T) {
	resizing(t, []string{"hash"}, func(t *testing.T, start func(int) *resized) {
		r := start(1)
		r.awaitCount(1)
		r.resize(3)
		r.awaitCount(3)
		r.resize(1)
		r.awaitCount(1)
		descriptors, goroutines, processes := r.descriptors(), r.metric("go_goroutines"), len(r.processes())
		for range 3 {
			r.resize(6)
			r.awaitCount(6)
			r.resize(1)
			r.awaitCount(1)
		}
		eventually(t, patience, "as many descriptors, goroutines and processes as before", func() bool {
			return r.descriptors() <= descriptors+1 && r.metric("go_goroutines") <= goroutines+2 && len(r.processes()) == processes
		})
	})
}
