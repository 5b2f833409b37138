package metrics

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strconv"
)

// Counts are the counters of a closed set of words (see words.go), every word
// present from the start. In JSON they are an object.
type Counts struct {
	words []string
	n     []uint64
}

// Of is the count of a word, 0 if it is none of the set.
func (c Counts) Of(word string) uint64 {
	if i := slices.Index(c.words, word); i >= 0 {
		return c.n[i]
	}
	return 0
}

// All are the words in the order of the set, with their counts.
func (c Counts) All() iter.Seq2[string, uint64] {
	return func(yield func(string, uint64) bool) {
		for i, word := range c.words {
			if !yield(word, c.n[i]) {
				return
			}
		}
	}
}

// MarshalJSON implements json.Marshaler.
func (c Counts) MarshalJSON() ([]byte, error) {
	text := []byte{'{'}
	for word, n := range c.All() {
		if len(text) > 1 {
			text = append(text, ',')
		}
		text = strconv.AppendQuote(text, word) // words are plain ASCII
		text = strconv.AppendUint(append(text, ':'), n, 10)
	}
	return append(text, '}'), nil
}

// UnmarshalJSON implements json.Unmarshaler, for readers of /status.json.
func (c *Counts) UnmarshalJSON(text []byte) error {
	*c = Counts{}
	d := json.NewDecoder(bytes.NewReader(text))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return fmt.Errorf("counts: %s is no object", text)
	}
	for d.More() {
		word, err := d.Token()
		if err != nil {
			return err
		}
		var n uint64
		if err := d.Decode(&n); err != nil {
			return err
		}
		c.words, c.n = append(c.words, fmt.Sprint(word)), append(c.n, n)
	}
	return nil
}

// counts takes the cells, which are in the order of the names. Those behind the
// last name are spare.
func (r *reader) counts(names []string, cells []Counter) Counts {
	c := Counts{names, r.numbers.some(len(names))}
	for i := range names {
		c.n[i] = cells[i].Load()
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

// histogram takes the cells of a histogram with these bounds.
func (r *reader) histogram(bounds []float64, cells []Counter, nanos *Counter) Histogram {
	h := Histogram{Buckets: r.buckets.some(len(bounds)), Sum: float64(nanos.Load()) / 1e9}
	for i, le := range bounds {
		h.Count += cells[i].Load()
		h.Buckets[i] = Bucket{le, h.Count}
	}
	h.Count += cells[len(bounds)].Load()
	return h
}
