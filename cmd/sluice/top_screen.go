package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"sluice/metrics"
)

// screen is what sluice top shows, and of which and in which order people want it. It
// knows nothing of terminals.
type screen struct {
	now, before    metrics.Snapshot
	err            error  // of the last look; nil = it succeeded
	listener, pool string // "" = all
	pane           int    // that keys are for
	sort           [panes]int
	reverse        [panes]bool
	skip           [panes]int // rows that are scrolled away
	page           [panes]int // rows that fit
	help           bool
}

const (
	paneAcceptors = iota
	paneRoutes    // where there are any
	paneBackends
	panes
)

// column is one of a pane; the rows can be sorted by each.
type column struct {
	title string
	width int // below 0: to the left
}

var paneColumns = [panes][]column{
	{{"ACCEPTOR", 8}, {"WORKER", 6}, {"STATE", -13}, {"CPU%", 5}, {"HELD", 8}, {"ACCEPTS/S", 9}, {"SHARE", 6}},
	{{"BYTES/S", 8}, {"ROUTE", -21}, {"HELD", 6}, {"NEW/S", 6}, {"IN/S", 8}, {"OUT/S", 8}, {"POOL", -12}, {"TAKES", -1}},
	{{"STATE", -10}, {"BACKEND", -21}, {"SINCE", 6}, {"HELD", 6}, {"NEW/S", 6}, {"ERRORS", 7}, {"WHY", -1}},
}

// cells is a row: what to read, and what to sort by.
type cells struct {
	text []string
	by   []float64 // less is first; of a text its rank
	bad  bool
	tail string // drawn behind the columns
}

func (s *screen) put(n metrics.Snapshot) { s.before, s.now = s.now, n }

// key does what a key asks for.
func (s *screen) key(key string) {
	switch key {
	case "\t":
		if s.pane = (s.pane + 1) % panes; s.pane == paneRoutes && !s.hasRoutes() {
			s.pane++
		}
	case "s":
		s.sort[s.pane] = (s.sort[s.pane] + 1) % len(paneColumns[s.pane])
	case "S":
		s.sort[s.pane] = (s.sort[s.pane] + len(paneColumns[s.pane]) - 1) % len(paneColumns[s.pane])
	case "r":
		s.reverse[s.pane] = !s.reverse[s.pane]
	case "l":
		s.listener = nextOf(s.listenerNames(), s.listener)
	case "p":
		s.pool = nextOf(s.poolNames(), s.pool)
	case "?", "h":
		s.help = !s.help
	case "j", "\x1b[B", "\x1bOB":
		s.skip[s.pane]++
	case "k", "\x1b[A", "\x1bOA":
		s.skip[s.pane]--
	case " ", "\x1b[6~":
		s.skip[s.pane] += max(1, s.page[s.pane])
	case "b", "\x1b[5~":
		s.skip[s.pane] -= max(1, s.page[s.pane])
	case "g":
		s.skip[s.pane] = 0
	}
}

// nextOf is the name after one, "" (all) after the last.
func nextOf(names []string, name string) string {
	if i := slices.Index(names, name) + 1; i < len(names) {
		return names[i]
	}
	return ""
}

func (s *screen) listenerNames() (names []string) {
	for i := range s.now.Listeners {
		names = append(names, s.now.Listeners[i].Name)
	}
	return names
}

func (s *screen) poolNames() (names []string) {
	for i := range s.now.Pools {
		names = append(names, s.now.Pools[i].Name)
	}
	return names
}

var topHelp = []string{
	"Tab        keys are for the acceptors, for the routes, or for the backends",
	"s S        sort by the next column, or by the one before;  r turns the order",
	"j k        one row down or up, as arrows;  Space b: a page;  g: to the top",
	"l p        the next listener, the next pool, or all of them",
	"Ctrl-L     draw everything anew",
	"? h        this help;  q: end",
	"",
	"LAST MINUTE  how evenly the acceptors shared what was accepted: even, as chance",
	"             gives, or skewed; with how much more than its share the busiest had",
	"SHARE        of what was accepted in the last minute; | is 1/n",
}

// lines draws the screen: never more than height, each cut to width by the painter.
func (s *screen) lines(width, height int) []line {
	all := []line{s.head()}
	if s.help {
		for _, text := range topHelp {
			all = append(all, line{text: text})
		}
	} else {
		all = append(all, s.body(width, height-2)...)
	}
	all = all[:min(len(all), max(1, height-1))]
	for len(all) < height-1 {
		all = append(all, line{})
	}
	if height > 1 {
		all = append(all, line{"Tab pane  s sort  r turn  l listener  p pool  j/k scroll  ? help  q end", styleBar})
	}
	return all
}

// head is how the service is.
func (s *screen) head() line {
	n := &s.now
	state := "not ready"
	switch {
	case n.Draining:
		state = "draining"
	case n.Ready:
		state = "ready"
	}
	var held int64
	for _, a := range n.Acceptors {
		held += a.Sessions
	}
	text := fmt.Sprintf("sluice%s  %s for %s  %d held  %s accepts/s  in %s/s  out %s/s  %s, generation %d", nonEmpty(" ", n.Name), state, since(n.Time, n.Started), held,
		figure(s.rate(accepted)), inBytes(s.rate(received)), inBytes(s.rate(sent)), n.Mode, n.Config.Generation)
	if s.err != nil {
		return line{"NO ANSWER, figures of " + n.Time.Local().Format(time.TimeOnly) + ": " + s.err.Error(), styleBad}
	}
	if !n.Config.Reload.Succeeded {
		text += "  THE LAST RELOAD CHANGED NOTHING"
	}
	return line{text, styleTitle}
}

// body shares the height: listeners have what they need up to a quarter, and acceptors and
// routes, where there are any, their part of the rest, or more of it if others need less.
func (s *screen) body(width, height int) (all []line) {
	listeners := s.listenerLines(max(1, height/4))
	all = append(all, listeners...)
	rows := [panes][]cells{paneAcceptors: s.acceptorRows(width), paneRoutes: s.routeRows(), paneBackends: s.backendRows()}
	shown := []int{paneAcceptors, paneRoutes, paneBackends}
	if len(rows[paneRoutes]) == 0 {
		shown = []int{paneAcceptors, paneBackends}
		if s.pane == paneRoutes { // a reload has taken them out
			s.pane = paneBackends
		}
	}
	left := height - len(all) - 2*len(shown) // a blank and a title each
	for i, pane := range shown {
		others := 0
		for _, other := range shown[i+1:] {
			others += len(rows[other])
		}
		fit := left
		if i < len(shown)-1 {
			fit = min(len(rows[pane]), max(left/(len(shown)-i), left-others))
		}
		all = append(all, line{})
		all = append(all, s.paneLines(pane, rows[pane], fit)...)
		left -= max(fit, 0)
	}
	return all
}

// listenerRow has what matters first: a narrow terminal shows no more.
const listenerRow = " %-12s %-23s %9s %8s %6s  %-11s %s"

// paneLines are the title and the rows of a pane that fit.
func (s *screen) paneLines(pane int, rows []cells, fit int) []line {
	fit = max(fit, 0)
	by := s.sort[pane]
	slices.SortStableFunc(rows, func(a, b cells) int {
		if s.reverse[pane] {
			a, b = b, a
		}
		return cmp.Compare(a.by[by], b.by[by])
	})
	s.page[pane] = fit
	s.skip[pane] = max(0, min(s.skip[pane], len(rows)-fit))
	titles := make([]string, len(paneColumns[pane]))
	for i, c := range paneColumns[pane] {
		titles[i] = c.title
		if i == by {
			titles[i] = "*" + c.title
		}
	}
	title := columns(pane, titles)
	if pane == s.pane {
		title = ">" + title[1:]
	}
	if rest := len(rows) - fit; rest > 0 {
		title += fmt.Sprintf("  %d-%d of %d", s.skip[pane]+1, s.skip[pane]+fit, len(rows))
	}
	all := []line{{title, styleTitle}}
	for _, r := range rows[s.skip[pane]:min(len(rows), s.skip[pane]+fit)] {
		l := line{text: columns(pane, r.text) + nonEmpty("  ", r.tail)}
		if r.bad {
			l.style = styleBad
		}
		all = append(all, l)
	}
	return all
}

func columns(pane int, texts []string) string {
	var b strings.Builder
	for i, c := range paneColumns[pane] {
		text := texts[i]
		if c.width < -1 {
			text = cut(text, -c.width)
		}
		fmt.Fprintf(&b, " %*s", c.width, text)
	}
	return b.String()
}

// cut shortens a text to a width, and shows that it did.
func cut(text string, width int) string {
	if runes := []rune(text); len(runes) > width {
		return string(runes[:width-1]) + "~"
	}
	return text
}
