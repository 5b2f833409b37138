package metrics

// Counts are the counters of a closed set of words (see words.go), every word
// present from the start.
type Counts map[string]uint64

// newCounts takes the cells, which are in the order of the names. Those behind the
// last name are spare.
func newCounts(names []string, cells []Counter) Counts {
	c := make(Counts, len(names))
	for i, n := range names {
		c[n] = cells[i].Load()
	}
	return c
}

// Histogram is a histogram of seconds as Prometheus means it.
type Histogram struct {
	Count   uint64   `json:"count"` // also the bucket without a bound
	Sum     float64  `json:"sum_seconds"`
	Buckets []Bucket `json:"buckets"`
}

// Bucket counts what took at most LE seconds: the smaller buckets are part of it.
type Bucket struct {
	LE    float64 `json:"le"`
	Count uint64  `json:"count"`
}

// newHistogram takes the cells of a histogram with these bounds.
func newHistogram(bounds []float64, cells []Counter, nanos *Counter) Histogram {
	h := Histogram{Buckets: make([]Bucket, len(bounds)), Sum: float64(nanos.Load()) / 1e9}
	for i, le := range bounds {
		h.Count += cells[i].Load()
		h.Buckets[i] = Bucket{le, h.Count}
	}
	h.Count += cells[len(bounds)].Load()
	return h
}
