package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"
)

// noise is how far a median may move without meaning; of fewer rounds than noiseRounds the range says nothing.
const (
	noise       = 0.05
	noiseRounds = 3
)

// difference is one figure in two results.
type difference struct {
	Case, Proxy, Figure string
	Before, After       series
	digits              int
	Change              float64 // of the median, as a share of the old one
	Verdict             string  // "" within the noise
}

// compareResults compares every figure that both results have, and where there are peers its ratio to the best of them, which stands
// still when the whole machine was faster or slower. Outside the noise is a median that moved by more than 5 % while the ranges of
// the rounds, three at least, do not overlap.
func compareResults(before, after *result) []difference {
	var all []difference
	for _, c := range after.Cases {
		for _, p := range after.Proxies {
			for _, col := range columnsOf(c.Family) {
				b, inBefore := before.figure(c.Name, p.Name, col.key)
				a, inAfter := after.figure(c.Name, p.Name, col.key)
				if !inBefore || !inAfter {
					continue
				}
				all = append(all, newDifference(c.Name, p.Name, col, scaled(b, col.scale), scaled(a, col.scale)))
				if !col.ratio || p.Peer || p.Name == direct {
					continue
				}
				b, inBefore = before.ratio(c.Name, p.Name, col)
				a, inAfter = after.ratio(c.Name, p.Name, col)
				if inBefore && inAfter {
					col.head, col.digits = col.head+", ×", 3
					all = append(all, newDifference(c.Name, p.Name, col, b, a))
				}
			}
		}
	}
	return all
}

func newDifference(caseName, proxy string, col column, b, a series) difference {
	d := difference{Case: caseName, Proxy: proxy, Figure: col.head, Before: b, After: a, digits: col.digits}
	if b.Median != a.Median {
		d.Change = (a.Median - b.Median) / math.Abs(b.Median)
	}
	apart := a.Min > b.Max || a.Max < b.Min
	if apart && min(a.Rounds, b.Rounds) >= noiseRounds && math.Abs(d.Change) > noise {
		d.Verdict = "better"
		if d.Change*float64(col.better) < 0 {
			d.Verdict = "WORSE"
		}
	}
	return d
}

func scaled(s series, by float64) series {
	return series{Median: s.Median * by, Min: s.Min * by, Max: s.Max * by, Rounds: s.Rounds}
}

// writeDifferences prints the differences, those outside the noise with their verdict.
func writeDifferences(w io.Writer, before, after *result) {
	fmt.Fprintf(w, "Differences: %s (%s) -> %s (%s)\n", before.Date.Format("2006-01-02 15:04"), before.versionOf("sluice"),
		after.Date.Format("2006-01-02 15:04"), after.versionOf("sluice"))
	if before.Machine != after.Machine || before.Acceptors != after.Acceptors || before.Smoke || after.Smoke {
		fmt.Fprintln(w, "(not the same machine and settings, or a smoke: these differences prove nothing)")
	}
	differences := compareResults(before, after)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "case\tproxy\tfigure\tbefore\tafter\tchange\t")
	for _, d := range differences {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%+.1f %%\t%s\n", d.Case, d.Proxy, d.Figure, d.Before.format(d.digits), d.After.format(d.digits), 100*d.Change, d.Verdict)
	}
	t.Flush()
	outside := slices.DeleteFunc(differences, func(d difference) bool { return d.Verdict == "" })
	fmt.Fprintf(w, "%d of these outside the noise (median moved more than %.0f %% and the ranges do not overlap)\n", len(outside), 100*noise)
}

func (s series) format(digits int) string {
	return fmt.Sprintf("%.*f [%.*f..%.*f]", digits, s.Median, digits, s.Min, digits, s.Max)
}
