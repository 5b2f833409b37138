package main

import (
	"fmt"
	"runtime"
	"time"
)

// fewFiles is enough where there are few sessions. With mostFiles each nginx worker prepares 8 MiB for its connections: 64 of them take
// seconds to start on two CPUs.
const fewFiles = 4000

// timedCases measure for a time: what a proxy costs that has little or nothing to do, and which clients it serves when it has
// too much.
func timedCases() []benchCase {
	ping := request{Down: 64}
	var cases []benchCase
	for _, held := range []int{0, 9000} {
		name, what, files := "idle-cpu", "no client", fewFiles
		if held > 0 {
			name, what, files = "idle-cpu-9000", "9,000 sessions that do nothing, with an idle timeout of 10 min", mostFiles
		}
		for _, acceptors := range []int{1, 4, 16, 64} {
			cases = append(cases, benchCase{
				name: fmt.Sprintf("%s-%da", name, acceptors), family: restFamily, measure: measureRest, proxied: true, extra: bothModes,
				about: fmt.Sprintf("%s, %s", plural(acceptors, "acceptor"), what),
				job:   job{Held: held, InFlight: 32, Request: ping}, lasts: 5 * time.Second, acceptors: acceptors, files: files,
			})
		}
	}
	for _, c := range []struct {
		name, about string
		acceptors   int
	}{
		{"low-rate", "20 short sessions per second", 0},
		{"many-acceptors", "20 short sessions per second, 64 acceptors", 64},
	} {
		cases = append(cases, benchCase{
			name: c.name, about: c.about, family: paceFamily, measure: measurePace, extra: bothModes,
			job: job{Short: 20, Every: time.Second / 20, Request: ping}, lasts: 5 * time.Second, acceptors: c.acceptors, files: fewFiles,
		})
	}
	return append(cases, fairCases(ping)...)
}

// fairCases: clients beside streams on one acceptor. The ends are a crowd of threads, so the acceptor has a small share of the CPUs and
// finds all sockets full, as on a busy machine: with as many threads as CPUs the ends are the slow part, and a proxy looks fair that
// is not (p50 of a ping beside 64 streams 15 ms, and 110 with the crowd). The clients pause between two pings: without, nearly all
// pings would be of the moments in which they are answered fast.
func fairCases(ping request) []benchCase {
	crowd := 4 * runtime.NumCPU()
	var cases []benchCase
	for _, streams := range []int{8, 64} {
		cases = append(cases, benchCase{
			name: fmt.Sprintf("fair-%d", streams), family: fairFamily, measure: measureFair,
			about: fmt.Sprintf("4 clients, together at most 40 pings of 64 B per second, beside %s down, 1 acceptor", plural(streams, "stream")),
			job:   job{Held: 4, InFlight: 4, Every: time.Second / 40, Streams: streams, Request: ping},
			lasts: 5 * time.Second, acceptors: 1, threads: crowd,
		})
	}
	const patience = 4 * time.Second
	return append(cases, benchCase{
		name: "accepts-beside-streams", family: fairFamily, measure: measureFair,
		about: "300 short sessions per second, patience 4 s, beside 64 streams down, 1 acceptor",
		// So many at a time that the pace is kept even if none gets an answer.
		job:   job{Short: 300 * int(patience/time.Second), Every: time.Second / 300, Streams: 64, Request: ping, Patience: patience},
		lasts: 5 * time.Second, acceptors: 1, threads: crowd,
	})
}
