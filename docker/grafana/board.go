package main

import "strings"

// board is a dashboard. Its variables, links and annotations are the same on all.
type board struct {
	slug  string // of its file; "sluice-" and it is the uid
	title string
	about string
	pools bool // has a variable for pools instead of one for listeners
	rows  []row
}

// row is a heading and the panels under it, from left to right and on to the next
// line where the width of 24 is used up.
type row struct {
	title  string
	panels []panel
}

// panel is one graph, number or table.
type panel struct {
	kind    kind
	title   string
	about   string // what it shows, and what to make of it
	unit    string // Grafana's name of it
	width   int    // of 24
	height  int    // 0 = 8
	min     *float64
	max     *float64
	steps   []step // colours by value; none = no colours
	stack   bool   // areas stacked
	queries []query
	link    link              // where a click on a series leads
	words   map[string]string // shown instead of a number
}

// kind is how a panel looks.
type kind string

const (
	lines   kind = "timeseries"
	number  kind = "stat"
	bars    kind = "bargauge"
	table   kind = "table"
	states  kind = "state-timeline"
	buckets kind = "heatmap"
)

// step colours values from here up, to the next step.
type step struct {
	from  float64
	color string
}

// query is PromQL and the name of its series. LISTENER, INSTANCE and POOL stand for
// the matchers of what is chosen by the variables.
type query struct {
	expr   string
	legend string
}

// matchers are what a query's placeholders become.
var matchers = strings.NewReplacer(
	"LISTENER", `job=~"$job",instance=~"$instance",listener=~"$listener"`,
	"INSTANCE", `job=~"$job",instance=~"$instance"`,
	"POOL", `job=~"$job",instance=~"$instance",pool=~"$pool"`,
)

// link leads to another board, with what the series is about already chosen.
type link struct {
	title string
	slug  string
	label string // of the series, besides instance: "listener", "pool" or none
}

// bad colours what should be low, with the limits of the alerts.
func bad(warning, critical float64) []step {
	return []step{{0, "green"}, {warning, "orange"}, {critical, "red"}}
}

// good colours what should be high.
func good(warning, fine float64) []step {
	return []step{{0, "red"}, {warning, "orange"}, {fine, "green"}}
}

func at(v float64) *float64 { return &v }
