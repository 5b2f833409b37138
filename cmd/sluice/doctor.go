package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"text/tabwriter"

	"sluice/listener"
	"sluice/listener/steering"
	"sluice/metrics"
	"sluice/proxy"
)

// doctor says what this kernel, these privileges and these limits let sluice do, and
// the one command that improves each finding.
//
//	files of /proc and /sys ─┐
//	steering.Probe ──────────┤
//	proxy.ProbeSplice ───────┼─► machine ─► checks ─► findings ─┬─► text
//	metrics.ReadNetns ───────┘          ChanceOf ─► chances ────┴─► JSON
//
// It changes nothing and opens no port. What it finds is no failure: the exit status
// is 0.
func doctor(e env, args []string) int {
	fs := flag.NewFlagSet("sluice doctor", flag.ContinueOnError)
	asJSON := fs.Bool("json", false, "write JSON")
	connections := fs.Int("connections", 0, "`NUMBER` of connections to tell the balance of; 0 = a few")
	acceptors := fs.Int("acceptors", 0, "`NUMBER` of acceptors to tell the balance of; 0 = a few")
	as := fs.String("user", "", "`WHO` will run sluice: NAME, UID or UID:GID; takes root to test it for another")
	if status := parse(e, fs, args); status >= 0 {
		return status
	}
	if *connections < 0 || *acceptors < 0 {
		fmt.Fprintln(e.stderr, "sluice doctor: -connections and -acceptors must not be negative")
		return exitUsage
	}
	if *as != "" {
		return doctorAs(e, *as, without(fs, "user"))
	}
	m := machine{
		read: os.ReadFile, steering: sync.OnceValue(steering.Probe), splice: proxy.ProbeSplice, netns: metrics.ReadNetns,
		mptcp: listener.ProbeMultipath, refused: refusedOptions,
		cpus: func() int { return runtime.GOMAXPROCS(0) },
	}
	d := diagnosis{Findings: examine(m), Chances: chances(*connections, *acceptors)}
	write := d.writeText
	if *asJSON {
		write = d.writeJSON
	}
	if err := write(e.stdout); err != nil {
		fmt.Fprintln(e.stderr, "sluice doctor:", err)
		return exitFault
	}
	return exitOK
}

type diagnosis struct {
	Findings []finding `json:"findings"`
	Chances  []chance  `json:"chances"`
}

// finding is one thing that was looked at.
type finding struct {
	Name    string `json:"name"`
	Mark    mark   `json:"mark"`
	Says    string `json:"says"`
	Improve string `json:"improve,omitempty"` // a command; "" = there is nothing to improve
}

// mark is how good a finding is.
type mark string

const (
	markOK   mark = "ok"
	markNote mark = "note" // it could be better, or could not be told
	markPoor mark = "poor" // it costs what sluice is there for
)

// chance is how evenly a fair hash shares connections on average.
type chance struct {
	Connections int `json:"connections"`
	Acceptors   int `json:"acceptors"`
	metrics.Chance
}

// chances are those of a few typical numbers in place of one that is 0.
func chances(connections, acceptors int) (all []chance) {
	ns, ks := []int{16, 64, 256, 1000, 10000}, []int{4, 16}
	if connections > 0 {
		ns = []int{connections}
	}
	if acceptors > 0 {
		ks = []int{acceptors}
	}
	for _, k := range ks {
		for _, n := range ns {
			all = append(all, chance{n, k, metrics.ChanceOf(float64(n), k)})
		}
	}
	return all
}

func (d diagnosis) writeJSON(w io.Writer) error {
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	out.SetEscapeHTML(false)
	return out.Encode(d)
}

func (d diagnosis) writeText(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range d.Findings {
		fmt.Fprintf(t, "%s\t%s\t%s\n", f.Mark, f.Name, f.Says)
		if f.Improve != "" {
			fmt.Fprintf(t, "\t\t  better: %s\n", f.Improve)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprint(w, "\nHow evenly the kernel's hash shares held connections, by chance alone. With least\n"+
		"and round_robin no acceptor has more than one more than another.\n\n")
	fmt.Fprint(t, "acceptors\tconnections\tJain\tmax/mean\tcoefficient of variation\n")
	for _, c := range d.Chances {
		fmt.Fprintf(t, "%d\t%d\t%.3f\t%.2f\t%.3f\n", c.Acceptors, c.Connections, c.Jain, c.MaxOverMean, c.CV)
	}
	return t.Flush()
}
