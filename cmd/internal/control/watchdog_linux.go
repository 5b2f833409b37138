package control

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sluice/listener/steering"
	"sluice/metrics"
)

// watchdog finds acceptors that hang, and has a sibling accept from their sockets until
// they turn again: no client waits behind a hung one.
//
// An acceptor hangs that was given something, a connection in one of its queues or a
// Plan, and has not begun a turn for hang_after since; or whose turn has lasted that
// long already when it is given something. One that waits for nothing owes nothing: the
// watchdog sleeps then, in an epoll of its own on all listening sockets and mailboxes.
// It is edge-triggered, so it reports each connection that arrives once; often the
// acceptor has taken it before the watchdog hears of it, and waits for the next.
//
//	   ┌──────────────── nobody is in doubt ◄───────────────┐
//	   ▼                                                    │ turned, and owes nothing
//	asleep ──something was given to i──► i is in doubt ─────┤ or parked, and owes nothing
//	                     looks as its time is up            │ not turned for hang_after
//	                                                        ▼
//	                               i hangs: steering skips it, a sibling serves its sockets, until it turns
type watchdog struct {
	log    *slog.Logger
	board  *metrics.Board
	rescue func(by, hung int, on bool)
	epoll  int
	bell   int // an eventfd that ends the sleep
	alarm  int // a timerfd, see await
	ended  chan struct{}

	mu        sync.Mutex // guards what follows
	stopped   bool
	hangAfter time.Duration
	given     uint64 // generation of the newest Plan
	seats     [metrics.MaxAcceptors]watched
	rows      []*steering.Rows
	fds       map[int]int  // what is watched: seat by descriptor
	shared    map[int]bool // those of them that are a queue of several seats
}

func newWatchdog(log *slog.Logger, board *metrics.Board, rescue func(by, hung int, on bool)) (*watchdog, error) {
	w := &watchdog{log: log, board: board, rescue: rescue, ended: make(chan struct{}), fds: map[int]int{}}
	var err error
	if w.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("watchdog: epoll_create1: %w", err)
	}
	if w.bell, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		unix.Close(w.epoll)
		return nil, fmt.Errorf("watchdog: eventfd: %w", err)
	}
	if w.alarm, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK); err != nil {
		unix.Close(w.bell)
		unix.Close(w.epoll)
		return nil, fmt.Errorf("watchdog: timerfd: %w", err)
	}
	if err := unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, w.bell, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(w.bell)}); err != nil {
		w.close()
		return nil, fmt.Errorf("watchdog: epoll_ctl: %w", err)
	}
	return w, nil
}

// give says that every acceptor is about to be given the Plan of a generation.
func (w *watchdog) give(generation uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := metrics.Monotonic()
	w.given = generation
	for i := range w.seats {
		if s := &w.seats[i]; s.exists {
			s.give(now)
		}
	}
	w.ring()
}

// watch is given each state that has been put in force.
func (w *watchdog) watch(s *state) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hangAfter, w.rows, w.shared = s.config.Acceptors.HangAfter, nil, map[int]bool{}
	fds := map[int]int{}
	for _, f := range s.fronts {
		w.rows = append(w.rows, f.steered.rows)
		for _, seat := range f.group.Order() { // one that was stopped shows its end for ever
			if seat >= 0 {
				fds[f.group.FD(seat)] = seat
				if f.isUnix() {
					w.shared[f.group.FD(seat)] = true
				}
			}
		}
	}
	var exist [metrics.MaxAcceptors]bool
	for _, st := range s.seats {
		i := &w.seats[st.number]
		exist[st.number] = true
		if !i.exists {
			*i = watched{exists: true}
		}
		i.serves, i.mail = st.leaving == nil, st.mail
		fds[st.mail.Receive] = st.number
	}
	for i := range w.seats {
		if s := &w.seats[i]; s.exists && !exist[i] {
			w.endRescue(s, i)
			*s = watched{}
		}
	}
	w.rewatch(fds)
	for i := range w.seats { // its siblings' new sockets are not yet served by its rescuer
		if s := &w.seats[i]; s.hung && s.rescued {
			w.rescue(s.rescuer, i, true)
		}
	}
	w.ring()
}

// unwatch ends watching sockets that are about to end, for that would be taken for a
// connection. A worker may hold them, too, so they do not leave the epoll by being closed
// here, and their number may be another's next.
func (w *watchdog) unwatch(fds ...int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, fd := range fds {
		if _, is := w.fds[fd]; is {
			_ = unix.EpollCtl(w.epoll, unix.EPOLL_CTL_DEL, fd, nil)
			delete(w.fds, fd)
		}
	}
}

// rewatch watches other descriptors.
func (w *watchdog) rewatch(fds map[int]int) {
	for fd := range w.fds {
		if _, still := fds[fd]; !still {
			_ = unix.EpollCtl(w.epoll, unix.EPOLL_CTL_DEL, fd, nil)
		}
	}
	for fd, seat := range fds {
		if was, is := w.fds[fd]; is && was == seat {
			continue // a watched one is never closed, see unwatch
		}
		event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(fd), Pad: int32(seat)}
		_ = unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, fd, &event)
	}
	w.fds = fds
}

// run is the watchdog's life, until stop. It looks when something was given to an acceptor,
// and when the time of one is up, but leaves a quarter of hang_after between two looks.
func (w *watchdog) run() {
	defer close(w.ended)
	events := make([]unix.EpollEvent, 256)
	next, looked := int64(notInDoubt), int64(0)
	for {
		w.await(next, w.epoll)
		if early := looked + int64(w.pace()); metrics.Monotonic() < early {
			w.await(early)
		}
		n, err := unix.EpollWait(w.epoll, events, 0)
		if err != nil {
			n = 0
		}
		looked = metrics.Monotonic()
		if next = w.look(events[:n], looked); next < 0 {
			return
		}
	}
}

// await waits until the clock says so, or one of fds is readable. It may be sooner, after a
// signal. It waits for a timer of its own, since a timeout is late by the timer slack that
// the process has.
func (w *watchdog) await(until int64, fds ...int) {
	var at unix.ItimerSpec // zero = never
	if until != notInDoubt {
		at.Value = unix.NsecToTimespec(until)
	}
	_ = unix.TimerfdSettime(w.alarm, unix.TFD_TIMER_ABSTIME, &at, nil) // cannot fail for a timer and a time
	var all []unix.PollFd
	for _, fd := range append(fds, w.alarm) {
		all = append(all, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	_, _ = unix.Poll(all, -1)
}

func (w *watchdog) pace() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hangAfter / 4
}

// look judges all that are in doubt. It returns the clock when the first one's time will
// be up; notInDoubt: there is none; below 0: the watchdog has been stopped.
func (w *watchdog) look(events []unix.EpollEvent, now int64) (next int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return -1
	}
	next = notInDoubt
	for _, e := range events {
		if seat, is := w.fds[int(e.Fd)]; is && seat == int(e.Pad) {
			s := &w.seats[seat]
			s.give(now)
			s.note(int(e.Fd))
		}
	}
	for i := range w.seats {
		if s := &w.seats[i]; s.exists && s.given != 0 {
			next = min(next, w.judge(s, i, now))
		}
	}
	// All verdicts first: a rescuer must not be one that hangs itself.
	for i := range w.seats {
		s := &w.seats[i]
		if s.hung && !(s.rescued && w.fit(s.rescuer)) {
			w.endRescue(s, i)
			if s.rescuer = w.idlest(); s.rescuer >= 0 {
				s.rescued = true
				w.rescue(s.rescuer, i, true)
			}
		}
		if s.hung && w.board.Acceptor(i).Parked.Load() != 0 {
			w.poke(s)
		}
	}
	return max(next, now+int64(w.hangAfter/4))
}

// poke sends a hung acceptor that waits in epoll a message for no listener, which makes
// it turn. All that it was given may be taken by its rescuer as it wakes: then epoll has
// nothing to tell it, and as a hung acceptor is sent nothing new, it would hang for
// ever. The rescuer reads its mailbox, too, so it may need more than one.
func (w *watchdog) poke(s *watched) {
	if !waitsAt(s.mail.Receive) {
		_ = unix.Sendto(s.mail.Send, make([]byte, 8), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, nil)
	}
}

func (w *watchdog) ring() {
	one := [8]byte{1}
	_, _ = unix.Write(w.bell, one[:])
}

// stop ends run, if it runs, and waits for it.
func (w *watchdog) stop() {
	w.mu.Lock()
	was := w.stopped
	w.stopped = true
	w.ring()
	w.mu.Unlock()
	if !was {
		<-w.ended
	}
}

// close gives back its descriptors.
func (w *watchdog) close() {
	unix.Close(w.alarm)
	unix.Close(w.bell)
	unix.Close(w.epoll)
}
