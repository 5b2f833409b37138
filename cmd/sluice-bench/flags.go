package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"
)

// options are the flags.
type options struct {
	rounds, acceptors, threads int
	cases, proxies             string
	smoke, list, configs       bool
	hostNetwork                bool
	markdown, bars             bool
	json, from, compare        string
	sluice, haproxy, nginx     string
	limit                      time.Duration
}

func parseFlags(args []string, stderr io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("sluice-bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.IntVar(&o.rounds, "rounds", 7, "rounds that count; one more is run first and dropped")
	f.StringVar(&o.cases, "cases", "", "only the cases whose names match this regular expression")
	f.StringVar(&o.proxies, "proxies", "", "only these, comma separated (default: all of "+strings.Join(proxyNames(), ", ")+"; of these sluice-process and those in batch scheduling only where the case asks for it)")
	f.IntVar(&o.acceptors, "acceptors", runtime.NumCPU(), "acceptors, threads or workers of each proxy, where the case does not say otherwise")
	f.IntVar(&o.threads, "threads", max(1, runtime.NumCPU()/2), "threads of the load generator, and of the backend")
	f.BoolVar(&o.smoke, "smoke", false, "one short round of each case: proves that everything runs, measures nothing")
	f.BoolVar(&o.hostNetwork, "host-network", os.Geteuid() != 0, "measure in the network that this program runs in, with its TCP settings, instead of a namespace made for it, where TCP is reno; making one needs root")
	f.BoolVar(&o.list, "list", false, "list the cases and exit")
	f.BoolVar(&o.configs, "show-configs", false, "print how each proxy is started, with its configuration, and exit")
	f.BoolVar(&o.markdown, "md", false, "print Markdown instead of text")
	f.BoolVar(&o.bars, "bars", false, "print the bars that sluice must reach, and whether it does")
	f.StringVar(&o.json, "json", "", "write the result, with the figures of every round, to this `file`")
	f.StringVar(&o.from, "from", "", "do not measure: take the result from this `file`")
	f.StringVar(&o.compare, "compare", "", "print the differences from the older result in this `file`")
	f.StringVar(&o.sluice, "sluice", "", "`path` of sluice (default: built from this module, in which the working directory must be)")
	f.StringVar(&o.haproxy, "haproxy", "", "`path` of HAProxy (default: looked for, and left out where it is not installed)")
	f.StringVar(&o.nginx, "nginx", "", "`path` of nginx (default: as for HAProxy)")
	f.DurationVar(&o.limit, "limit", 2*time.Hour, "end after this time with what has been measured")
	f.Usage = func() {
		fmt.Fprintln(stderr, "Usage: sluice-bench [flags]\n\nMeasures sluice beside HAProxy, nginx stream and a plain Go proxy on this machine.")
		fmt.Fprintln(stderr)
		f.PrintDefaults()
		fmt.Fprint(stderr, howMeasured)
	}
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if o.rounds < 1 || o.acceptors < 1 || o.threads < 1 {
		return o, errors.New("-rounds, -acceptors and -threads must be at least 1")
	}
	if o.smoke {
		o.rounds = 1
	}
	return o, nil
}

func chooseCases(expression string) ([]benchCase, error) {
	match, err := regexp.Compile(expression)
	if err != nil {
		return nil, fmt.Errorf("-cases: %w", err)
	}
	cases := slices.DeleteFunc(allCases(), func(c benchCase) bool { return !match.MatchString(c.name) })
	if len(cases) == 0 {
		return nil, fmt.Errorf("-cases: no case matches %q; -list shows all", expression)
	}
	return cases, nil
}

func chooseProxies(names string) ([]*proxy, error) {
	var chosen []*proxy
	for i := range proxies {
		if names == "" || slices.Contains(strings.Split(names, ","), proxies[i].name) {
			chosen = append(chosen, &proxies[i])
		}
	}
	for _, name := range strings.Split(names, ",") {
		if name != "" && proxyNamed(name) == nil {
			return nil, fmt.Errorf("-proxies: unknown %q, there are %s", name, strings.Join(proxyNames(), ", "))
		}
	}
	return chosen, nil
}

func proxyNames() []string {
	var names []string
	for _, p := range proxies {
		names = append(names, p.name)
	}
	return names
}

const howMeasured = `
How each figure is measured

  CPU      CPU time, user and system, that the process tree of the proxy used for the measured requests, sessions or bytes, divided by
           their number: the CPU clock of each process (nanoseconds) before and after, all threads. GB are 10^9 bytes, both ways added up.
           The kernel charges much of the work of loopback TCP to the sender, so look at the throughput too.
  ends     the same of the load generator and the backend together: what the machine did besides. The row "direct", without a proxy,
           shows that both ends can do much more than what is measured through a proxy.
  rate     requests, sessions or GB per second, from the first to the last answer. All processes share the machine, and enough are in
           flight to saturate it (but with 1 connection), so this is the throughput of the saturated machine.
  batch    haproxy-batch and nginx-batch are the peers under SCHED_BATCH (chrt -b 0), which sluice gives itself while it is busy. They show
           what that alone gives; no ratio is taken to them.
  p50 p99  latency. Kept connections: from sending the request to the last byte of the answer. Short sessions: from connect to the last
           byte of the answer; one without an answer in time counts as failed, and with the time it was waited for.
  memory   proportional set size (Pss in smaps_rollup) of the process tree: with the sessions open, less that before, by their number;
           before any data, and once more after each has had one answer. Kernel memory (sockets) is not in it: it is the same for all.
  at rest  CPU time per second of a proxy that is asked nothing, over 5 s, after 1 s of rest. What it is at a low rate of sessions
           is measured in the same way, while they come at a pace, whatever has become of those before.
  fair     latency of clients beside streams that take all they can get, over 5 s, and what the streams get. The load generator reads
           the streams in a thread of their own, so its share in what clients wait is small: see the row "direct".
  long     start: from the start of the program to the first answer through its last listener. memory: as above, after two scrapes. scrape:
           the time of the second; µs/series by the number of its series, as proxies show different ones. nginx has no metrics.
  stalled  what all TCP sockets of the machine hold (/proc/net/sockstat) more than before, for each of 50 clients that do not read.
  sick     latency from connect to the last byte of the answer of short sessions that come at a pace, over 10 s, to a pool of three backends.
           After 2 s one turns sick: its SYNs are dropped; or it refuses; or closes what it accepts; or takes a request and never answers;
           or answers 200 ms late. A session fails that ends without its answer, or has none after 2 s; it counts with those 2 s. sluice
           and HAProxy have the same checks, a small request and its answer: every 1 s, in doubt every 0.5 s, within 1 s, fall 3, rise 2,
           and connect within 1 s, 2 retries, each to another backend. HAProxy marks a backend down at the first failure that it sees in a
           session (observe layer4), sluice looks for early ends (ejection.early = 1s). nginx has no checks, only max_fails = 1.
  checks   CPU at rest of a service that checks 1,000 backends every 2 s: a connection that is reset, 500 of them a second. The backends
           are 1,000 addresses of one process.
  balance  how many sessions each acceptor holds: sluice by its metrics, HAProxy by "show fd", nginx by the sockets of each worker.
           Jain index: 1 when all hold the same. The row "(chance)" is what acceptors chosen at random would give, by simulation.
  ×        the ratio to the best of HAProxy and nginx in the same round; the median of these ratios. Below 1 is less, above 1 more.

Every answer is checked: its length, and a sample of each read against what was sent (with -smoke, every byte). A run in which
anything is wrong or missing fails, is told, and gives no figure. Proxies have as many threads or workers as sluice has acceptors, and
no logs. Quiet machine, nothing else running: the ranges show what is noise.
`
