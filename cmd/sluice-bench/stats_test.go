package main

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// The quantiles of the histogram must be those of the sorted values, at most one bucket (1/128) higher.
func TestHistogramQuantiles(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	var whole, other histogram
	var values []time.Duration
	for i := range 20000 {
		d := time.Duration(math.Exp(random.Float64() * math.Log(10e9))) // 1 ns to 10 s
		values = append(values, d)
		if i%2 == 0 {
			whole.add(d)
		} else {
			other.add(d)
		}
	}
	whole.merge(&other)
	slices.Sort(values)
	for _, q := range []float64{0, 0.01, 0.5, 0.9, 0.99, 1} {
		want := values[max(0, int(q*float64(len(values))+0.5)-1)]
		got := whole.quantile(q)
		if got < want || float64(got) > float64(want)*(1+1.0/128)+1 {
			t.Errorf("quantile %v is %v, want %v or up to 1/128 more", q, got, want)
		}
	}
	if whole.max != values[len(values)-1] || whole.total != len(values) {
		t.Errorf("max %v of %d, want %v of %d", whole.max, whole.total, values[len(values)-1], len(values))
	}
	if got := new(histogram).quantile(0.5); got != 0 {
		t.Errorf("quantile of nothing is %v", got)
	}
}

// Buckets must cover all durations without gap or overlap.
func TestHistogramBuckets(t *testing.T) {
	for i := range len(histogram{}.counts) {
		end := bucketEnd(i)
		if bucket(end) != i {
			t.Fatalf("the end of bucket %d, %d, is in bucket %d", i, end, bucket(end))
		}
		if end < math.MaxInt64 && bucket(end+1) != i+1 {
			t.Fatalf("what follows bucket %d, %d, is in bucket %d", i, end+1, bucket(end+1))
		}
	}
	if last := bucket(math.MaxInt64); last != len(histogram{}.counts)-1 {
		t.Errorf("the longest duration is in bucket %d of %d", last, len(histogram{}.counts))
	}
}

func TestSummarize(t *testing.T) {
	if got, want := summarize([]float64{3, 1, 2}), (series{Median: 2, Min: 1, Max: 3, Rounds: 3}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := median([]float64{4, 1, 3, 2}); got != 2.5 {
		t.Errorf("median of four is %v, want 2.5", got)
	}
}

func TestBalanceFigures(t *testing.T) {
	for _, c := range []struct {
		counts     []int
		jain, peak float64
	}{
		{[]int{4, 4, 4, 4}, 1, 1},
		{[]int{16, 0, 0, 0}, 0.25, 4},
		{[]int{6, 2}, 0.8, 1.5},
	} {
		if j, p := jain(c.counts), peak(c.counts); j != c.jain || p != c.peak {
			t.Errorf("%v: Jain %v, peak %v, want %v, %v", c.counts, j, p, c.jain, c.peak)
		}
	}
}

// The Jain index is 1/(1+CV²), and the CV² of n sessions over k acceptors by chance is (k-1)/n on average.
func TestChance(t *testing.T) {
	for _, sessions := range []int{64, 256, 1024} {
		want := 1 / (1 + 3/float64(sessions))
		got := chance(sessions, 4, 1)
		if math.Abs(got["jain"]-want) > 1.0/float64(sessions) {
			t.Errorf("%d sessions: Jain %.4f by simulation, %.4f by arithmetic", sessions, got["jain"], want)
		}
	}
	five := chance(16, 4, 5)
	if five["jain_worst"] >= five["jain"] || five["peak_worst"] <= five["peak"] {
		t.Errorf("the worst of five trials is not worse: %v", five)
	}
}

// The ratio is taken to the better peer of each round, and only in rounds in which all peers were measured.
func TestRatioToBestPeer(t *testing.T) {
	r := &result{Proxies: []proxyInfo{{Name: "a", Peer: true}, {Name: "b", Peer: true}, {Name: "x"}}}
	for round, v := range map[int][3]float64{1: {10, 20, 5}, 2: {40, 20, 30}, 3: {0, 10, 100}} {
		for i, p := range r.Proxies {
			if v[i] > 0 {
				r.Runs = append(r.Runs, run{Case: "c", Proxy: p.Name, Round: round, Figures: figures{"f": v[i]}})
			}
		}
	}
	less, _ := r.ratio("c", "x", column{key: "f", better: less})
	if want := (series{Median: 1, Min: 0.5, Max: 1.5, Rounds: 2}); less != want {
		t.Errorf("less is better: %+v, want %+v", less, want)
	}
	more, _ := r.ratio("c", "x", column{key: "f", better: more})
	if want := (series{Median: 0.5, Min: 0.25, Max: 0.75, Rounds: 2}); more != want {
		t.Errorf("more is better: %+v, want %+v", more, want)
	}
	if _, measured := r.ratio("c", "nobody", column{key: "f", better: -1}); measured {
		t.Error("a ratio of a proxy without figures")
	}
}
