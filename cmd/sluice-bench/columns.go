package main

// The families of cases, each a table of its own in the report.
const (
	requestFamily = "requests on kept connections"
	sessionFamily = "short sessions"
	bulkFamily    = "bulk"
	memoryFamily  = "user memory of a held session"
	balanceFamily = "balance of the acceptors"
	latencyFamily = "new sessions while an acceptor is busy"
	restFamily    = "CPU at rest"
	paceFamily    = "short sessions at a low rate"
	fairFamily    = "clients beside streams"
	scaleFamily   = "long configurations"
	stallFamily   = "kernel memory of a stalled session"
	sickFamily    = "short sessions to a pool of which a backend is sick"
)

// column is one figure of a family. Figures are stored in base units (seconds, bytes, 1); scale brings them to the unit of head.
type column struct {
	key    string
	head   string
	scale  float64
	digits int
	better int  // -1: less is better, +1: more is better
	ratio  bool // has a ratio to the best peer beside it
}

type family struct {
	name    string
	columns []column
}

const (
	less = -1
	more = +1
)

// families is the order and the columns of the report.
var families = []family{
	{requestFamily, workColumns("request")},
	{sessionFamily, workColumns("session")},
	{bulkFamily, []column{
		{"cpu", "CPU s/GB", 1, 3, less, true},
		{"ends", "ends s/GB", 1, 3, less, false},
		{"rate", "GB/s", 1, 2, more, true},
	}},
	{memoryFamily, []column{
		{"opened", "bytes, before data", 1, 0, less, true},
		{"used", "bytes, after data", 1, 0, less, true},
	}},
	{balanceFamily, []column{
		{"jain", "Jain index", 1, 3, more, false},
		{"jain_worst", "Jain, worst trial", 1, 3, more, false},
		{"peak", "max/mean", 1, 2, less, false},
		{"peak_worst", "max/mean, worst trial", 1, 2, less, false},
	}},
	{latencyFamily, []column{
		{"failed", "failed %", 100, 0, less, false},
		{"p50", "p50 ms", 1e3, 2, less, false},
		{"p99", "p99 ms", 1e3, 2, less, true},
		{"max", "max ms", 1e3, 2, less, false},
	}},
	{restFamily, []column{
		{"share", "CPU ms/s", 1e3, 2, less, false},
	}},
	{paceFamily, []column{
		{"cpu", "CPU µs/session", 1e6, 1, less, true},
		{"share", "CPU ms/s", 1e3, 2, less, true},
		{"ends", "ends µs/session", 1e6, 1, less, false},
		{"p50", "p50 µs", 1e6, 0, less, true},
		{"p99", "p99 µs", 1e6, 0, less, true},
	}},
	{fairFamily, []column{
		{"failed", "failed %", 100, 1, less, false},
		{"p50", "p50 ms", 1e3, 2, less, true},
		{"p99", "p99 ms", 1e3, 2, less, true},
		{"max", "max ms", 1e3, 2, less, false},
		{"streams", "streams GB/s", 1, 2, more, true},
	}},
	{scaleFamily, []column{
		{"start", "start s", 1, 2, less, true},
		{"memory", "user memory MiB", 1.0 / (1 << 20), 1, less, true},
		{"scrape", "scrape ms", 1e3, 0, less, false},
		{"series", "series", 1, 0, less, false},
		{"each", "scrape µs/series", 1e6, 2, less, true},
	}},
	{sickFamily, []column{
		{"failed", "failed %", 100, 2, less, true},
		{"p50", "p50 ms", 1e3, 2, less, false},
		{"p99", "p99 ms", 1e3, 2, less, true},
		{"max", "max ms", 1e3, 2, less, false},
	}},
	{stallFamily, []column{
		{"kernel", "kernel MiB", 1.0 / (1 << 20), 1, less, true},
	}},
}

func workColumns(unit string) []column {
	return []column{
		{"cpu", "CPU µs/" + unit, 1e6, 1, less, true},
		{"ends", "ends µs/" + unit, 1e6, 1, less, false},
		{"rate", unit + "s/s", 1, 0, more, true},
		{"p50", "p50 µs", 1e6, 0, less, true},
		{"p99", "p99 µs", 1e6, 0, less, true},
	}
}

func columnsOf(name string) []column {
	for _, f := range families {
		if f.name == name {
			return f.columns
		}
	}
	return nil
}

// columnNamed returns the column of a family that has the key; one without a head if there is none.
func columnNamed(familyName, key string) column {
	for _, c := range columnsOf(familyName) {
		if c.key == key {
			return c
		}
	}
	return column{key: key, scale: 1}
}
