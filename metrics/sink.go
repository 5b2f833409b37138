package metrics

import (
	"bufio"
	"math"
	"slices"
	"strconv"
	"strings"
)

// family is what all series of one name have in common.
type family struct {
	index      int // in the catalog
	name, help string
	kind       string
	labels     []string
	order      []int // of the labels, by name
}

// catalog is every family there is.
var catalog []*family

func counter(name, help string, labels ...string) *family {
	return newFamily("counter", name, help, labels)
}

func gauge(name, help string, labels ...string) *family {
	return newFamily("gauge", name, help, labels)
}

func histogram(name, help string, labels ...string) *family {
	return newFamily("histogram", name, help, labels)
}

func newFamily(kind, name, help string, labels []string) *family {
	f := &family{len(catalog), "sluice_" + name, help, kind, labels, make([]int, len(labels))}
	for i := range f.order {
		f.order[i] = i
	}
	slices.SortFunc(f.order, func(a, b int) int { return strings.Compare(labels[a], labels[b]) })
	catalog = append(catalog, f)
	return f
}

// sink writes the series of one scrape, family by family as the format wants them, and
// straight as text: it goes over the things that a family is about, and of what it is told
// about each it takes what is the family's. So a scrape needs no memory but the snapshot.
// With 10,000 backends there are 370,000 series: to make client_golang's types of them and
// text of these took five times as long, and 50 MB.
type sink struct {
	w       *bufio.Writer
	compact bool // see Compact

	only *family // the one being written
	head bool    // its head is written
	line []byte  // the line being made

	// The labels made last, as text: those of one thing are the same in many series.
	family *family
	values []string
	labels []byte
	bounds []bound // of the histogram written last
	last   []byte  // the label being made that differs between the series of one thing
}

// bound is an upper bound of a histogram, and the label that says so.
type bound struct {
	le    float64
	label []byte
}

// TextType is the Content-Type of what Scrape writes: Prometheus' text format.
const TextType = "text/plain; version=0.0.4; charset=utf-8"

var helpText = strings.NewReplacer(`\`, `\\`, "\n", `\n`)

func (out *sink) value(f *family, v float64, labels ...string) {
	if f == out.only {
		out.series("", out.labelled(f, labels), nil, v)
	}
}

func (out *sink) flag(f *family, on bool, labels ...string) {
	v := 0.0
	if on {
		v = 1
	}
	out.value(f, v, labels...)
}

// counts adds the word of each count as the last label.
func (out *sink) counts(f *family, counts Counts, labels ...string) {
	if f != out.only {
		return
	}
	others := out.labelled(f, labels)
	for word, n := range counts.All() {
		if n == 0 && out.compact {
			continue
		}
		out.last = append(append(append(append(out.last[:0], f.labels[len(f.labels)-1]...), `="`...), word...), '"')
		out.series("", others, out.last, float64(n))
	}
}

func (out *sink) histogram(f *family, h *Histogram, labels ...string) {
	if f != out.only {
		return
	}
	all := out.labelled(f, labels)
	for i, b := range h.Buckets {
		out.series("_bucket", all, out.bound(i, b.LE), float64(b.Count))
	}
	if n := len(h.Buckets); n == 0 || !math.IsInf(h.Buckets[n-1].LE, 1) {
		out.series("_bucket", all, out.bound(n, math.Inf(1)), float64(h.Count))
	}
	out.series("_sum", all, nil, h.Sum)
	out.series("_count", all, nil, float64(h.Count))
}

// bound is the label of a histogram's bucket.
func (out *sink) bound(i int, le float64) []byte {
	if i >= len(out.bounds) || out.bounds[i].le != le {
		out.bounds = append(out.bounds[:i], bound{le, append(appendNumber([]byte(`le="`), le), '"')})
	}
	return out.bounds[i].label
}

// labelled is the text of labels, sorted by name. For the same names and values as last
// time it is the same text. Values may be fewer than the family has labels, by the last.
func (out *sink) labelled(f *family, values []string) []byte {
	if slices.Equal(values, out.values) && (f == out.family || slices.Equal(f.labels[:len(values)], out.family.labels[:len(values)])) {
		return out.labels
	}
	out.family, out.values, out.labels = f, append(out.values[:0], values...), out.labels[:0]
	for _, i := range f.order {
		if i >= len(values) {
			continue
		}
		if len(out.labels) > 0 {
			out.labels = append(out.labels, ',')
		}
		out.labels = append(append(out.labels, f.labels[i]...), '=', '"')
		out.labels = append(append(out.labels, escape.Replace(values[i])...), '"')
	}
	return out.labels
}

// series writes one line.
func (out *sink) series(suffix string, labels, last []byte, v float64) {
	f, line := out.only, out.line[:0]
	if !out.head {
		out.head = true
		line = append(append(append(append(line, "# HELP "...), f.name...), ' '), helpText.Replace(f.help)...)
		line = append(append(append(append(line, "\n# TYPE "...), f.name...), ' '), f.kind...)
		line = append(line, '\n')
	}
	line = append(append(line, f.name...), suffix...)
	if len(labels)+len(last) > 0 {
		line = append(append(line, '{'), labels...)
		if len(labels) > 0 && len(last) > 0 {
			line = append(line, ',')
		}
		line = append(append(line, last...), '}')
	}
	out.line = append(appendNumber(append(line, ' '), v), '\n')
	_, _ = out.w.Write(out.line) // it keeps its first error for Flush
}

var escape = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

func appendNumber(b []byte, v float64) []byte {
	if n := int64(v); float64(n) == v && -1<<53 <= n && n <= 1<<53 {
		return strconv.AppendInt(b, n, 10)
	}
	switch {
	case math.IsInf(v, 1):
		return append(b, "+Inf"...)
	case math.IsInf(v, -1):
		return append(b, "-Inf"...)
	}
	return strconv.AppendFloat(b, v, 'g', -1, 64)
}
