package metrics

import "github.com/prometheus/client_golang/prometheus"

// family is a counter or a gauge; a histogram needs no more than its desc.
type family struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

// catalog is every family there is.
var catalog []*prometheus.Desc

func counter(name, help string, labels ...string) family {
	return family{newDesc(name, help, labels), prometheus.CounterValue}
}

func gauge(name, help string, labels ...string) family {
	return family{newDesc(name, help, labels), prometheus.GaugeValue}
}

func histogram(name, help string, labels ...string) *prometheus.Desc {
	return newDesc(name, help, labels)
}

func newDesc(name, help string, labels []string) *prometheus.Desc {
	d := prometheus.NewDesc("sluice_"+name, help, labels, nil)
	catalog = append(catalog, d)
	return d
}

// sink takes the samples of one scrape.
type sink chan<- prometheus.Metric

func (out sink) value(f family, v float64, labels ...string) {
	out <- prometheus.MustNewConstMetric(f.desc, f.kind, v, labels...)
}

func (out sink) flag(f family, on bool, labels ...string) {
	v := 0.0
	if on {
		v = 1
	}
	out.value(f, v, labels...)
}

// counts adds the word of each count as the last label.
func (out sink) counts(f family, counts Counts, labels ...string) {
	for word, n := range counts {
		out.value(f, float64(n), append(labels[:len(labels):len(labels)], word)...)
	}
}

func (out sink) histogram(d *prometheus.Desc, h Histogram, labels ...string) {
	buckets := make(map[float64]uint64, len(h.Buckets))
	for _, b := range h.Buckets {
		buckets[b.LE] = b.Count
	}
	out <- prometheus.MustNewConstHistogram(d, h.Count, h.Sum, buckets, labels...)
}
