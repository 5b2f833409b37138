package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// plan is what the flags ask for.
type plan struct {
	rounds    int
	acceptors int
	threads   int // of the load generator and of the backend, each
	smoke     bool
	cases     []benchCase
	proxies   []*proxy
	named     bool // the proxies were asked for by name
	paths     map[string]string
	dir       string // for configurations and sockets
}

// runLimit bounds one run of one case with one proxy.
const runLimit = 3 * time.Minute

// measureAll takes turns: each round runs every case, each case every proxy, in an order that is reversed every other round. The first
// round warms up the machine and is dropped, except in a smoke. A run that fails is recorded and does not end the others; when ctx
// ends, what was measured until then is returned.
func (p plan) measureAll(ctx context.Context, progress io.Writer) *result {
	res := p.describe()
	first := 0
	if p.smoke {
		first = 1
	}
	for round := first; round <= p.rounds; round++ {
		order := slices.Clone(p.proxies)
		if round%2 == 1 {
			slices.Reverse(order)
		}
		for _, c := range p.cases {
			for _, x := range order {
				if !c.takesPart(x, p.named) {
					continue
				}
				began := time.Now()
				f, err := p.runOnce(ctx, c, x)
				if ctx.Err() != nil {
					return res
				}
				note := res.add(run{Case: c.name, Proxy: x.name, Round: round, Figures: f}, err)
				fmt.Fprintf(progress, "round %d/%d  %-22s %-15s %5.1f s  %s\n", round, p.rounds, c.name, x.name, time.Since(began).Seconds(), note)
			}
		}
	}
	return res
}

// describe is the result before anything was measured.
func (p plan) describe() *result {
	res := &result{Date: time.Now().UTC(), Machine: thisMachine(), Acceptors: p.acceptors, Smoke: p.smoke}
	for _, x := range p.proxies {
		info := proxyInfo{Name: x.name, About: x.about, Peer: x.peer}
		if x.version != nil {
			info.Version = x.version(p.paths[x.name])
		}
		res.Proxies = append(res.Proxies, info)
	}
	for _, c := range p.cases {
		info := caseInfo{Name: c.name, About: c.about, Family: c.family}
		if c.family == balanceFamily {
			info.Chance = chance(c.job.Held, c.acceptors, balanceTrials)
		}
		res.Cases = append(res.Cases, info)
	}
	return res
}

func (p plan) runOnce(ctx context.Context, c benchCase, x *proxy) (figures, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, runLimit, fmt.Errorf("not done in %v", runLimit))
	defer cancel()
	c.proxy = x
	if c.acceptors == 0 {
		c.acceptors = p.acceptors
	}
	if p.smoke {
		c = c.smoke()
	}
	limit, err := openFileLimit()
	if err != nil {
		return nil, err
	}
	if limit < c.openFiles() {
		return nil, errNotMeasurable{fmt.Sprintf("needs %d open files, the limit is %d", c.openFiles(), limit)}
	}
	files := mostFiles
	if c.files > 0 {
		files = c.files
	}
	r, err := startRig(ctx, &c, p.paths[x.name], min(limit, files), p.dir, max(c.threads, p.threads))
	if err != nil {
		return nil, err
	}
	defer r.stop()
	f, err := c.measure(r, &c)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return f, err
}

// add records what a run gave and returns what is to be said of it, "" if it gave figures. Round 0 is not recorded.
func (r *result) add(x run, err error) (note string) {
	if not, is := errors.AsType[errNotMeasurable](err); is {
		out := leftOut{Case: x.Case, Proxy: x.Proxy, Why: not.why}
		if !slices.Contains(r.LeftOut, out) {
			r.LeftOut = append(r.LeftOut, out)
		}
		return "left out: " + not.why
	}
	if err != nil {
		x.Failed = err.Error()
		note = "FAILED: " + x.Failed
	}
	if x.Round > 0 {
		r.Rounds = x.Round
		r.Runs = append(r.Runs, x)
	}
	return note
}
