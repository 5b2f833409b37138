package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// bar is what sluice must reach in a case: the median of the ratios to the best peer, or (absolute) the median itself.
type bar struct {
	cases    string // prefix of their names: each must reach it
	key      string
	limit    float64 // at most, where less is better; at least, where more is
	absolute bool
}

var bars = []bar{
	{"bulk-1-", "cpu", 0.50, false},
	{"bulk-1-", "rate", 1.25, false},
	{"bulk-8-", "cpu", 0.60, false},
	{"bulk-8-", "rate", 1.00, false},
	{"kept-32-64B", "cpu", 1.03, false},
	{"kept-32-64B", "rate", 1.00, false},
	{"kept-32-64B", "p99", 1.00, false},
	{"kept-1-64B", "p50", 1.00, false},
	{"kept-32-10KiB", "cpu", 1.05, false},
	{"kept-32-10KiB", "rate", 0.97, false},
	{"short-32", "cpu", 1.05, false},
	{"short-32", "rate", 1.00, false},
	{"short-32", "p99", 1.00, false},
	{"idle-", "opened", 0.08, false},
	{"idle-", "opened", 256, true},
	{"idle-", "used", 0.08, false},
	{"idle-", "used", 256, true},
}

// writeBars prints for each bar whether sluice reaches it. Fewer than barRounds rounds prove nothing.
func writeBars(w io.Writer, r *result) {
	const barRounds = 7
	fmt.Fprintf(w, "Bars: sluice, median over %s of the ratio to the better peer of the round\n", plural(r.Rounds, "round"))
	if r.Rounds < barRounds || r.Smoke {
		fmt.Fprintf(w, "(a bar counts from %d full rounds on: this is no proof)\n", barRounds)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "case\tfigure\tbar\tmeasured\trange\t")
	for _, b := range bars {
		for _, c := range r.Cases {
			if strings.HasPrefix(c.Name, b.cases) {
				fmt.Fprintln(t, b.line(r, c))
			}
		}
	}
	t.Flush()
}

func (b bar) line(r *result, c caseInfo) string {
	col := columnNamed(c.Family, b.key)
	what := col.head + ", ×"
	s, measured := r.ratio(c.Name, "sluice", col)
	if b.absolute {
		what = col.head
		s, measured = r.figure(c.Name, "sluice", b.key)
	}
	bound := "at most"
	if col.better == more {
		bound = "at least"
	}
	line := fmt.Sprintf("%s\t%s\t%s %g\t", c.Name, what, bound, b.limit)
	if !measured {
		return line + "-\t-\tnot measured"
	}
	verdict := "reached"
	if (s.Median-b.limit)*float64(col.better) < 0 {
		verdict = "MISSED"
	}
	return line + fmt.Sprintf("%.4g\t%.4g..%.4g\t%s", s.Median, s.Min, s.Max, verdict)
}
