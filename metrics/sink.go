package metrics

import (
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// family is what all series of one name have in common.
type family struct {
	index      int // in the catalog
	name, help string
	kind       dto.MetricType
	labels     []string
}

// catalog is every family there is.
var catalog []*family

func counter(name, help string, labels ...string) *family {
	return newFamily(dto.MetricType_COUNTER, name, help, labels)
}

func gauge(name, help string, labels ...string) *family {
	return newFamily(dto.MetricType_GAUGE, name, help, labels)
}

func histogram(name, help string, labels ...string) *family {
	return newFamily(dto.MetricType_HISTOGRAM, name, help, labels)
}

func newFamily(kind dto.MetricType, name, help string, labels []string) *family {
	f := &family{len(catalog), "sluice_" + name, help, kind, labels}
	catalog = append(catalog, f)
	return f
}

// sink makes the families of one scrape, in client_golang's types. A registry that is
// handed metric by metric allocates and checks each several times; at 10,000 backends
// that took four seconds and 150 MB. Here what is equal is one thing: the labels of a
// backend in all its families, words, and all values that are 0. Nobody may change what
// comes out.
type sink struct {
	compact  bool // see Compact
	families []*dto.MetricFamily

	// The labels made last. All series of a thing come one after the other.
	names, values []string
	pairs         []*dto.LabelPair

	words map[[2]string]*dto.LabelPair
	zeros map[*family]*dto.Histogram

	// Memory by the hundred.
	metrics    slab[dto.Metric]
	counters   slab[dto.Counter]
	gauges     slab[dto.Gauge]
	histograms slab[dto.Histogram]
	buckets    slab[dto.Bucket]
	labels     slab[dto.LabelPair]
	numbers    slab[float64]
	counts64   slab[uint64]
	texts      slab[string]
	labelLists slab[*dto.LabelPair]
	lists      slab[*dto.Bucket]
}

func newSink(compact bool) *sink {
	out := &sink{compact: compact, words: map[[2]string]*dto.LabelPair{}, zeros: map[*family]*dto.Histogram{}}
	for _, f := range catalog {
		out.families = append(out.families, &dto.MetricFamily{Name: &f.name, Help: &f.help, Type: &f.kind})
	}
	return out
}

// gathered are the families that have series, by name.
func (out *sink) gathered() []*dto.MetricFamily {
	all := slices.DeleteFunc(out.families, func(f *dto.MetricFamily) bool { return len(f.Metric) == 0 })
	slices.SortFunc(all, func(a, b *dto.MetricFamily) int { return strings.Compare(*a.Name, *b.Name) })
	return all
}

// The value of a series that is 0, as most are.
var (
	nought      float64
	zeroCounter = &dto.Counter{Value: &nought}
	zeroGauge   = &dto.Gauge{Value: &nought}
)

func (out *sink) value(f *family, v float64, labels ...string) {
	out.add(f, v, out.labelled(f.labels, labels))
}

func (out *sink) add(f *family, v float64, labels []*dto.LabelPair) {
	m := out.metrics.one()
	m.Label = labels
	switch counter := f.kind == dto.MetricType_COUNTER; {
	case counter && v == 0:
		m.Counter = zeroCounter
	case counter:
		m.Counter = out.counters.one()
		m.Counter.Value = out.number(v)
	case v == 0:
		m.Gauge = zeroGauge
	default:
		m.Gauge = out.gauges.one()
		m.Gauge.Value = out.number(v)
	}
	out.families[f.index].Metric = append(out.families[f.index].Metric, m)
}

func (out *sink) number(v float64) *float64 {
	p := out.numbers.one()
	*p = v
	return p
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
	last := len(f.labels) - 1
	others := out.labelled(f.labels[:last], labels)
	at := 0 // labels are sorted by name
	for at < len(others) && *others[at].Name < f.labels[last] {
		at++
	}
	for word, n := range counts.All() {
		if n == 0 && out.compact {
			continue
		}
		all := out.labelLists.some(last + 1)
		copy(all, others[:at])
		all[at] = out.word(&f.labels[last], word)
		copy(all[at+1:], others[at:])
		out.add(f, float64(n), all)
	}
}

// labelled makes label pairs, sorted by name. For the same names and values as last time
// they are the same pairs.
func (out *sink) labelled(names, values []string) []*dto.LabelPair {
	if slices.Equal(values, out.values) && slices.Equal(names, out.names) {
		return out.pairs
	}
	pairs := out.labelLists.some(len(names))
	for i := range names {
		pairs[i] = out.pair(&names[i], values[i])
	}
	slices.SortFunc(pairs, func(a, b *dto.LabelPair) int { return strings.Compare(*a.Name, *b.Name) })
	out.names, out.values, out.pairs = names, append(out.values[:0], values...), pairs
	return pairs
}

func (out *sink) pair(name *string, value string) *dto.LabelPair {
	p, text := out.labels.one(), out.texts.one()
	*text = value
	p.Name, p.Value = name, text
	return p
}

func (out *sink) word(name *string, word string) *dto.LabelPair {
	key := [2]string{*name, word}
	p := out.words[key]
	if p == nil {
		p = out.pair(name, word)
		out.words[key] = p
	}
	return p
}

func (out *sink) histogram(f *family, h Histogram, labels ...string) {
	m := out.metrics.one()
	m.Label = out.labelled(f.labels, labels)
	if h.Count == 0 && h.Sum == 0 {
		if out.zeros[f] == nil {
			out.zeros[f] = out.newHistogram(h)
		}
		m.Histogram = out.zeros[f]
	} else {
		m.Histogram = out.newHistogram(h)
	}
	out.families[f.index].Metric = append(out.families[f.index].Metric, m)
}

func (out *sink) newHistogram(h Histogram) *dto.Histogram {
	made, total := out.histograms.one(), out.counts64.one()
	*total = h.Count
	made.SampleCount, made.SampleSum = total, out.number(h.Sum)
	made.Bucket = out.lists.some(len(h.Buckets))
	counts := out.counts64.some(len(h.Buckets))
	for i := range h.Buckets {
		counts[i] = h.Buckets[i].Count
		b := out.buckets.one()
		b.CumulativeCount, b.UpperBound = &counts[i], &h.Buckets[i].LE
		made.Bucket[i] = b
	}
	return made
}

// slab hands out memory, which it allocates in pieces.
type slab[T any] struct{ free []T }

// slabSize is how many at least: few allocations, and little that stays unused in a
// scrape of a small service.
const slabSize = 128

func (s *slab[T]) some(n int) []T {
	if n > len(s.free) {
		s.free = make([]T, max(n, slabSize))
	}
	all := s.free[:n:n]
	s.free = s.free[n:]
	return all
}

func (s *slab[T]) one() *T { return &s.some(1)[0] }

var _ prometheus.Gatherer = (*Gatherer)(nil)
