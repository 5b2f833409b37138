package metrics

// Counts are the counters of a closed set of words (see words.go), every word
// present from the start.
type Counts map[string]uint64

func newCounts(names []string) Counts {
	c := make(Counts, len(names))
	for _, n := range names {
		c[n] = 0
	}
	return c
}

// add adds the cells, which are in the order of the names.
func (c Counts) add(names []string, cells []Counter) {
	for i, n := range names {
		c[n] += cells[i].Load()
	}
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

func newHistogram(bounds []float64) Histogram {
	h := Histogram{Buckets: make([]Bucket, len(bounds))}
	for i, le := range bounds {
		h.Buckets[i].LE = le
	}
	return h
}

// add adds the cells of a histogram with the same bounds.
func (h *Histogram) add(cells []Counter, nanos *Counter) {
	var upTo uint64
	for i := range h.Buckets {
		upTo += cells[i].Load()
		h.Buckets[i].Count += upTo
	}
	h.Count += upTo + cells[len(h.Buckets)].Load()
	h.Sum += float64(nanos.Load()) / 1e9
}
