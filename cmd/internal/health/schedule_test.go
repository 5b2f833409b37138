package health

import (
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sluice/cmd/internal/config"
)

// 10,000 targets are checked evenly, and none waits for longer than two intervals, whether
// they answer or not.
func TestTenThousand(t *testing.T) {
	for name, takes := range map[string]time.Duration{"answer": time.Millisecond, "silent": time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const targets, interval, length = 10_000, 2 * time.Second, 6 * time.Second
				w := newWorld(t, targets)
				w.takes = takes
				p := poolOf(0, targets, func(c *config.Pool) { c.Health.Interval, c.Health.Jitter = interval, 0.1 })
				begin := time.Now()
				w.Commit([]Pool{p})
				time.Sleep(length)
				end, busiest := time.Now(), map[int64]int{}
				w.lock.Lock()
				defer w.lock.Unlock()
				for id, begins := range w.begins {
					last := begin
					for _, b := range append(begins, end) {
						if gap := b.Sub(last); gap > 2*interval {
							t.Fatalf("target %v waited %v for a check", id, gap)
						}
						last = b
						busiest[int64(b.Sub(begin)/(100*time.Millisecond))]++
					}
				}
				if len(w.begins) != targets {
					t.Errorf("%d targets were checked", len(w.begins))
				}
				for at, n := range busiest { // 500 are even
					if n > 1500 && at < int64(length/(100*time.Millisecond)) {
						t.Errorf("%d checks begin in the %d00th ms", n, at)
					}
				}
			})
		})
	}
}

// In doubt it is checked faster.
func TestFastInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.Commit([]Pool{poolOf(0, 1, func(c *config.Pool) {
			c.Health.Interval, c.Health.FastInterval = 10*time.Second, 100*time.Millisecond
		})})
		time.Sleep(time.Second)
		w.set(0, true)
		time.Sleep(9500 * time.Millisecond) // one check at 10 s, two soon after it
		w.want("soon down", 0)
		if n := w.checks(0); n != 4 {
			t.Errorf("%d checks, want 4", n)
		}
	})
}

// What is changed takes effect at once, and a check that was under way then is not counted.
func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.takes = 500 * time.Millisecond
		slow := func(c *config.Pool) { c.Health.Interval = time.Hour }
		w.Commit([]Pool{poolOf(0, 1, slow)})
		time.Sleep(time.Second)
		if n := w.checks(0); n != 1 {
			t.Errorf("%d checks, want 1", n)
		}
		w.set(0, true)
		w.Commit([]Pool{poolOf(0, 1, func(c *config.Pool) { c.Health.Interval, c.Health.Fall = time.Second, 1 })})
		time.Sleep(250 * time.Millisecond)
		w.Commit([]Pool{poolOf(0, 1, func(c *config.Pool) { c.Health.Interval, c.Health.Fall = time.Second, 2 })})
		time.Sleep(time.Second)
		w.want("one failure counts", 1)
		time.Sleep(time.Second)
		w.want("two failures", 0)
		w.Commit(nil)
		n := w.checks(0)
		time.Sleep(time.Minute)
		if now := w.checks(0); now != n {
			t.Errorf("one that has left was checked %d times", now-n)
		}
	})
}

// A service that has no descriptor or port left to ask with takes no target out for it.
func TestLackIsNoVerdict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.set(1, true)
		w.Commit([]Pool{poolOf(0, 2, func(c *config.Pool) { c.Health.Interval, c.Health.Fall, c.Health.Rise = time.Second, 2, 2 })})
		time.Sleep(10 * time.Second)
		w.want("one is down", 1, 0)
		w.lock.Lock()
		w.lack = &net.OpError{Op: "dial", Err: os.NewSyscallError("socket", syscall.EMFILE)}
		w.lock.Unlock()
		time.Sleep(10 * time.Second)
		w.want("as before", 1, 0)
		if w.logged("cannot be checked") == 0 {
			t.Error("nothing is said of it")
		}
	})
}
