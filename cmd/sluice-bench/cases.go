package main

import (
	"fmt"
	"slices"
	"time"
)

// bothModes is for cases in which it matters whether acceptors are threads or processes.
var bothModes = []string{"sluice-process"}

// benchCase is one thing that is measured of every proxy.
type benchCase struct {
	name      string
	about     string
	family    string
	measure   func(*rig, *benchCase) (figures, error)
	job       job
	warm      int           // requests or sessions before the measurement
	count     int           // requests or sessions that are measured: so many that the proxy uses some hundred ms of CPU
	lasts     time.Duration // how long is measured, in the cases that measure for a time
	acceptors int           // 0: as many as -acceptors says
	threads   int           // of the load generator and of the backend, each, at least
	files     int           // descriptors that the proxy is configured for, 0: mostFiles
	proxied   bool          // measures the proxy alone: there is no direct row
	extra     []string      // the extra proxies that take part without being named
	spread    bool          // looks at how many sessions each acceptor holds
	listeners int           // 0: one
	backends  int           // of a pool beside the one that is asked through, behind the other listeners
	pooled    pooled        // the one that is asked through

	proxy *proxy // of the run
}

// balanceTrials is how often a run of a balance case opens its sessions anew; balanceAcceptors over how many acceptors.
const (
	balanceTrials    = 5
	balanceAcceptors = 4
)

// allCases is the table of what is measured. The counts are fixed, so each round does the same work.
func allCases() []benchCase {
	small := request{Down: 64}
	page := request{Down: 10 << 10}
	var cases []benchCase
	add := func(c benchCase) { cases = append(cases, c) }

	for _, answer := range []struct {
		name  string
		ask   request
		count int
	}{{"64B", small, 160000}, {"10KiB", page, 100000}} {
		for _, conns := range []int{1, 32, 512} {
			count := answer.count
			if conns == 1 {
				count /= 4
			}
			add(benchCase{
				name: fmt.Sprintf("kept-%d-%s", conns, answer.name), family: requestFamily, measure: measureWork,
				about: fmt.Sprintf("%s kept, each with one request out: 64 B, answer %s", plural(conns, "connection"), answer.name),
				job:   job{Held: conns, InFlight: conns, Request: answer.ask}, warm: count / 10, count: count,
				extra: []string{"haproxy-batch", "nginx-batch"},
			})
		}
	}
	for _, c := range []struct {
		name, about string
		greeting    bool
	}{
		{"short-32", "32 clients: connect, request 64 B, answer 64 B, the client closes", false},
		{"greeting-32", "32 clients: connect, the backend sends 64 B first, then as short-32", true},
	} {
		// No more than a third of the ephemeral ports: each session leaves one in TIME_WAIT, and the kernel's search for a free one grows
		// dear. With 20,000 it cost some runs half as much CPU again, whichever the proxy.
		add(benchCase{
			name: c.name, about: c.about, family: sessionFamily, measure: measureWork,
			job: job{Short: 32, Request: small, Greeting: c.greeting}, warm: 800, count: 8000,
		})
	}
	add(benchCase{
		name: "access-log", about: "as short-32, with and without an access log", family: sessionFamily, measure: measureWork,
		job: job{Short: 32, Request: small}, warm: 800, count: 8000, extra: []string{"sluice-access-log"},
	})
	for _, streams := range []int{1, 8} {
		for _, c := range []struct {
			name, about string
			share       request // of the bytes of a request
		}{
			{"down", "from the backend to the client", request{Down: 2}},
			{"up", "from the client to the backend", request{Up: 2}},
			{"both", "both ways at once", request{Up: 1, Down: 1}},
		} {
			size := int64(64 << 20 / streams)
			r := request{Up: c.share.Up * size, Down: max(c.share.Down*size, tailSize)}
			add(benchCase{
				name: fmt.Sprintf("bulk-%d-%s", streams, c.name), family: bulkFamily, measure: measureWork,
				about: fmt.Sprintf("%s %s", plural(streams, "stream"), c.about),
				job:   job{Held: streams, InFlight: streams, Request: r}, warm: streams, count: 8 * streams,
			})
		}
	}
	add(benchCase{
		name: "idle-4000", about: "4,000 sessions that do nothing: before any data, and after one answer of 10 KiB each", family: memoryFamily,
		measure: measureMemory, proxied: true, job: job{Held: 4000, InFlight: 32, Request: page},
	})
	for _, held := range []int{16, 64, 256} {
		add(benchCase{
			name: fmt.Sprintf("balance-%d", held), family: balanceFamily, measure: measureBalance, proxied: true, spread: true,
			about:     fmt.Sprintf("%d held sessions over %d acceptors, %d trials a round", held, balanceAcceptors, balanceTrials),
			job:       job{Held: held, InFlight: 1, Request: small},
			acceptors: balanceAcceptors,
		})
	}
	add(benchCase{
		name: "busy-streams", about: "4 clients with short sessions while 8 streams keep the acceptors busy", family: latencyFamily,
		measure: measureWork, job: job{Short: 4, Streams: 8, Request: small}, warm: 50, count: 500,
	})
	add(benchCase{
		name: "busy-frozen", about: "100 short sessions of 32 clients while 1 acceptor of 4 is stopped (SIGSTOP), patience 1 s", family: latencyFamily,
		measure: measureFrozen, proxied: true, extra: bothModes, job: job{Short: 32, Request: small, Patience: time.Second}, warm: 100, count: 100,
		acceptors: 4,
	})
	for _, acceptors := range []int{1, 2} {
		for _, sessions := range []int{1, 100, 1000, 9000} {
			count := 30000
			if sessions == 1 {
				count = 8000
			}
			add(benchCase{
				name: fmt.Sprintf("growth-%da-%d", acceptors, sessions), family: requestFamily, measure: measureWork,
				about: fmt.Sprintf("%s, %s open, at most 32 requests out: 64 B, answer 64 B",
					plural(acceptors, "acceptor"), plural(sessions, "session")),
				job: job{Held: sessions, InFlight: min(sessions, 32), Request: small}, warm: max(sessions, count/10), count: count,
				acceptors: acceptors,
			})
		}
	}
	return slices.Concat(cases, timedCases(), scaleCases(), poolCases())
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// smoke makes a case so short that it proves that it runs and measures nothing; instead every byte is compared.
func (c benchCase) smoke() benchCase {
	c.job.CheckAll = true
	if c.family == bulkFamily {
		c.job.Request.Up /= 8
		c.job.Request.Down = max(c.job.Request.Down/8, tailSize)
	}
	c.job.Held = min(c.job.Held, 600)
	c.warm /= 20
	c.count = max(c.count/20, min(c.count, 100))
	c.lasts /= 20
	c.listeners = min(c.listeners, 10)
	c.backends /= 20
	c.pooled.addresses /= 20
	return c
}

// takesPart tells whether a proxy runs in the case. named: the user asked for it by name.
func (c *benchCase) takesPart(p *proxy, named bool) bool {
	if p.name == direct {
		return !c.proxied
	}
	return !p.extra || named || slices.Contains(c.extra, p.name)
}

// openFiles is how many descriptors the proxy of the run needs: those of the sessions, and some of its own. The load generator and the
// backend need one for each session, so never more.
func (c *benchCase) openFiles() int {
	return max(2, c.proxy.files)*(c.job.Held+c.job.Short+c.job.Streams) + c.listeners*c.acceptors + 700
}
