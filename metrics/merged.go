package metrics

import "time"

// A backend whose name stands for many addresses can have one series of each family in
// place of one for each address. Its counters must not fall when an address leaves, for
// Prometheus takes that for a restart. So they count over three things:
//
//	Targets ──leaves its name──► Left ──no session holds it──► Departed
//	cells on the board           cells on the board            a sum in memory
//
// An address's counts are in exactly one of them whenever a Snapshot is taken.

// Departed is what those addresses of a backend did that nothing on the board knows any
// more. Its zero value is ready for use. It belongs to one board, whose lock guards it.
type Departed struct{ cells TargetCells }

// Depart moves what a target counted to a sum. No acceptor may count for it any more.
func (b *Board) Depart(id ID, to *Departed) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range stripes {
		if v := b.view(i); v.touched(targetTable, id.Index()) {
			move(wordsOf(&to.cells), b.words(targetTable.place(i, id.Index()), targetTable.size))
		}
	}
	to.cells.Active.Store(0) // no session holds it
}

// MergedStats is a backend with the figures of all its addresses together.
type MergedStats struct {
	Sum     TargetStats         // of counts, those of addresses that have left included; nothing else is set
	Failing int                 // addresses that are
	States  map[TargetState]int // addresses in each
	Check   *MergedCheck        // nil = they are not checked
}

// MergedCheck is what the checks of all addresses have found.
type MergedCheck struct {
	Up          int           // addresses
	Failures    Counts        // also of checks of what has left
	Longest     time.Duration // of the last checks; 0 = none was made yet
	Certificate time.Time     // the first to expire; zero = none was seen
}

// merge adds up a backend whose targets were read.
func (r *reader) merge(be Backend, targets []TargetStats, sumOfTargets *TargetCells) *MergedStats {
	c := sumOfTargets
	for _, id := range be.Left {
		r.sumOfTarget(id)
		sum(c, &r.targetSum)
	}
	if be.Departed != nil {
		sum(c, &be.Departed.cells)
	}
	m := &MergedStats{Sum: r.figures(c), States: map[TargetState]int{}}
	for i := range targets {
		t := &targets[i]
		if t.Failing {
			m.Failing++
		}
		if t.State != "" {
			m.States[t.State]++
		}
		if t.Check != nil {
			m.checked(t.Check)
		}
	}
	if m.Check != nil {
		for i, n := range be.LeftFailures {
			m.Check.Failures.n[i] += n
		}
	}
	return m
}

func (m *MergedStats) checked(c *Check) {
	if m.Check == nil {
		m.Check = &MergedCheck{Failures: CheckFailures(&[NumCheckFailures]uint64{})}
	}
	if c.Up {
		m.Check.Up++
	}
	for i, n := range c.Failures.n {
		m.Check.Failures.n[i] += n
	}
	m.Check.Longest = max(m.Check.Longest, time.Duration(c.Seconds*float64(time.Second)))
	if first := m.Check.Certificate; first.IsZero() || !c.Certificate.IsZero() && c.Certificate.Before(first) {
		m.Check.Certificate = c.Certificate
	}
}

// mergedAddress is the label of what is merged.
const mergedAddress = "*"

// merged sends a backend as one address would be, with counts where that has a 1.
func (out *sink) merged(pool, backend string, m *MergedStats) {
	labels := []string{pool, backend, mergedAddress}
	out.figures(&m.Sum, labels)
	out.value(backendFailing, float64(m.Failing), labels...)
	for _, state := range targetStates {
		if n := m.States[state]; n > 0 {
			out.value(backendState, float64(n), pool, backend, mergedAddress, string(state))
		}
	}
	c := m.Check
	if c == nil {
		return
	}
	out.value(backendUp, float64(c.Up), labels...)
	out.counts(backendCheckFailures, c.Failures, labels...)
	if c.Longest > 0 {
		out.value(backendCheckDuration, c.Longest.Seconds(), labels...)
	}
	if !c.Certificate.IsZero() {
		out.value(backendCertificate, float64(c.Certificate.Unix()), labels...)
	}
}
