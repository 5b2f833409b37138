package main

import (
	"fmt"
	"time"
)

// poolCases measure what clients meet when a backend is sick, and what it costs to look after many.
func poolCases() []benchCase {
	const patience = 2 * time.Second
	ping := request{Down: 64}
	var cases []benchCase
	for _, c := range []struct {
		sick  sickness
		about string
	}{
		{blackholed, "of which one begins to drop SYNs"},
		{refusing, "of which one begins to refuse"},
		{closing, "of which one begins to close what it accepts"},
		{silent, "of which one begins to accept and say nothing"},
		{slow, fmt.Sprintf("of which one begins to answer %v late; the one with the fewest sessions is picked", slowAnswer)},
	} {
		cases = append(cases, benchCase{
			name: "sick-" + string(c.sick), family: sickFamily, measure: measureSick, proxied: true, extra: bothModes,
			about: fmt.Sprintf("200 short sessions per second, patience %v, to 3 backends %s", patience, c.about),
			job:   job{Short: 200 * int(patience/time.Second) * 3 / 2, Every: time.Second / 200, Request: ping, Patience: patience},
			lasts: 10 * time.Second, files: fewFiles,
			pooled: pooled{
				processes: 3, sick: c.sick, fewest: c.sick == slow,
				every: time.Second, inDoubt: time.Second / 2, within: time.Second, asks: true,
			},
		})
	}
	return append(cases, benchCase{
		name: "checks-1000", family: restFamily, measure: measureRest, proxied: true, extra: bothModes,
		about: "no client, 1,000 backends that are checked every 2 s, by a connection", lasts: 10 * time.Second, files: fewFiles,
		job:    job{InFlight: 1, Request: ping},
		pooled: pooled{addresses: 1000, every: 2 * time.Second, inDoubt: time.Second / 2, within: time.Second},
	})
}
