package moving

import (
	"cmp"
	"slices"
)

// Load is how many sessions a target has, and how many it should have.
type Load struct {
	Index    uint32 // metrics.ID.Index
	Backend  string
	Address  string
	Sessions int64
	Weight   int64 // in force; 0 = no new sessions come
	Gives    bool  // its sessions may go elsewhere; those of one that is down stay as they are
	Backup   bool
}

// Excess is a target that has too many.
type Excess struct {
	Load
	Fair int64 // by weight, rounded up
	Over int64 // Sessions - Fair
}

// Spread compares loads with what weights say, and returns which targets have too many, the
// largest excess first. Backups should have none while there are others. Sessions of targets
// that do not give are not counted. With nowhere to go none has too many.
func Spread(loads []Load) (over []Excess) {
	backups := !slices.ContainsFunc(loads, func(l Load) bool { return l.Weight > 0 && !l.Backup })
	takes := func(l Load) bool { return l.Weight > 0 && (backups || !l.Backup) }
	var sessions, weight int64
	for _, l := range loads {
		if l.Gives {
			sessions += l.Sessions
		}
		if takes(l) {
			weight += l.Weight
		}
	}
	if weight == 0 {
		return nil
	}
	for _, l := range loads {
		fair := int64(0)
		if takes(l) {
			fair = share(sessions, float64(l.Weight)/float64(weight))
		}
		if l.Gives && l.Sessions > fair {
			over = append(over, Excess{l, fair, l.Sessions - fair})
		}
	}
	slices.SortFunc(over, func(a, b Excess) int { return cmp.Or(cmp.Compare(b.Over, a.Over), cmp.Compare(a.Index, b.Index)) })
	return over
}

// Total is how many sessions are too many, all together.
func Total(over []Excess) (n int64) {
	for _, e := range over {
		n += e.Over
	}
	return n
}

// Budget is how many sessions a round may end at most.
func Budget(loads []Load, most float64) int64 {
	var sessions int64
	for _, l := range loads {
		sessions += l.Sessions
	}
	return share(sessions, most)
}
