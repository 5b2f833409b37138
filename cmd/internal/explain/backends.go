package explain

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"sluice/cmd/internal/admin"
	"sluice/metrics"
	"sluice/proxy/pool"
)

// The states of a backend that an explanation knows beside those of its health.
const (
	stateFailing = "failing" // it does not take connections: ranked last
	stateFull    = "full"    // it has max_sessions
)

// backends lists the candidates: those that would be tried first, then the others as configured.
func (x *explaining) backends() {
	x.Backends = []admin.ExplainedBackend{}
	var others []admin.ExplainedBackend
	for i := range x.pool.Targets {
		if b := x.backend(i); slices.Contains(x.Tries, b.Address) {
			x.Backends = append(x.Backends, b)
		} else {
			others = append(others, b)
		}
	}
	slices.SortStableFunc(x.Backends, func(a, b admin.ExplainedBackend) int {
		return slices.Index(x.Tries, a.Address) - slices.Index(x.Tries, b.Address)
	})
	n := max(admin.MaxExplainedBackends-len(x.Backends), 0)
	x.More = max(len(others)-n, 0)
	x.Backends = append(x.Backends, others[:len(others)-x.More]...)
	for _, b := range x.more.Config.Backends {
		if !slices.ContainsFunc(x.pool.Targets, func(t pool.Target) bool { return t.Backend == b.Address }) {
			x.Notes = append(x.Notes, fmt.Sprintf("backend %s has no address now", b.Address))
		}
	}
}

func (x *explaining) backend(i int) admin.ExplainedBackend {
	t := &x.pool.Targets[i]
	cell := t.ID.Index()
	h := x.Health[t.ID]
	b := admin.ExplainedBackend{
		Backend: t.Backend, Address: x.address(i), State: string(h.State), Weight: float64(x.Targets.Weights()[cell].Load()) / pool.WeightScale,
		Sessions: x.Targets.Held()[cell].Load(), Most: int64(t.MaxSessions), Backup: t.Backup,
	}
	switch f := x.Targets.Failing()[cell].Load(); {
	case h.Operator != nil:
		b.Why = fmt.Sprintf("%s by %s", h.Operator.Want, h.Operator.Who)
		if h.Operator.Reason != "" {
			b.Why += ": " + h.Operator.Reason
		}
	case h.State == "":
		b.State, b.Why = string(metrics.TargetUp), "new"
	case h.State == metrics.TargetDown && h.Check != nil:
		b.Why = fmt.Sprintf("checks say so since %s ago: %s", time.Since(h.Since).Round(100*time.Millisecond), cmp.Or(h.Check.Error, none))
	case f != 0:
		b.State, b.Why = stateFailing, "ranked last: "+f.Word()
		if left := f.Until() - time.Duration(x.Clock); left > 0 {
			b.Why += fmt.Sprintf("; probed in %s", left.Round(100*time.Millisecond))
		}
	case b.Most > 0 && b.Sessions >= b.Most:
		b.State, b.Why = stateFull, fmt.Sprintf("it has its %d sessions", b.Most)
	case h.State == metrics.TargetWarming:
		b.Why = "its share still grows"
	case t.Backup:
		b.Why = "used when no other may be, or all fail"
	}
	return b
}
