package main

import (
	"math/rand/v2"
	"slices"
)

// median of at least one value; of an even number the mean of the two in the middle.
func median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// series is one figure over the rounds.
type series struct {
	Median, Min, Max float64
	Rounds           int
}

func summarize(values []float64) series {
	return series{Median: median(values), Min: slices.Min(values), Max: slices.Max(values), Rounds: len(values)}
}

// jain is the Jain index of how sessions are spread: 1 when all hold the same, 1/n when one holds all.
func jain(counts []int) float64 {
	var sum, squares float64
	for _, n := range counts {
		sum += float64(n)
		squares += float64(n) * float64(n)
	}
	return sum * sum / (float64(len(counts)) * squares)
}

// peak is the largest count over the mean.
func peak(counts []int) float64 {
	sum := 0
	for _, n := range counts {
		sum += n
	}
	return float64(slices.Max(counts)*len(counts)) / float64(sum)
}

// chance is what a balance case would give if each session took an acceptor at random: the median over many simulated runs, with
// as many trials each as a real one. The same on every call.
func chance(sessions, acceptors, trials int) figures {
	const runs = 2000
	random := rand.New(rand.NewPCG(1, 2))
	all := map[string][]float64{}
	for range runs {
		var jains, peaks []float64
		for range trials {
			counts := make([]int, acceptors)
			for range sessions {
				counts[random.IntN(acceptors)]++
			}
			jains, peaks = append(jains, jain(counts)), append(peaks, peak(counts))
		}
		for key, v := range balanceFigures(jains, peaks) {
			all[key] = append(all[key], v)
		}
	}
	expected := figures{}
	for key, values := range all {
		expected[key] = median(values)
	}
	return expected
}
