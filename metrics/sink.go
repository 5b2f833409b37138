package metrics

import (
	"io"
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

// sink writes the series of one scrape, straight as text: those of each family for
// itself, as the format wants them one after the other. With 10,000 backends there are
// 370,000 series, and to make client_golang's types of them and text of these took five
// times as long.
type sink struct {
	compact  bool      // see Compact
	families []textual // by index of the catalog
	line     []byte    // the line being made

	// The labels made last, as text. All series of a thing come one after the other.
	family *family
	values []string
	labels []byte
	bounds map[float64]string // of histograms, as labels
}

func newSink(compact bool) *sink {
	return &sink{compact: compact, families: make([]textual, len(catalog)), family: &family{}, bounds: map[float64]string{}}
}

// text is all of it, by name of the families.
func (out *sink) text() (all Text) {
	byName := slices.Clone(catalog)
	slices.SortFunc(byName, func(a, b *family) int { return strings.Compare(a.name, b.name) })
	help := strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	for _, f := range byName {
		if lines := out.families[f.index]; lines != nil {
			head := "# HELP " + f.name + " " + help.Replace(f.help) + "\n# TYPE " + f.name + " " + f.kind + "\n"
			all = append(append(all, []byte(head)), lines...)
		}
	}
	return all
}

func (out *sink) value(f *family, v float64, labels ...string) {
	out.series(f, "", out.labelled(f, labels), "", v)
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
	others := out.labelled(f, labels)
	name := f.labels[len(f.labels)-1]
	for word, n := range counts.All() {
		if n == 0 && out.compact {
			continue
		}
		out.series(f, "", others, name+`="`+word+`"`, float64(n))
	}
}

func (out *sink) histogram(f *family, h Histogram, labels ...string) {
	all := out.labelled(f, labels)
	for _, b := range h.Buckets {
		out.series(f, "_bucket", all, out.bound(b.LE), float64(b.Count))
	}
	if n := len(h.Buckets); n == 0 || !math.IsInf(h.Buckets[n-1].LE, 1) {
		out.series(f, "_bucket", all, out.bound(math.Inf(1)), float64(h.Count))
	}
	out.series(f, "_sum", all, "", h.Sum)
	out.series(f, "_count", all, "", float64(h.Count))
}

func (out *sink) bound(le float64) string {
	text, known := out.bounds[le]
	if !known {
		text = `le="` + string(appendNumber(nil, le)) + `"`
		out.bounds[le] = text
	}
	return text
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

// series adds one line.
func (out *sink) series(f *family, suffix string, labels []byte, last string, v float64) {
	line := append(append(out.line[:0], f.name...), suffix...)
	if len(labels)+len(last) > 0 {
		line = append(append(line, '{'), labels...)
		if len(labels) > 0 && last != "" {
			line = append(line, ',')
		}
		line = append(append(line, last...), '}')
	}
	line = append(appendNumber(append(line, ' '), v), '\n')
	out.line = line
	out.families[f.index].add(line)
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

// textual is text that grows without being copied: in blocks that double.
type textual [][]byte

const (
	firstBlock = 512
	largeBlock = 64 << 10
)

func (t *textual) add(line []byte) {
	last := len(*t) - 1
	if last < 0 || cap((*t)[last])-len((*t)[last]) < len(line) {
		size := firstBlock
		if last >= 0 {
			size = min(2*cap((*t)[last]), largeBlock)
		}
		*t = append(*t, make([]byte, 0, max(size, len(line))))
		last++
	}
	(*t)[last] = append((*t)[last], line...)
}

// Text is one scrape in Prometheus' text format, in pieces.
type Text [][]byte

// TextType is the Content-Type of a Text.
const TextType = "text/plain; version=0.0.4; charset=utf-8"

// WriteTo implements io.WriterTo. It may be called by several at once.
func (t Text) WriteTo(w io.Writer) (n int64, err error) {
	for _, piece := range t {
		some, err := w.Write(piece)
		if n += int64(some); err != nil {
			return n, err
		}
	}
	return n, nil
}
