package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// result is all that a run of the bench gave, as it is written to a file: the raw figures of every round. Everything that is printed
// (medians, ratios, bars, differences) is computed from it.
type result struct {
	Date      time.Time
	Machine   machine
	Acceptors int // where the case does not say otherwise
	Rounds    int // that count: one more was run first and dropped, except in a smoke
	Smoke     bool
	Proxies   []proxyInfo
	Cases     []caseInfo
	Runs      []run
	LeftOut   []leftOut
}

type proxyInfo struct {
	Name, About, Version string
	Peer                 bool
}

type caseInfo struct {
	Name, About, Family string
	Chance              figures `json:",omitempty"` // balance cases: what chance would give
}

// run is one case with one proxy in one round: figures, or the reason why there are none.
type run struct {
	Case, Proxy string
	Round       int
	Figures     figures `json:",omitempty"`
	Failed      string  `json:",omitempty"`
}

type leftOut struct{ Case, Proxy, Why string }

func loadResult(path string) (*result, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var r result
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &r, nil
}

func (r *result) save(path string) error {
	data, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}

// failures are the runs that failed.
func (r *result) failures() []run {
	var failed []run
	for _, x := range r.Runs {
		if x.Failed != "" {
			failed = append(failed, x)
		}
	}
	return failed
}

// values returns a figure of each round in which it was measured.
func (r *result) values(caseName, proxy, key string) map[int]float64 {
	values := map[int]float64{}
	for _, x := range r.Runs {
		if v, measured := x.Figures[key]; measured && x.Case == caseName && x.Proxy == proxy {
			values[x.Round] = v
		}
	}
	return values
}

// figure summarizes a figure over the rounds; measured is false when there is none.
func (r *result) figure(caseName, proxy, key string) (s series, measured bool) {
	return summarizeRounds(r.values(caseName, proxy, key))
}

// ratio summarizes the ratio of a figure to that of the best peer in the same round, over the rounds in which every peer of the case
// was measured. So a round in which the machine was slow for all does not count against anyone.
func (r *result) ratio(caseName, proxy string, col column) (s series, measured bool) {
	return r.ratioTo(r.peers(), caseName, proxy, col)
}

// ratioTo is ratio with some of the peers only.
func (r *result) ratioTo(names []string, caseName, proxy string, col column) (s series, measured bool) {
	best := map[int]float64{}
	peers := map[int]int{}
	most := 0
	for _, name := range names {
		for round, v := range r.values(caseName, name, col.key) {
			if b, has := best[round]; !has || (v-b)*float64(col.better) > 0 {
				best[round] = v
			}
			peers[round]++
			most = max(most, peers[round])
		}
	}
	ratios := map[int]float64{}
	for round, v := range r.values(caseName, proxy, col.key) {
		if peers[round] == most && best[round] > 0 {
			ratios[round] = v / best[round]
		}
	}
	return summarizeRounds(ratios)
}

func summarizeRounds(byRound map[int]float64) (series, bool) {
	var values []float64
	for _, v := range byRound {
		values = append(values, v)
	}
	if values == nil {
		return series{}, false
	}
	return summarize(values), true
}
