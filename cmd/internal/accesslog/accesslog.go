// Package accesslog writes a line for each session that ended: the journal's records,
// with names in place of numbers.
//
//	rings of the journal ─► Reader ─► one goroutine: which of them? ─► Format ─► logring.Ring ─► stdout, file, syslog
//	                                    ▲        ▲                                  its own goroutine, which may be stuck
//	Prepare, Put: what is wanted ───────┘        └─── Names: what the control plane has called things
//
// No acceptor waits: it writes into its ring whatever happens here. What is lost, in a
// ring that came round before it was read or at a place that takes nothing (a full disk,
// a stuck reader), is counted to the line, and told in the log once it flows again.
// Lines of one acceptor are in their order; those of several are 20 ms apart at most.
package accesslog

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sluice/cmd/internal/logring"
	"sluice/metrics"
	"sluice/metrics/journal"
)

// Which sessions have a line.
const (
	Off    = "off"
	Errors = "errors" // those that did not end as they should, see normal
	All    = "all"
)

// Options say what is written, and where. Of those that are off nothing else counts.
type Options struct {
	Access    string  // Off, Errors or All
	To        string  // see CheckPlace
	Format    string  // see ParseFormat
	Sample    float64 // 0..1: the share of sessions that is written; all lines of a session or none
	Start     bool    // a line also when a backend has taken the session
	SkipEmpty bool    // none for clients that come and go without a byte
}

const (
	// gather is how long records lie after one has woken the reader, so that a busy service
	// wakes it fifty times a second and not a thousand. A ring holds 0.8 s.
	gather = 20 * time.Millisecond

	// atOnce is what is handed to the ring at a time: far below what it keeps, so that what
	// does not fit is some lines, not all.
	atOnce = 32 << 10

	// keptBytes and keptLines are what a stuck place leaves in memory: half of it is being
	// written. 8 MiB are 20,000 lines, a second of the busiest acceptor.
	keptBytes, keptLines = 8 << 20, 1 << 17

	// endWithin bounds what a stuck place may delay the end.
	endWithin = time.Second
)

// Log reads the journal and writes lines. Prepare, Put and Close belong to one goroutine;
// the rest may be called by any.
type Log struct {
	Names Names
	Tail  Tail

	journal *journal.Journal
	reader  *journal.Reader
	log     *slog.Logger
	stdout  io.Writer
	process bool
	closing chan struct{}
	ended   chan struct{} // the reading goroutine has returned
	current *rules        // what Put was given last
	lines   atomic.Uint64

	mu     sync.Mutex // guards what follows; held for a moment only
	next   *rules     // to be adopted; nil = none
	deaths []death
	died   map[int]time.Time // by seat: when a worker died there last
	sinks  []*sink           // that have not ended
	gone   uint64            // lines lost by those that have
	missed uint64            // records that were overwritten while there was a log

	// The reading goroutine's.
	rules       *rules
	buf         []byte
	e           entry
	overwritten uint64
}

// death is what a worker has taken with it.
type death struct {
	seat     int
	listener metrics.ID
	sessions uint64
}

// rules are Options, made ready.
type rules struct {
	Options
	format *Format
	sink   *sink // nil = off
	below  uint64
}

// sink is a place and the ring in front of it.
type sink struct {
	to     string
	place  place
	ring   *logring.Ring
	header *header // nil = none
	format atomic.Pointer[Format]
}

// New makes a Log that is off. It reads the journal from then on, as its one reader.
// process says that each acceptor is in a worker of its own.
func New(j *journal.Journal, log *slog.Logger, stdout io.Writer, process bool) (*Log, error) {
	r, err := j.NewReader()
	if err != nil {
		return nil, err
	}
	off := &rules{Options: Options{Access: Off}}
	l := &Log{
		journal: j, reader: r, log: log, stdout: stdout, process: process,
		closing: make(chan struct{}), ended: make(chan struct{}), current: off, rules: off, died: map[int]time.Time{},
	}
	go l.read()
	return l, nil
}

// Prepared is what Put puts in force.
type Prepared struct {
	rules *rules
	fresh bool // its sink is not in force
}

// Prepare opens what o needs. Nothing is in force before Put; without it, Discard.
func (l *Log) Prepare(o Options) (*Prepared, error) {
	r := &rules{Options: o}
	if o.Access == Off {
		return &Prepared{rules: r}, nil
	}
	var err error
	if r.format, err = ParseFormat(o.Format); err != nil {
		return nil, err
	}
	if r.below = ^uint64(0); o.Sample < 1 {
		r.below = uint64(o.Sample * (1 << 63) * 2)
	}
	if s := l.current.sink; s != nil && s.to == o.To {
		r.sink = s
		return &Prepared{rules: r}, nil
	}
	p, err := openPlace(o.To, l.stdout)
	if err != nil {
		return nil, err
	}
	s := &sink{to: o.To, place: p}
	if strings.HasPrefix(o.To, "syslog:") {
		s.header = newHeader()
	}
	s.format.Store(r.format)
	s.ring = logring.New(p, logring.Options{MaxBytes: keptBytes, MaxLines: keptLines, Lost: s.tellLost})
	r.sink = s
	return &Prepared{rules: r, fresh: true}, nil
}

// Discard closes what was prepared and is not put in force.
func (p *Prepared) Discard() {
	if p.fresh {
		p.rules.sink.end()
	}
}

// Put puts it in force, for what is read from now on.
func (l *Log) Put(p *Prepared) {
	l.current = p.rules
	l.mu.Lock()
	l.next = p.rules
	if p.fresh {
		l.sinks = append(l.sinks, p.rules.sink)
	}
	l.mu.Unlock()
	l.journal.Wake()
}

// Want is what acceptors must write down for what is in force.
func (l *Log) Want() journal.Want {
	switch {
	case l.current.sink == nil:
		return 0
	case l.current.Start:
		return journal.WantEnds | journal.WantConnects
	}
	return journal.WantEnds
}

// WorkerDied tells of sessions that no acceptor can write down any more. One line tells
// of all of a listener, for nothing else is known of them.
func (l *Log) WorkerDied(seat int, lost map[metrics.ID]uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.died[seat] = time.Now()
	for id, n := range lost {
		l.deaths = append(l.deaths, death{seat, id, n})
	}
	if len(lost) > 0 {
		l.journal.Wake()
	}
}

// Reopen has a file opened anew after it was renamed. It waits for a write that is
// under way.
func (l *Log) Reopen() error {
	l.mu.Lock()
	all := slices.Clone(l.sinks)
	l.mu.Unlock()
	var failed error
	for _, s := range all {
		if err := s.place.reopen(); err != nil {
			failed = err
		}
	}
	return failed
}

// Stats are what metrics tell.
func (l *Log) Stats() metrics.AccessLog {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := metrics.AccessLog{
		Lines: l.lines.Load(),
		Dropped: map[string]uint64{
			metrics.AccessOverwritten: l.missed, metrics.AccessDamaged: l.reader.Damaged(), metrics.AccessUnwritten: l.gone,
		},
	}
	for _, sink := range l.sinks {
		s.Dropped[metrics.AccessUnwritten] += sink.dropped()
	}
	return s
}

// Close writes what is left, once no acceptor writes any more, and ends. A stuck place
// delays it by two seconds at most.
func (l *Log) Close() {
	close(l.closing)
	l.reader.Close()
	<-l.ended
	l.mu.Lock()
	all := slices.Clone(l.sinks)
	l.mu.Unlock()
	var each sync.WaitGroup
	for _, s := range all {
		each.Go(func() { s.end() })
	}
	each.Wait()
}

// read is the reading goroutine.
func (l *Log) read() {
	defer close(l.ended)
	for more := true; more; {
		more = l.reader.Wait()
		if more {
			select {
			case <-time.After(gather):
			case <-l.closing:
			}
		}
		l.turn()
	}
}

// turn writes all that has come.
func (l *Log) turn() {
	deaths := l.adopt()
	l.e = entry{epoch: sinceEpoch(), second: l.e.second}
	l.reader.Drain(l.take)
	for _, d := range deaths {
		now := time.Now().UnixNano() - l.e.epoch
		l.e.lost = d.sessions
		l.take(&journal.Record{
			Session: journal.NewID(d.seat, 0, 0), Listener: d.listener, Opened: now, At: now, Kind: journal.KindClosed,
			Reason: metrics.ReasonWorkerDied, Flags: journal.Partial,
		})
		l.e.lost = 0
	}
	if n := l.reader.Overwritten(); n != l.overwritten {
		if s := l.rules.sink; s != nil { // else a trace alone has lost them
			l.buf = s.append(l.buf, &entry{gap: true, lost: n - l.overwritten})
			l.mu.Lock()
			l.missed += n - l.overwritten
			l.mu.Unlock()
		}
		l.overwritten = n
	}
	l.flush()
}

// adopt brings what was put in force meanwhile.
func (l *Log) adopt() (deaths []death) {
	l.mu.Lock()
	deaths, l.deaths = l.deaths, nil
	next, last := l.next, l.rules.sink
	l.next = nil
	if next != nil {
		l.rules = next
	}
	l.mu.Unlock()
	if next == nil {
		return deaths
	}
	if next.sink != nil {
		next.sink.format.Store(next.format)
	}
	if last != nil && last != next.sink {
		go l.retire(last)
	}
	return deaths
}

// retire ends a sink that is not in force any more. One that is stuck for good stays, and is
// counted.
func (l *Log) retire(s *sink) {
	if !s.end() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gone += s.dropped()
	l.sinks = slices.DeleteFunc(l.sinks, func(other *sink) bool { return other == s })
}

// take writes the line of a record, if it is to have one.
func (l *Log) take(r *journal.Record) {
	l.Tail.add(r)
	rules := l.rules
	if rules.sink == nil || !rules.wants(r) {
		return
	}
	l.name(&l.e, r)
	l.buf = rules.sink.append(l.buf, &l.e)
	l.lines.Add(1)
	if len(l.buf) >= atOnce {
		l.flush()
	}
}

// name puts into e the record and what its numbers stand for.
func (l *Log) name(e *entry, r *journal.Record) {
	e.Record = r
	e.worker = 0
	if l.process {
		e.worker = r.Session.Seat()
	}
	l.Names.mu.RLock()
	defer l.Names.mu.RUnlock()
	e.listener, _ = l.Names.listeners.get(r.Listener, r.Listener.Generation() == 0)
	e.route, e.target = Route{}, Target{}
	if r.Flags&journal.Routed != 0 {
		e.route, _ = l.Names.routes.get(r.Route, r.Flags&journal.Partial != 0)
	}
	if r.Tries > 0 {
		e.target, _ = l.Names.targets.get(r.Target, r.Flags&journal.Partial != 0)
	}
}

func (l *Log) flush() {
	if len(l.buf) > 0 {
		_, _ = l.rules.sink.ring.Write(l.buf) // it takes or counts all
		l.buf = l.buf[:0]
	}
}

// wants says whether a record has a line.
func (r *rules) wants(rec *journal.Record) bool {
	switch rec.Kind {
	case journal.KindClosed, journal.KindRejected:
	case journal.KindConnected:
		if !r.Start {
			return false
		}
	default:
		return false
	}
	switch {
	case r.Access == Errors && normal(rec), r.SkipEmpty && empty(rec):
		return false
	case r.below == ^uint64(0):
		return true
	}
	key := uint64(rec.Session)
	if rec.Session.Use() == 0 { // it is none, and all of a seat look the same
		key = uint64(rec.At)
	}
	return mix(key) < r.below
}

// mix spreads keys evenly (splitmix64).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func (s *sink) append(b []byte, e *entry) []byte {
	if s.header != nil {
		b = s.header.append(b, e)
	}
	return s.format.Load().append(b, e)
}

func (s *sink) tellLost(w io.Writer, n uint64) {
	_, _ = w.Write(s.append(nil, &entry{gap: true, lost: n}))
}

func (s *sink) dropped() uint64 { return s.ring.Dropped() + s.place.dropped() }

// end writes what is kept, as long as the place takes it, and counts the rest.
func (s *sink) end() (ended bool) {
	within := func() error {
		ctx, cancel := context.WithTimeout(context.Background(), endWithin)
		defer cancel()
		return s.ring.Close(ctx)
	}
	err := within()
	s.place.close() // a write that is stuck there ends
	if err != nil {
		err = within()
	}
	return err == nil
}
