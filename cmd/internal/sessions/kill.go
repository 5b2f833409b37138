package sessions

import (
	"fmt"
	"slices"
	"time"

	"sluice/cmd/internal/admin"
	"sluice/cmd/internal/moving"
	"sluice/metrics"
	"sluice/proxy"
)

// Kill ends sessions, unless there are more than the caller reckons with. It says whether that
// was done, and what came of it.
func (d *Desk) Kill(o admin.KillOrder) (ok bool, text string) {
	filter, err := d.filter(o.SessionQuery)
	if err != nil {
		return false, err.Error()
	}
	counted, silent := d.Mover.Ask(proxy.Survey{Filter: filter})
	total, quotas := 0, map[int]int{}
	for seat, a := range counted {
		if a.Matched > 0 {
			quotas[seat] = a.Matched
			total += a.Matched
		}
	}
	switch {
	case o.Max == 0:
		return false, fmt.Sprintf("%s would end; say how many may at most: -max %d%s", Count(total), total, nothingOf(silent))
	case total > o.Max:
		return false, fmt.Sprintf("nothing ended: %d match, which is more than -max %d%s", total, o.Max, nothingOf(silent))
	}
	if o.PerSecond > 0 {
		if !d.killSlowly(filter, total, o.PerSecond) {
			return false, "nothing ended: an earlier kill is under way"
		}
		return true, fmt.Sprintf("%s end, %d a second%s", Count(total), o.PerSecond, nothingOf(silent))
	}
	answers, late := d.Mover.EndAt(proxy.Survey{Filter: filter, End: true, Reason: metrics.ReasonKilled}, quotas)
	ended := 0
	for _, a := range answers {
		ended += a.Ended
	}
	silent = union(silent, late)
	text = fmt.Sprintf("%s ended%s", Count(ended), nothingOf(silent))
	if ended == 0 && o.ID != "" && len(silent) == 0 {
		return false, fmt.Sprintf("no session %s is open", o.ID)
	}
	return len(silent) == 0, text
}

// killSlowly ends as many sessions as were counted, at a pace; false = another such kill is
// under way.
func (d *Desk) killSlowly(filter proxy.Filter, left, perSecond int) bool {
	idleSince := time.Now()
	return d.Mover.Start(moving.Task{
		Name: "kill", Reason: metrics.ReasonKilled, PerSecond: perSecond,
		Ended: func(n int) {
			if left -= n; n > 0 {
				idleSince = time.Now()
			}
		},
		Next: func() []moving.Portion {
			if left <= 0 || time.Since(idleSince) > moving.GiveUpAfter {
				return nil
			}
			return []moving.Portion{{Filter: filter, Most: left}}
		},
	})
}

// Count says how many sessions those are.
func Count(n int) string {
	if n == 1 {
		return "1 session"
	}
	return fmt.Sprintf("%d sessions", n)
}

// nothingOf says which acceptors did not answer; "" = all did.
func nothingOf(silent []int) string {
	if len(silent) == 0 {
		return ""
	}
	return fmt.Sprintf("; no whole answer in time from acceptor %s: of its sessions not all is known", list(silent))
}

func list(numbers []int) (text string) {
	for i, n := range numbers {
		if i > 0 {
			text += ", "
		}
		text += fmt.Sprint(n)
	}
	return text
}

func union(a, b []int) []int {
	a = append(slices.Clone(a), b...)
	slices.Sort(a)
	return slices.Compact(a)
}
