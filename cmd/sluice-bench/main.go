// Command sluice-bench measures sluice beside HAProxy, nginx stream and a plain Go proxy: on the same machine, in the same run, taking
// turns.
//
//	bench ─┬─ load generator ══► proxy under test ══► backend ─┐   three processes, fresh for each run,
//	       │   (epoll loop)       and its workers   (epoll loop)│   talking over loopback only
//	       └─ reads CPU and memory of each ◄────────────────────┘
//
//	for each round:  for each case:  for each proxy, in an order that is reversed every other round:
//	    start all three, warm up, read CPU, do a fixed number of requests or sessions, read CPU, stop all three
//	then:  median, min and max over the rounds; ratio to the best peer of the same round, and the median of these ratios
//
// How each figure is measured is told by -help (flags.go). cases.go has the table of cases, proxies.go that of the proxies with
// their configurations, columns.go that of the figures, bars.go what sluice must reach.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
)

func main() {
	if len(os.Args) > 1 && strings.HasPrefix(os.Args[1], "_") {
		exit(serveRole(os.Args[1:], os.Stdin, os.Stdout))
	}
	// Children get their death signal when the thread that started them ends: let it be the main thread, which lives as long as the process.
	runtime.LockOSThread()
	exit(bench(os.Args[1:], os.Stdout, os.Stderr))
}

func exit(err error) {
	if err == nil || errors.Is(err, flag.ErrHelp) {
		os.Exit(0)
	}
	fmt.Fprintln(os.Stderr, "sluice-bench:", err)
	os.Exit(1)
}

// serveRole is what the bench starts itself again for.
func serveRole(args []string, in io.Reader, out io.Writer) error {
	switch {
	case args[0] == "_backend":
		debug.SetGCPercent(-1) // allocates next to nothing, and must not take CPU from what is measured
		return serveBackend(in, out)
	case args[0] == "_load":
		debug.SetGCPercent(-1)
		return serveLoad(in, out)
	case args[0] == "_goproxy" && len(args) == 3:
		return serveGoProxy(args[1], args[2])
	}
	return fmt.Errorf("unknown role %q", args)
}

// bench is the story: what is asked for, measure it or load it, tell it.
func bench(args []string, stdout, stderr io.Writer) error {
	o, err := parseFlags(args, stderr)
	if err != nil {
		return err
	}
	var older *result
	if o.compare != "" { // first: a wrong path must not cost an hour
		if older, err = loadResult(o.compare); err != nil {
			return err
		}
	}
	var r *result
	if o.from != "" {
		r, err = loadResult(o.from)
	} else {
		r, err = measure(o, stdout, stderr)
	}
	if r == nil {
		return err
	}
	if o.json != "" {
		err = errors.Join(err, r.save(o.json))
	}
	if o.markdown {
		writeMarkdown(stdout, r)
	} else {
		writeText(stdout, r)
	}
	if o.bars {
		fmt.Fprintln(stdout)
		writeBars(stdout, r)
	}
	if older != nil {
		fmt.Fprintln(stdout)
		writeDifferences(stdout, older, r)
	}
	if failed := r.failures(); len(failed) > 0 {
		err = errors.Join(err, fmt.Errorf("%s failed", plural(len(failed), "run")))
	}
	return err
}

// measure runs what the options ask for. A nil result without an error: they asked to show something only.
func measure(o options, stdout, stderr io.Writer) (*result, error) {
	p := plan{rounds: o.rounds, acceptors: o.acceptors, threads: o.threads, smoke: o.smoke}
	var err error
	if p.cases, err = chooseCases(o.cases); err != nil {
		return nil, err
	}
	if p.proxies, err = chooseProxies(o.proxies); err != nil {
		return nil, err
	}
	p.named = o.proxies != ""
	if o.list {
		for _, c := range p.cases {
			fmt.Fprintf(stdout, "%-22s %s\n", c.name, c.about)
		}
		return nil, nil
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once; the death signals end its children
	ctx, cancel := context.WithTimeoutCause(ctx, o.limit, fmt.Errorf("the limit of %v has passed", o.limit))
	defer cancel()
	if err := adoptOrphans(); err != nil {
		return nil, err
	}
	defer endAll()
	if p.dir, err = os.MkdirTemp("", "sluice-bench-"); err != nil {
		return nil, err
	}
	defer os.RemoveAll(p.dir)
	given := map[string]string{"sluice": o.sluice, "haproxy": o.haproxy, "nginx": o.nginx}
	var missing []leftOut
	if p.proxies, p.paths, missing, err = findPrograms(p.proxies, given, p.named, p.dir); err != nil {
		return nil, err
	}
	if o.configs {
		showConfigs(stdout, p)
		return nil, nil
	}
	if !o.hostNetwork {
		if err := ownNetwork(); err != nil {
			return nil, fmt.Errorf("%w (-host-network does without)", err)
		}
	}
	r := p.measureAll(ctx, stderr)
	r.LeftOut = append(r.LeftOut, missing...)
	return r, context.Cause(ctx)
}

// showConfigs prints what a run would start, with example ports.
func showConfigs(w io.Writer, p plan) {
	at := func(port uint16) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
	}
	for _, x := range p.proxies {
		if x.command == nil {
			continue
		}
		s := setting{path: p.paths[x.name], acceptors: p.acceptors, front: at(12001), back: at(40001), files: mostFiles, config: "/tmp/sluice-bench/" + x.name + "/config"}
		c := x.command(s)
		fmt.Fprintf(w, "## %s: %s\n%s\n", x.name, x.about, strings.Join(slices.Concat(c.env, []string{c.path}, quoted(c.args)), " "))
		if x.config != nil && x.config(s) != "" {
			fmt.Fprintf(w, "\n%s", x.config(s))
		}
		fmt.Fprintln(w)
	}
}

func quoted(args []string) []string {
	q := slices.Clone(args)
	for i := range q {
		if q[i] == "" {
			q[i] = `""`
		}
	}
	return q
}
