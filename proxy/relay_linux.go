package proxy

import (
	"math"
	"syscall"

	"sluice/metrics"
)

const (
	// turnBytes bounds what one half moves in a turn, so that a stream cannot starve
	// the rest: about 0.2 ms of work.
	turnBytes = 1 << 20
	// A half that read streamSize or more streamReads times in a row streams, and goes over
	// to splice(2); fills below trickleSize, trickleReads in a row, bring it back.
	// (HAProxy's heuristic, doc "splice-auto"; the sizes are measured here by
	// BenchmarkRelay.)
	streamSize   = 32 << 10
	streamReads  = 3
	trickleSize  = 16 << 10
	trickleReads = 3
	// What is taken off a socket at once has the kernel open its sender's window as far,
	// and once it is open it stays so when the receiver stalls: megabytes of a session that
	// does not move. So a half that is spliced moves calmSize a turn until calmFills of
	// these, 16 MiB, have gone through. (50 clients that do not read held 25 MB each with
	// fills of 1 MiB, 7.5 with 256 KiB, 6.0 so, and 3.4 with little unsent; HAProxy 4.5.)
	calmSize  = 64 << 10
	calmFills = 255
)

// verdict is how a half left off.
type verdict uint8

const (
	blocked       verdict = iota // until the next event
	asleep                       // until the half's pace lets it go on
	unfinished                   // it has used its share of the turn, or the other half comes first
	brokenClient                 // brokenClient + side: that connection is broken
	brokenBackend                //
	denied                       // the machine does not let it be moved: not a peer's fault
)

func brokenSide(sd side) verdict { return brokenClient + verdict(sd) }

// relay moves both halves of s as far as they go.
//
// When a side is broken, the half that reads from it goes first: what came before
// the RST is still delivered, as on a direct connection.
func (a *Acceptor) relay(slot int32, s *session) {
	first := toBackend
	if s.ready[backend]&broken != 0 {
		first = toClient
	}
	v := a.move(slot, s, first)
	// The other half of a broken side finds it broken, and must wait until this is done.
	if v == blocked || v <= unfinished && s.ready[first]&broken == 0 {
		v = max(v, a.move(slot, s, first^1))
	}
	switch {
	case v == denied:
		a.end(slot, s, cutFor(metrics.ReasonInternal))
	case v >= brokenClient:
		a.end(slot, s, brokenAt(side(v-brokenClient)))
	case s.done():
		a.end(slot, s, finished(s))
	default:
		switch v {
		case asleep:
			a.armNearest(slot, s)
		case unfinished:
			a.enqueue(slot, s)
		}
		if s.halfClosed() && !s.halfCounted {
			s.halfCounted = true
			a.listenerOf(s).cells.HalfClosed.Add(1)
			a.armNearest(slot, s)
		}
	}
}

// move carries half d as far as its sockets and its share of the turn allow.
//
// Invariant at the top of the loop: held bytes have been read from the source and
// are in the pipe or the spill; only when there are none is more read, and only while
// the receiver is writable. So a slow receiver stops the sender by the socket
// buffers, and a half never holds more than one pipe or one buffer.
func (a *Acceptor) move(slot int32, s *session, d direction) verdict {
	h, src, dst := &s.half[d], side(d), side(d^1)
	budget := turnBytes
	if h.splicing && h.calm < calmFills {
		budget = calmSize
	}
	p := a.listenerOf(s).paced[d]
	if p != nil {
		budget = min(budget, pacedTurn)
	}
	for h.state != halfDone {
		if s.ready[dst]&writable == 0 {
			if s.ready[src]&broken != 0 {
				return brokenSide(src) // what is held can't be delivered any more
			}
			return blocked
		}
		if s.ready[dst]&broken != 0 && s.ready[src]&broken == 0 {
			return brokenSide(dst)
		}
		if budget <= 0 {
			return unfinished
		}
		var n int
		var v verdict
		switch {
		case h.held > 0:
			n, v = a.flush(s, d)
		case h.state == halfFlushing:
			v = a.endHalf(s, d)
		case s.ready[src]&readable == 0:
			return blocked
		case p != nil:
			n, v = a.readPaced(slot, s, d, p)
		default:
			n, v = a.read(s, d, math.MaxInt)
		}
		if v != blocked {
			return v
		}
		budget -= n
	}
	return blocked
}

// read takes up to most bytes off the source, in the way in which the half is moved.
func (a *Acceptor) read(s *session, d direction, most int) (int, verdict) {
	if s.half[d].splicing && s.ready[d]&urgent == 0 {
		return a.fill(s, d, most)
	}
	return a.copy(s, d, most)
}

// copy reads once into the acceptor's buffer and writes that. What the receiver does
// not take is spilled.
//
//	read   EAGAIN  the source is empty: not readable until the next event
//	       0       EOF
//	       short   empty too, unless a FIN, RST or urgent byte waits behind: then read on to it
//	write  EAGAIN, short  the receiver is full: not writable until the next event
func (a *Acceptor) copy(s *session, d direction, most int) (int, verdict) {
	h, src, dst := &s.half[d], side(d), side(d^1)
	most = min(most, len(a.buffer))
	n, errno := a.sys.Read(int(s.fd[src]), a.buffer[:most])
	if errno != 0 {
		return 0, s.notRead(src, errno)
	}
	h.heard = true
	if n == 0 {
		return 0, s.endOfFile(d)
	}
	if n < most && s.ready[src]&(eof|broken|urgent) == 0 {
		s.ready[src] &^= readable
	}
	a.adapt(s, d, n)
	m, errno := a.sys.Write(int(s.fd[dst]), a.buffer[:n])
	if errno != 0 {
		m = 0
		if v := s.notWritten(dst, errno); v != blocked {
			return 0, v
		}
	}
	if m < n {
		if errno == 0 {
			s.ready[dst] &^= writable
		}
		h.spill = a.spills.keep(a.buffer[m:n])
		h.held = int32(n - m)
	}
	a.delivered(s, d, metrics.PathCopy, m)
	return m, blocked
}

// fill splices from the source into an empty pipe.
//
//	EAGAIN  the pipe is empty, so it is the source that is: not readable until the next event
//	denied  see notSpliced: copy from now on
//	0       EOF
//	else    that much is held; flush delivers it
func (a *Acceptor) fill(s *session, d direction, most int) (int, verdict) {
	h, src := &s.half[d], side(d)
	ref := a.pipes.borrow(a.now)
	if ref == 0 {
		h.splicing, h.streaming, h.streak = false, false, 0
		return a.copy(s, d, most)
	}
	p := a.pipes.at(ref)
	most = min(most, p.capacity)
	if h.calm < calmFills {
		most = min(most, calmSize)
	}
	n, errno := a.sys.Splice(int(s.fd[src]), p.w, most)
	if errno != 0 || n == 0 {
		a.pipes.giveBack(ref)
		if a.notSpliced(s, src, errno) {
			return a.copy(s, d, most)
		}
		if errno != 0 {
			return 0, s.notRead(src, errno)
		}
		h.heard = true
		return 0, s.endOfFile(d)
	}
	h.heard = true
	if n == most && h.calm < calmFills {
		h.calm++
	}
	a.found++ // a stream goes on, as if epoll told more
	h.pipe, h.held = ref, int32(n)
	a.adapt(s, d, n)
	return 0, blocked // flush counts it
}

// flush delivers held bytes. EAGAIN means that the receiver is full: the pipe is
// never empty here. Where splice(2) is denied they leave the pipe by read(2).
func (a *Acceptor) flush(s *session, d direction) (int, verdict) {
	h, dst := &s.half[d], side(d^1)
	if h.pipe != 0 && !a.pipes.denied {
		n, errno := a.sys.Splice(a.pipes.at(h.pipe).r, int(s.fd[dst]), int(h.held))
		if !a.notSpliced(s, dst, errno) {
			if errno == syscall.EPIPE { // or ECONNRESET: splice(2) loses the error if it comes behind a part of the bytes
				errno = syscall.ECONNRESET
			}
			return a.flushed(s, d, metrics.PathSplice, n, errno)
		}
	}
	if h.pipe != 0 && !a.emptyPipe(h) {
		return 0, denied
	}
	n, errno := a.sys.Write(int(s.fd[dst]), a.spills.last(h.spill, h.held))
	return a.flushed(s, d, metrics.PathCopy, n, errno)
}

// flushed notes what a flush has come to.
func (a *Acceptor) flushed(s *session, d direction, path metrics.Path, n int, errno syscall.Errno) (int, verdict) {
	h := &s.half[d]
	if errno != 0 {
		return 0, s.notWritten(side(d^1), errno)
	}
	h.held -= int32(n)
	if h.held == 0 {
		a.releaseHeld(h)
	}
	a.delivered(s, d, path, n)
	return n, blocked
}

// releaseHeld gives back the pipe or the spill of a half; a pipe with bytes in it is
// destroyed.
func (a *Acceptor) releaseHeld(h *half) {
	switch {
	case h.pipe != 0 && h.held == 0:
		a.pipes.giveBack(h.pipe)
	case h.pipe != 0:
		a.pipes.destroy(h.pipe)
	case h.spill != 0:
		a.spills.giveBack(h.spill)
	}
	h.pipe, h.spill, h.held = 0, 0, 0
}

// endHalf tells the receiver that no more will come. When the other half is done
// too, closing the descriptor tells it.
func (a *Acceptor) endHalf(s *session, d direction) verdict {
	s.half[d].state = halfDone
	s.moved = a.tick // from here half_closed_timeout counts, and not from the last byte
	if s.done() {
		return blocked
	}
	dst := side(d ^ 1)
	switch errno := a.sys.Shutdown(int(s.fd[dst])); {
	case errno == 0:
		return blocked
	case !peers(errno):
		return denied
	}
	s.ready[dst] |= readable | broken // ENOTCONN: it has been reset; see notWritten
	return unfinished
}

// notRead handles a read or fill that gave an errno.
func (s *session) notRead(src side, errno syscall.Errno) verdict {
	switch {
	case errno == syscall.EAGAIN && s.ready[src]&broken == 0:
		s.ready[src] &^= readable | urgent
		return blocked
	case errno == syscall.EINTR:
		return blocked
	case !peers(errno) && s.ready[src]&broken == 0:
		return denied
	}
	return brokenSide(src)
}

// notWritten handles a write or flush that gave an errno.
func (s *session) notWritten(dst side, errno syscall.Errno) verdict {
	switch errno {
	case syscall.EAGAIN:
		s.ready[dst] &^= writable
		return blocked
	case syscall.EINTR:
		return blocked
	}
	if s.ready[dst]&broken != 0 {
		return brokenSide(dst)
	}
	if !peers(errno) {
		return denied
	}
	// What it sent before it broke can still be read, so the other half goes on first.
	// EPIPE means that its FIN had come; any other errno was its error, gone now.
	s.ready[dst] |= readable | broken
	if errno != syscall.EPIPE {
		s.ready[dst] |= reported
	}
	return unfinished
}

// endOfFile handles a read or fill of 0: half d has read its last byte.
func (s *session) endOfFile(d direction) verdict {
	if s.ready[d]&reported != 0 {
		return brokenSide(side(d))
	}
	if s.half[d^1].state == halfOpen {
		s.firstEOF = metrics.ReasonClientEOF
		if d == toClient {
			s.firstEOF = metrics.ReasonBackendEOF
		}
	}
	s.half[d].state = halfFlushing
	return blocked
}

// delivered counts n bytes that half d has moved.
func (a *Acceptor) delivered(s *session, d direction, path metrics.Path, n int) {
	if n == 0 {
		return
	}
	s.moved, s.unsent = a.tick, 0
	a.noteDelivered(s, d, path, n)
	l, b := a.listenerOf(s).cells, a.targetOf(s)
	if s.route != 0 {
		a.countRouted(s, d, n)
	}
	if d == toBackend {
		l.Received[path].Add(uint64(n))
		b.Sent.Add(uint64(n))
	} else {
		l.Sent[path].Add(uint64(n))
		b.Received.Add(uint64(n))
		if s.proving != 0 {
			a.proves(s)
		}
	}
}

// adapt says whether the half streams, after it has read n bytes at once, and chooses
// how it goes on. What a stream's receiver does not read is left with its sender.
func (a *Acceptor) adapt(s *session, d direction, n int) {
	h := &s.half[d]
	forOther, enough := n >= streamSize, uint8(streamReads)
	if h.streaming {
		forOther, enough = n < trickleSize, trickleReads
	}
	if !forOther {
		h.streak = 0
	} else if h.streak++; h.streak >= enough {
		h.streaming, h.streak = !h.streaming, 0
		if h.streaming {
			a.sys.LowUnsent(int(s.fd[d^1]))
		}
	}
	switch a.listenerOf(s).Relay {
	case RelayCopy:
		h.splicing = false
	case RelaySplice:
		h.splicing = true
	default:
		h.splicing = h.streaming
	}
	h.splicing = h.splicing && !a.pipes.denied
}
