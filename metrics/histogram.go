package metrics

import "time"

// DurationBuckets are the upper bounds of DurationHistogram, in seconds: a probe
// to a day.
var DurationBuckets = [11]float64{.001, .01, .1, 1, 10, 60, 300, 1800, 3600, 21600, 86400}

// DurationHistogram counts session lengths.
type DurationHistogram struct {
	Buckets [len(DurationBuckets) + 1]Counter // not cumulative; the last is +Inf
	Nanos   Counter                           // sum
}

// Observe adds one duration.
func (h *DurationHistogram) Observe(d time.Duration) {
	observe(h.Buckets[:], DurationBuckets[:], &h.Nanos, d)
}

// LatencyBuckets are the upper bounds of LatencyHistogram, in seconds: loopback
// to a lost SYN sent thrice.
var LatencyBuckets = [15]float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}

// LatencyHistogram counts waits: a connect, a stay in the accept queue.
type LatencyHistogram struct {
	Buckets [len(LatencyBuckets) + 1]Counter // not cumulative; the last is +Inf
	Nanos   Counter                          // sum
}

// Observe adds one latency.
func (h *LatencyHistogram) Observe(d time.Duration) {
	observe(h.Buckets[:], LatencyBuckets[:], &h.Nanos, d)
}

func observe(buckets []Counter, bounds []float64, sum *Counter, d time.Duration) {
	buckets[bucketOf(bounds, d)].Add(1)
	sum.Add(uint64(max(d, 0)))
}

// observe adds n durations of the same length.
func (h *DurationHistogram) observe(n uint64, d time.Duration) {
	h.Buckets[bucketOf(DurationBuckets[:], d)].Add(n)
	h.Nanos.Add(n * uint64(max(d, 0)))
}

func bucketOf(bounds []float64, d time.Duration) int {
	s := d.Seconds()
	i := 0
	for i < len(bounds) && s > bounds[i] {
		i++
	}
	return i
}
