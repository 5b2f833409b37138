package main

import (
	"cmp"
	"fmt"
	"slices"

	"sluice/metrics"
)

// hasRoutes says whether a listener that is shown has any.
func (s *screen) hasRoutes() bool {
	return slices.ContainsFunc(s.now.Listeners, func(l metrics.ListenerStats) bool {
		return len(l.Routes) > 0 && (s.listener == "" || l.Name == s.listener)
	})
}

// routeRows are the routes of the chosen listener, or of all.
func (s *screen) routeRows() (rows []cells) {
	type name struct{ listener, route string }
	before := map[name]metrics.Route{}
	for i := range s.before.Listeners {
		for _, r := range s.before.Listeners[i].Routes {
			before[name{s.before.Listeners[i].Name, r.Name}] = r
		}
	}
	for i := range s.now.Listeners {
		l := &s.now.Listeners[i]
		if s.listener != "" && l.Name != s.listener {
			continue
		}
		for _, r := range l.Routes {
			was, known := before[name{l.Name, r.Name}]
			if !known {
				was = r
			}
			text := r.Name
			if s.listener == "" && len(s.now.Listeners) > 1 {
				text += " at " + l.Name
			}
			fresh, in, out := s.perSecond(r.Sessions, was.Sessions), s.perSecond(r.Received, was.Received), s.perSecond(r.Sent, was.Sent)
			rows = append(rows, cells{
				text: []string{inBytes(in + out), text, fmt.Sprint(r.Active), figure(fresh), inBytes(in), inBytes(out), r.Pool, r.On},
				by:   []float64{-in - out, 0, -float64(r.Active), -fresh, -in, -out, 0, 0},
			})
		}
	}
	rankTexts(rows, 1, 6, 7)
	return rows
}

// rankTexts has rows sort by the texts of these columns as well.
func rankTexts(rows []cells, columns ...int) {
	order := slices.Clone(rows) // texts are sorted by their rank
	for _, i := range columns {
		slices.SortStableFunc(order, func(a, b cells) int { return cmp.Compare(a.text[i], b.text[i]) })
		ranks := map[string]float64{}
		for n, r := range order {
			ranks[r.text[i]] = float64(n)
		}
		for n := range rows {
			rows[n].by[i] = ranks[rows[n].text[i]]
		}
	}
}
