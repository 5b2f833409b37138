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
	pane           int    // that keys are for: acceptors or backends
	sort           [panes]int
	reverse        [panes]bool
	skip           [panes]int // rows that are scrolled away
	page           [panes]int // rows that fit
	help           bool
}

const (
	paneAcceptors = iota
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
		s.pane = (s.pane + 1) % panes
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
	"Tab        keys are for the acceptors, or for the backends",
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

// lines draws the screen: never more than height, each cut to width by whoever writes it.
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

// body shares the height: listeners have what they need up to a quarter, acceptors up to a
// half of the rest.
func (s *screen) body(width, height int) (all []line) {
	listeners := s.listenerLines(max(1, height/4))
	all = append(all, listeners...)
	left := height - len(all) - 4 // two titles, two blanks
	acceptors, backends := s.acceptorRows(width), s.backendRows()
	forAcceptors := min(len(acceptors), max(left/2, left-len(backends)))
	all = append(all, line{})
	all = append(all, s.paneLines(paneAcceptors, acceptors, forAcceptors)...)
	all = append(all, line{})
	return append(all, s.paneLines(paneBackends, backends, left-forAcceptors)...)
}

// listenerRow has what matters first: a narrow terminal shows no more.
const listenerRow = " %-12s %-23s %9s %8s %6s  %-11s %s"

func (s *screen) listenerLines(most int) []line {
	all := []line{{fmt.Sprintf(listenerRow, "LISTENER", "LAST MINUTE", "ACCEPTS/S", "HELD", "QUEUED", "STEERING", "ADDRESS"), styleTitle}}
	shown := 0
	for i := range s.now.Listeners {
		l := &s.now.Listeners[i]
		if s.listener != "" && l.Name != s.listener {
			continue
		}
		if shown++; shown > most {
			continue
		}
		var held int64
		var queued uint64
		for _, a := range l.Acceptors {
			held += a.Active
			if a.Queue != nil {
				queued += a.Queue.Length
			}
		}
		b := l.Balance.Accepts
		word, style := evennessWords[b.Evenness], ""
		if b.Evenness == metrics.EvennessSkewed {
			word, style = strings.ToUpper(word), styleBad
		}
		if b.Total > 0 {
			word += fmt.Sprintf(" (%.2fx)", b.MaxOverMean)
		}
		all = append(all, line{fmt.Sprintf(listenerRow, cut(l.Name+leaving(l.Leaving), 12), word,
			figure(s.rateOf(accepted, l.Name)), fmt.Sprint(held), fmt.Sprint(queued), l.Steering.Effective, l.Address), style})
	}
	if shown > most {
		all = append(all, line{text: fmt.Sprintf("... and %d more; l chooses one", shown-most)})
	}
	return all
}

// acceptorRows are those of the chosen listener, or of all.
func (s *screen) acceptorRows(width int) (rows []cells) {
	shares := map[int]float64{}
	per := map[int]uint64{}
	held := map[int]int64{}
	total := 0.0
	for i := range s.now.Listeners {
		l := &s.now.Listeners[i]
		if s.listener != "" && l.Name != s.listener {
			continue
		}
		for j, a := range l.Acceptors {
			shares[a.Number] += l.Balance.Accepts.Shares[j] * l.Balance.Accepts.Total
			per[a.Number] += a.Accepted
			held[a.Number] += a.Active
		}
		total += l.Balance.Accepts.Total
	}
	for _, a := range s.now.Acceptors {
		state, bad := acceptorState(a)
		share := 0.0
		if total > 0 {
			share = shares[a.Number] / total
		}
		speed := s.perSecond(per[a.Number], s.acceptedBefore(a.Number))
		cpu := s.cpuOf(a.Worker)
		rows = append(rows, cells{
			text: []string{fmt.Sprint(a.Number), fmt.Sprint(a.Worker), state, figure(100 * cpu), fmt.Sprint(held[a.Number]), figure(speed), fmt.Sprintf("%.1f%%", 100*share)},
			by:   []float64{float64(a.Number), float64(a.Worker), rank(!bad), -cpu, -float64(held[a.Number]), -speed, -share},
			bad:  bad, tail: shareBar(share, len(s.now.Acceptors), width-62),
		})
	}
	return rows
}

// shareBar draws a share in a width, and a | where 1/n is.
func shareBar(share float64, n, width int) string {
	if width < 8 || n == 0 {
		return ""
	}
	most := max(2/float64(n), share)
	bar := []byte(strings.Repeat("=", int(share/most*float64(width)+.5)) + strings.Repeat(" ", width))[:width]
	bar[min(width-1, int(float64(width)/(float64(n)*most)))] = '|'
	return strings.TrimRight(string(bar), " ")
}

func acceptorState(a metrics.AcceptorStats) (word string, bad bool) {
	switch {
	case a.Hung:
		return "HUNG", true
	case a.Leaving:
		return "leaving", false
	case !a.Accepting:
		return "not accepting", true
	case a.Parked:
		return "at rest", false
	}
	return "accepting", false
}

func (s *screen) backendRows() (rows []cells) {
	before := map[string]uint64{}
	for _, p := range s.before.Pools {
		for _, b := range p.Backends {
			for _, t := range b.Targets {
				before[p.Name+" "+b.Name+" "+t.Address] = t.Sessions
			}
		}
	}
	for _, p := range s.now.Pools {
		if s.pool != "" && p.Name != s.pool {
			continue
		}
		for _, b := range p.Backends {
			name := b.Name
			if s.pool == "" && len(s.now.Pools) > 1 {
				name = p.Name + " " + name
			}
			if len(b.Targets) == 0 {
				rows = append(rows, cells{[]string{"NO ADDRESS", name, "", "0", "0", "0", "its name does not resolve"}, []float64{0, 0, 0, 0, 0, 0, 0}, true, ""})
			}
			for _, t := range b.Targets {
				rows = append(rows, s.backendRow(name, p.Name+" "+b.Name+" "+t.Address, t, before))
			}
		}
	}
	order := slices.Clone(rows) // texts are sorted by their rank
	for _, i := range []int{1, 6} {
		slices.SortStableFunc(order, func(a, b cells) int { return cmp.Compare(a.text[i], b.text[i]) })
		ranks := map[string]float64{}
		for n, r := range order {
			ranks[r.text[i]] = float64(n)
		}
		for n := range rows {
			rows[n].by[i] = ranks[rows[n].text[i]]
		}
	}
	return rows
}

// backendStates are in the order of how much they need a look.
var backendStates = []metrics.TargetState{metrics.TargetDown, metrics.TargetPanic, metrics.TargetDisabled, metrics.TargetDraining, metrics.TargetWarming, metrics.TargetUp}

func (s *screen) backendRow(name, key string, t metrics.TargetStats, before map[string]uint64) cells {
	var errors uint64
	for _, n := range t.ConnectErrors.All() {
		errors += n
	}
	g := glanceTarget{Address: t.Address, State: t.State, Since: t.Since, Failing: t.Failing, Class: t.FailingClass, Operator: t.Operator}
	if t.Check != nil {
		g.Check.Error = t.Check.Error
	}
	state, bad := string(t.State), t.State == metrics.TargetDown || t.State == metrics.TargetPanic
	if t.Failing && !bad {
		state, bad = "failing", true
	}
	if bad {
		state = strings.ToUpper(state)
	}
	was, known := before[key]
	if !known {
		was = t.Sessions
	}
	fresh := s.perSecond(t.Sessions, was)
	place := float64(slices.Index(backendStates, t.State))
	if t.Failing {
		place = min(place, .5)
	}
	age := s.now.Time.Sub(t.Since)
	return cells{
		text: []string{state, name, since(s.now.Time, t.Since), fmt.Sprint(t.Active), figure(fresh), fmt.Sprint(errors), g.why()},
		by:   []float64{place, 0, age.Seconds(), -float64(t.Active), -fresh, -float64(errors), 0}, bad: bad,
	}
}

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

// Counters of a listener.
func accepted(l *metrics.ListenerStats) (n uint64) {
	for _, a := range l.Acceptors {
		n += a.Accepted
	}
	return n
}
func received(l *metrics.ListenerStats) uint64 { return total(l.Received) }
func sent(l *metrics.ListenerStats) uint64     { return total(l.Sent) }

func total(c metrics.Counts) (n uint64) {
	for _, x := range c.All() {
		n += x
	}
	return n
}

// rate is what a counter of all chosen listeners grew by a second.
func (s *screen) rate(of func(*metrics.ListenerStats) uint64) (sum float64) {
	for _, name := range s.listenerNames() {
		if s.listener == "" || s.listener == name {
			sum += s.rateOf(of, name)
		}
	}
	return sum
}

func (s *screen) rateOf(of func(*metrics.ListenerStats) uint64, name string) float64 {
	now, before := listenerOf(&s.now, name), listenerOf(&s.before, name)
	if now == nil || before == nil {
		return 0
	}
	return s.perSecond(of(now), of(before))
}

func listenerOf(n *metrics.Snapshot, name string) *metrics.ListenerStats {
	for i := range n.Listeners {
		if n.Listeners[i].Name == name {
			return &n.Listeners[i]
		}
	}
	return nil
}

func (s *screen) acceptedBefore(number int) (n uint64) {
	for i := range s.before.Listeners {
		l := &s.before.Listeners[i]
		if s.listener != "" && l.Name != s.listener {
			continue
		}
		for _, a := range l.Acceptors {
			if a.Number == number {
				n += a.Accepted
			}
		}
	}
	return n
}

// cpuOf is the share of a CPU that a worker had.
func (s *screen) cpuOf(number int) float64 {
	for _, w := range s.now.Workers {
		for _, before := range s.before.Workers {
			if w.Number == number && before.Number == number && w.PID == before.PID && s.seconds() > 0 {
				return max(0, w.CPUSeconds-before.CPUSeconds) / s.seconds()
			}
		}
	}
	return 0
}

// seconds are those between the two looks; 0 = they cannot be compared.
func (s *screen) seconds() float64 {
	if s.before.Time.IsZero() || !s.before.Started.Equal(s.now.Started) {
		return 0
	}
	return max(0, s.now.Time.Sub(s.before.Time).Seconds())
}

func (s *screen) perSecond(now, before uint64) float64 {
	if s.seconds() == 0 || now < before {
		return 0
	}
	return float64(now-before) / s.seconds()
}

func rank(well bool) float64 {
	if well {
		return 1
	}
	return 0
}

// figure writes a figure with three digits or as a whole number.
func figure(x float64) string {
	switch {
	case x == 0:
		return "0"
	case x < 10:
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.0f", x)
}

func inBytes(x float64) string {
	for _, unit := range []string{"B", "kB", "MB", "GB"} {
		if x < 1000 {
			return figure(x) + " " + unit
		}
		x /= 1000
	}
	return figure(x) + " TB"
}

func since(now, then time.Time) string {
	if then.IsZero() {
		return ""
	}
	return (&glance{Time: now}).ago(then)
}
