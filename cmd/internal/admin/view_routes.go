package admin

import (
	"cmp"
	"slices"

	"sluice/metrics"
)

type viewRoute struct {
	Name     string `json:"name"`
	Pool     string `json:"pool"`
	On       string `json:"on"`
	Sessions uint64 `json:"sessions,omitempty"`
	viewRouted
}

type viewRouted struct {
	Active   int64  `json:"active,omitempty"`
	Received uint64 `json:"received_bytes,omitempty"`
	Sent     uint64 `json:"sent_bytes,omitempty"`
}

// maxViewRoutes is how many of a listener the page gets, for it shows a few only and
// 16,384 of them would be 3 MB a second: half of them have the most sessions open, half have
// moved the most bytes.
const maxViewRoutes = 100

func viewOfRoutes(all []metrics.Route) (some []viewRoute, total int, routed *viewRouted) {
	if len(all) == 0 {
		return nil, 0, nil
	}
	routed = new(viewRouted)
	for i := range all {
		routed.Active += all[i].Active
		routed.Received += all[i].Received
		routed.Sent += all[i].Sent
	}
	for _, i := range busiestRoutes(all) {
		r := &all[i]
		some = append(some, viewRoute{r.Name, r.Pool, clipped(r.On), r.Sessions, viewRouted{r.Active, r.Received, r.Sent}})
	}
	return some, len(all), routed
}

// busiestRoutes are the indexes of those that it gets, in their order.
func busiestRoutes(all []metrics.Route) (which []int) {
	for i := range all {
		which = append(which, i)
	}
	if len(all) <= maxViewRoutes {
		return which
	}
	slices.SortStableFunc(which, func(a, b int) int { return cmp.Compare(all[b].Active, all[a].Active) })
	slices.SortStableFunc(which[maxViewRoutes/2:], func(a, b int) int {
		return cmp.Compare(all[b].Received+all[b].Sent, all[a].Received+all[a].Sent)
	})
	which = which[:maxViewRoutes]
	slices.Sort(which)
	return which
}

// clipped shortens what a route takes: it may name hundreds of hosts.
func clipped(on string) string {
	const most = 120
	if runes := []rune(on); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return on
}
