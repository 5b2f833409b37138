package control

import (
	"sync"

	"sluice/cmd/internal/admin"
	"sluice/metrics/journal"
)

// recording is what acceptors are told to write into the journal: what the access log
// wants, each step if [log] trace says so, and the ends of sessions while the page is open.
type recording struct {
	mu      sync.Mutex
	want    journal.Want
	watched bool
	seats   []int
}

// wantRecords tells all acceptors of next what they are to write into the journal.
func (s *service) wantRecords(next *state) {
	s.records.mu.Lock()
	defer s.records.mu.Unlock()
	s.records.want, s.records.seats = s.access.Want(), next.seats.numbers()
	if next.config.Log.Trace {
		s.records.want |= journal.WantSteps
	}
	for _, seat := range s.records.seats {
		s.journal.Use(seat)
	}
	s.tellWantedLocked()
}

// steps says whether each step is written down.
func (r *recording) steps() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.want&journal.WantSteps != 0
}

// watch is called when the first viewer opens the page, and when the last one has left.
func (s *service) watch(watched bool) {
	s.records.mu.Lock()
	defer s.records.mu.Unlock()
	s.records.watched = watched
	s.access.Tail.Follow(watched)
	s.tellWantedLocked()
}

func (s *service) tellWantedLocked() {
	want := s.records.want
	if s.records.watched {
		want |= journal.WantEnds
	}
	for _, seat := range s.records.seats {
		s.board.Acceptor(seat).Record.Store(int64(want))
	}
}

// ended is what the page shows of sessions that have ended.
func (s *service) ended(after uint64) (e admin.Ended) {
	from := s.access.Ended(after)
	e = admin.Ended{Last: from.Last, Missed: from.Missed, Sessions: make([]admin.Text, len(from.Lines))}
	for i, line := range from.Lines {
		e.Sessions[i] = line
	}
	return e
}

// configText is the configuration in force.
func (s *service) configText() string {
	st, _ := s.shown()
	return st.config.Text()
}
