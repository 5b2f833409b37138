package proxy

import (
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"sluice/metrics"
	"sluice/metrics/journal"
	"sluice/proxy/internal/sys"
)

// checkJournal is run at the end of every test: the journal has told of each session
// once, with the reason that was counted, and all notes are given back. If records
// were overwritten unread, the reader has counted them, and there is nothing to
// compare.
func (s *service) checkJournal() {
	var closed [metrics.NumReasons]uint64
	var received, sent uint64
	s.records.Drain(func(r *journal.Record) {
		if r.Kind == journal.KindClosed {
			closed[r.Reason]++
			received += r.Received
			sent += r.Sent
		}
	})
	if n := s.records.Damaged(); n != 0 {
		s.t.Errorf("%d damaged records in the journal", n)
	}
	var counted [metrics.NumReasons]uint64
	var bytesIn, bytesOut uint64
	for _, a := range s.acceptors {
		free := 0
		for ref := a.notes.free; ref != 0; ref = a.notes.at(ref).next {
			free++
		}
		if lent := len(a.notes.chunks)*chunkNotes - free; lent != 0 {
			s.t.Errorf("acceptor %d: %d notes are not given back", a.Seat, lent)
		}
		for _, l := range a.bound.listeners {
			for i := range counted {
				counted[i] += l.cells.Closed[i].Load()
			}
			for p := range metrics.NumPaths {
				bytesIn += l.cells.Received[p].Load()
				bytesOut += l.cells.Sent[p].Load()
			}
		}
	}
	if s.records.Overwritten() != 0 || s.partly {
		return
	}
	if closed != counted || received != bytesIn || sent != bytesOut {
		s.t.Errorf("the journal tells of %v sessions by reason and %d+%d bytes, the cells of %v and %d+%d",
			closed, received, sent, counted, bytesIn, bytesOut)
	}
}

// kinds are what happened to sessions, in order.
func (s *service) kinds() (all []journal.Record) {
	s.records.Recent(func(r *journal.Record) { all = append(all, *r) })
	return all
}

func TestJournalOfASession(t *testing.T) {
	s := start(t)
	c, b := s.pair()
	send(t, c, "question")
	expect(t, b, "question")
	send(t, b, "an answer")
	expect(t, c, "an answer")
	time.Sleep(3 * time.Millisecond) // so that the session has an age
	c.CloseWrite()
	wantEnd(t, b, "", sawFIN)
	b.Close()
	wantEnd(t, c, "", sawFIN)
	s.closed(metrics.ReasonClientEOF, 1)
	all := s.kinds()
	var kinds []journal.Kind
	for _, r := range all {
		kinds = append(kinds, r.Kind)
		if r.Session != all[0].Session || r.Listener != webID || r.Client.AddrPort() != c.LocalAddr().(*net.TCPAddr).AddrPort() {
			t.Errorf("%+v", r)
		}
	}
	if want := []journal.Kind{journal.KindAccepted, journal.KindDialed, journal.KindConnected, journal.KindClosed}; !slices.Equal(kinds, want) {
		t.Fatalf("%v, want %v", kinds, want)
	}
	last := all[3]
	if last.Received != 8 || last.Sent != 9 || last.Tries != 1 || last.Target != targetAt(0, netip.AddrPort{}).ID || last.Reason != metrics.ReasonClientEOF {
		t.Errorf("%+v", last)
	}
	if last.Age() < 3*time.Millisecond || last.Age() > deadline || last.Queue() < 0 || last.Connect() < 0 || last.Connect() > last.Age() {
		t.Errorf("age %v, queue %v, connect %v", last.Age(), last.Queue(), last.Connect())
	}
	if last.Session.Seat() != 0 || last.Session.Use() == 1 {
		t.Errorf("session %v", last.Session)
	}
}

// The client that has reset its connection is known all the same.
func TestJournalOfAReset(t *testing.T) {
	s := start(t)
	c, b := s.pair()
	from := c.LocalAddr().(*net.TCPAddr).AddrPort()
	abortConn(t, c)
	wantEnd(t, b, "", sawRST)
	s.closed(metrics.ReasonClientReset, 1)
	all := s.kinds()
	if last := all[len(all)-1]; last.Client.AddrPort() != from || last.Reason != metrics.ReasonClientReset {
		t.Errorf("%+v, want client %v", last, from)
	}
}

// Each failed try is told, and the last record counts them.
func TestJournalOfTries(t *testing.T) {
	s := start(t, func(o *setup) {
		o.pool().Retries = 2
		o.sys = func(y *sys.Calls) {
			y.Connect = func(int, netip.AddrPort) syscall.Errno { return syscall.ECONNREFUSED }
		}
		o.pool().Targets = append(o.pool().Targets, targetAt(1, netip.MustParseAddrPort("127.0.0.1:9")), targetAt(2, netip.MustParseAddrPort("127.0.0.1:10")))
	})
	s.wantRefused()
	s.closed(metrics.ReasonConnectFailed, 1)
	dialed, failed := map[metrics.ID]int{}, map[metrics.ID]int{}
	var last journal.Record
	for _, r := range s.kinds() {
		switch r.Kind {
		case journal.KindDialed:
			dialed[r.Target]++
		case journal.KindDialFailed:
			if failed[r.Target]++; r.Class != metrics.ConnectRefused {
				t.Errorf("class %v", r.Class)
			}
		}
		last = r
	}
	if len(dialed) != 3 || len(failed) != 3 || last.Kind != journal.KindClosed || last.Tries != 3 || last.Connected != 0 {
		t.Errorf("dialed %v, failed %v, last %+v", dialed, failed, last)
	}
}

func TestJournalOfARejection(t *testing.T) {
	s := start(t, func(o *setup) { o.listener().MaxSessions = 1 })
	c, b := s.pair()
	s.wantRefused()
	c.Close()
	wantEnd(t, b, "", sawFIN)
	b.Close()
	s.settled()
	rejected := 0
	for _, r := range s.kinds() {
		if r.Kind == journal.KindRejected {
			rejected++
			if r.Reject != metrics.RejectMaxSessions || r.Listener != webID || !r.Client.AddrPort().IsValid() || r.Session.Use() != 0 {
				t.Errorf("%+v", r)
			}
		}
	}
	if rejected != 1 {
		t.Errorf("%d rejections", rejected)
	}
}

// At first no records are wanted, then they are: a session that began before says
// so, and one that ends after they are no longer wanted leaves nothing behind.
func TestJournalIsTurnedOnAndOff(t *testing.T) {
	s := start(t, func(o *setup) { o.want = 0 })
	s.partly = true
	want := func(w journal.Want) {
		s.board.Acceptor(0).Record.Store(int64(w))
		s.apply(s.renewed()) // it has turned after that
	}
	before, b1 := s.pair()
	send(t, before, "unseen")
	expect(t, b1, "unseen")
	want(journal.WantEnds)
	during, b2 := s.pair()
	send(t, before, "seen")
	expect(t, b1, "seen")
	before.Close()
	wantEnd(t, b1, "", sawFIN)
	b1.Close()
	s.closed(metrics.ReasonClientEOF, 1)
	want(0)
	during.Close()
	wantEnd(t, b2, "", sawFIN)
	b2.Close()
	s.closed(metrics.ReasonClientEOF, 2)
	all := s.kinds()
	if len(all) != 1 {
		t.Fatalf("%d records, want 1: %+v", len(all), all)
	}
	r := all[0]
	if r.Flags&journal.Partial == 0 || r.Received != 0 || r.Reason != metrics.ReasonClientEOF || r.Target.Index() != 0 {
		t.Errorf("%+v", r)
	}
	s.acceptors[0].Holds(netip.AddrPort{}) // the loop is done with them
	s.checkJournal()                       // for the notes
}

// The reader sleeps and is woken by the turn in which something ends.
func TestJournalWakesItsReader(t *testing.T) {
	s := start(t)
	s.partly = true
	woke := make(chan journal.Record, 16)
	go func() {
		for s.records.Wait() {
			s.records.Drain(func(r *journal.Record) { woke <- *r })
		}
	}()
	for range 2 {
		c, b := s.pair()
		c.Close()
		wantEnd(t, b, "", sawFIN)
		b.Close()
		for closed := false; !closed; {
			select {
			case r := <-woke:
				closed = r.Kind == journal.KindClosed
			case <-time.After(deadline):
				t.Fatal("the reader sleeps on")
			}
		}
	}
	s.records.Close()
}
