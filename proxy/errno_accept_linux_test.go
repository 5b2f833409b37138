package proxy

import (
	"slices"
	"syscall"
	"testing"
	"time"

	"sluice/metrics"
)

// Every errno of accept4: how it is counted, whether accepting pauses for it, and that
// the connection behind it is taken afterwards.
func TestAcceptErrno(t *testing.T) {
	for _, e := range []struct {
		errno  syscall.Errno
		class  metrics.AcceptError
		pauses bool
	}{
		{syscall.EMFILE, metrics.AcceptEMFILE, true},
		{syscall.ENFILE, metrics.AcceptENFILE, true},
		{syscall.ENOBUFS, metrics.AcceptENOBUFS, true},
		{syscall.ENOMEM, metrics.AcceptENOMEM, true},
		{syscall.ECONNABORTED, metrics.AcceptECONNABORTED, false},
		{syscall.ECONNRESET, metrics.AcceptECONNABORTED, false},
		{syscall.EPROTO, metrics.AcceptECONNABORTED, false},
		{syscall.ETIMEDOUT, metrics.AcceptECONNABORTED, false},
		{syscall.ENETDOWN, metrics.AcceptECONNABORTED, false},
		{syscall.EHOSTUNREACH, metrics.AcceptECONNABORTED, false},
		{syscall.EPERM, metrics.AcceptEPERM, true},
		{syscall.ENOSYS, metrics.AcceptOther, true},
		{syscall.EINVAL, metrics.AcceptOther, true}, // the socket listens no more: epoll would name it for ever
	} {
		t.Run(e.errno.Error(), func(t *testing.T) {
			w := newWorld(t)
			w.faults["accept"] = []syscall.Errno{e.errno}
			w.queue = 1
			w.turn()
			l, a := w.a.web(), w.a.cells
			for class := range l.AcceptErrors {
				want := uint64(0)
				if class == int(e.class) {
					want = 1
				}
				if n := l.AcceptErrors[class].Load(); n != want {
					t.Errorf("%d errors as %v, want %d", n, metrics.AcceptError(class), want)
				}
			}
			if pauses := a.Backoffs.Load() == 1; pauses != e.pauses {
				t.Errorf("pauses: %v, want %v", pauses, e.pauses)
			}
			w.pass(50 * time.Millisecond)
			if l.Accepted.Load() != 1 || w.queue != 0 {
				t.Errorf("accepted %d, %d left in the queue", l.Accepted.Load(), w.queue)
			}
			w.settled()
		})
	}
}

func TestAcceptInterrupted(t *testing.T) {
	w := newWorld(t)
	w.faults["accept"] = []syscall.Errno{syscall.EINTR}
	w.accept()
	if l := w.a.web(); l.Accepted.Load() != 1 || w.a.cells.Backoffs.Load() != 0 {
		t.Errorf("accepted %d, paused %d times", l.Accepted.Load(), w.a.cells.Backoffs.Load())
	}
	w.settled()
}

// A lack that lasts is asked about less and less often, down to once a second. It
// is reported once, and so is its end.
func TestAcceptBacksOff(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.EINVAL} {
		w := newWorld(t)
		w.faults["accept"] = always(errno)
		w.queue = 3
		w.pass(10 * time.Second)
		// 10 + 20 + ... + 640 ms are 1.3 s; then one a second, and the first at once
		if n := w.calls["accept"]; n < 10 || n > 20 {
			t.Errorf("%v: %d calls of accept4 in ten seconds", errno, n)
		}
		w.wantNotices(NoticeAcceptPaused)

		w.faults["accept"] = nil
		w.pass(maxPause)
		if n := w.a.web().Accepted.Load(); n != 3 {
			t.Errorf("%v: accepted %d of the 3 that waited", errno, n)
		}
		w.wantNotices(NoticeAcceptResumed)
		w.settled()
	}
}

// A session that ends gives back what was lacking, so the pause ends early.
func TestPauseEndsWithSession(t *testing.T) {
	w := newWorld(t)
	s, _ := w.relaying()
	w.faults["accept"] = always(syscall.EMFILE)
	w.queue = 1
	w.pass(5 * time.Second)
	w.faults["accept"] = nil
	w.a.end(0, s, cutFor(metrics.ReasonDrainDeadline))
	w.pass(5 * minPause)
	if w.queue != 0 {
		t.Error("a connection still waits")
	}
	w.settled()
}

// Memory may lack for epoll_ctl too, just when accepting resumes.
func TestListenerIsWatchedAgain(t *testing.T) {
	w := newWorld(t)
	w.faults["accept"] = []syscall.Errno{syscall.ENOMEM}
	w.faults["watch"] = []syscall.Errno{syscall.ENOMEM, syscall.ENOMEM}
	w.queue = 1
	w.pass(time.Second)
	if w.queue != 0 {
		t.Error("the listener is deaf: its connection still waits")
	}
	w.settled()
}

func TestWatchClientFails(t *testing.T) {
	w := newWorld(t)
	w.faults["watch"] = []syscall.Errno{syscall.ENOSPC}
	w.queue = 1
	w.turn()
	if got := w.ended(); got != "internal_error" {
		t.Errorf("closed as %q", got)
	}
	if w.calls["socket"] != 0 || w.a.cells.Backoffs.Load() != 1 {
		t.Errorf("%d dials, %d pauses", w.calls["socket"], w.a.cells.Backoffs.Load())
	}
	w.settled()
}

// An acceptor that has stopped stays stopped when a pause of before is over.
func TestStopWhilePaused(t *testing.T) {
	w := newWorld(t)
	w.faults["accept"] = []syscall.Errno{syscall.EMFILE, syscall.EMFILE}
	w.queue = 1
	w.turn()
	w.stopAccepting()
	w.pass(maxPause)
	if w.a.cells.Accepting.Load() != 0 {
		t.Error("it says that it accepts")
	}
	if _, watched := w.watched[fakeListener]; watched {
		t.Error("it watches its listener")
	}
	w.settled()
}

// stopAccepting brings the listener to PhaseClosed.
func (w *world) stopAccepting() {
	next := &Plan{Listeners: slices.Clone(w.plan.Listeners), Pools: w.plan.Pools}
	next.Listeners[0].Phase = PhaseClosed
	w.apply(next)
	w.turn()
}

// wantNotices takes what was told since the last time.
func (w *world) wantNotices(want ...NoticeKind) {
	w.t.Helper()
	var got []NoticeKind
	for len(w.notices) > 0 {
		got = append(got, (<-w.notices).Kind)
	}
	if len(got) != len(want) {
		w.t.Errorf("notices %v, want %v", got, want)
		return
	}
	for i := range got {
		if got[i] != want[i] {
			w.t.Errorf("notices %v, want %v", got, want)
		}
	}
}
