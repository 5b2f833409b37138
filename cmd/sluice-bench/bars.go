package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// bar is what sluice must reach in a case.
type bar struct {
	cases string // prefix of their names: each must reach it
	key   string
	limit float64 // at most, where less is better; at least, where more is
	of    string  // what the limit is a multiple of; a ratio is the median of those of each round
	modes []string
}

// What a limit is a multiple of, when it is not a peer by its name: the better peer, or nothing. Then it is in the unit of the column,
// and of the median, or of the worst of all rounds where less is better.
const (
	better     = "better peer"
	absolute   = "nothing"
	everyRound = "nothing, in every round"
)

var (
	threads = []string{"sluice"} // the mode that stands for both where they share all that is measured
	both    = []string{"sluice", "sluice-process"}
)

var bars = []bar{
	{"bulk-1-", "cpu", 0.50, better, threads},
	{"bulk-1-", "rate", 1.25, better, threads},
	{"bulk-8-", "cpu", 0.60, better, threads},
	{"bulk-8-", "rate", 1.00, better, threads},
	{"kept-32-64B", "cpu", 1.03, better, threads},
	{"kept-32-64B", "rate", 1.00, better, threads},
	{"kept-32-64B", "p99", 1.00, better, threads},
	{"kept-1-64B", "cpu", 1.00, better, threads},
	{"kept-1-64B", "p50", 1.00, better, threads},
	{"kept-32-10KiB", "cpu", 1.05, better, threads},
	{"kept-32-10KiB", "rate", 0.97, better, threads},
	{"short-32", "cpu", 1.05, better, threads},
	{"short-32", "rate", 1.00, better, threads},
	{"short-32", "p99", 1.00, better, threads},
	{"idle-4000", "opened", 0.08, better, threads},
	{"idle-4000", "opened", 256, absolute, threads},
	{"idle-4000", "used", 0.08, better, threads},
	{"idle-4000", "used", 256, absolute, threads},
	{"idle-cpu-1a", "share", 1, absolute, both},
	{"idle-cpu-4a", "share", 1, absolute, both},
	{"idle-cpu-16a", "share", 1, absolute, both},
	{"idle-cpu-64a", "share", 3, absolute, both},
	{"idle-cpu-9000-1a", "share", 1, absolute, both},
	{"idle-cpu-9000-4a", "share", 1, absolute, both},
	{"idle-cpu-9000-16a", "share", 1, absolute, both},
	{"idle-cpu-9000-64a", "share", 3, absolute, both},
	{"low-rate", "cpu", 1.5, "nginx", both},
	{"many-acceptors", "cpu", 1.5, "nginx", both},
	{"fair-", "p99", 0.7, better, threads},
	{"accepts-beside-streams", "p50", 0.7, better, threads},
	{"accepts-beside-streams", "failed", 0, everyRound, threads},
	{"many-listeners-200", "start", 1, absolute, both},
	{"many-listeners-1000", "start", 3, absolute, both},
	{"many-listeners-1000", "memory", 2, "haproxy", threads},
	{"many-backends", "memory", 2, "haproxy", threads},
	{"many-backends", "each", 1, "haproxy", threads},
	{"slow-readers", "kernel", 1, "haproxy", both},
	{"sick-blackholed", "p99", 1, "haproxy", both},
	{"sick-blackholed", "failed", 0, everyRound, both},
	{"sick-refusing", "p99", 1, "haproxy", both},
	{"sick-refusing", "failed", 0, everyRound, both},
	{"sick-closing", "p99", 1, "haproxy", both},
	{"sick-closing", "failed", 0.1, "haproxy", both},
	{"sick-silent", "p99", 1, "haproxy", both}, // both the patience: a session that meets it fails
	{"sick-silent", "failed", 1, "haproxy", both},
	{"sick-slow", "p99", 1.01, "haproxy", both}, // with 200 ms in both, one step of the histogram is no difference
	{"sick-slow", "failed", 0, everyRound, both},
	{"checks-1000", "share", 50, absolute, both},
}

// writeBars prints for each bar whether sluice reaches it. Fewer than barRounds rounds prove nothing.
func writeBars(w io.Writer, r *result) {
	const barRounds = 7
	fmt.Fprintf(w, "Bars: sluice, median over %s; ×: of the ratio to the better peer of the round, × nginx: to nginx\n", plural(r.Rounds, "round"))
	if r.Rounds < barRounds || r.Smoke {
		fmt.Fprintf(w, "(a bar counts from %d full rounds on: this is no proof)\n", barRounds)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "case\tproxy\tfigure\tbar\tmeasured\trange\t")
	for _, b := range bars {
		for _, c := range r.Cases {
			if !strings.HasPrefix(c.Name, b.cases) {
				continue
			}
			for _, mode := range b.modes {
				fmt.Fprintln(t, b.line(r, c, mode))
			}
		}
	}
	t.Flush()
}

func (b bar) line(r *result, c caseInfo, mode string) string {
	col := columnNamed(c.Family, b.key)
	what := col.head
	var s series
	var measured bool
	switch b.of {
	case absolute, everyRound:
		s, measured = r.figure(c.Name, mode, b.key)
		s = scaled(s, col.scale)
		if b.of == everyRound {
			what += ", worst"
			s.Median = s.Max
		}
	case better:
		what += ", ×"
		s, measured = r.ratio(c.Name, mode, col)
	default:
		what += ", × " + b.of
		s, measured = r.ratioTo([]string{b.of}, c.Name, mode, col)
	}
	bound := "at most"
	if col.better == more {
		bound = "at least"
	}
	line := fmt.Sprintf("%s\t%s\t%s\t%s %g\t", c.Name, mode, what, bound, b.limit)
	if !measured {
		return line + "-\t-\tnot measured"
	}
	verdict := "reached"
	if (s.Median-b.limit)*float64(col.better) < 0 {
		verdict = "MISSED"
	}
	return line + fmt.Sprintf("%.4g\t%.4g..%.4g\t%s", s.Median, s.Min, s.Max, verdict)
}
