package main

import (
	"fmt"
	"slices"
	"strings"

	"sluice/metrics"
)

// listenerLines are the listeners, each with its balance and queue.
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
	rankTexts(rows, 1, 6)
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
