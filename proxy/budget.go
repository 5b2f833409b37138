package proxy

import (
	"time"

	"sluice/metrics"
)

// budget bounds the retries of an acceptor's sessions in a pool by a share of these
// sessions: each brings share, each retry takes 1. It is the token bucket of Finagle's
// RetryBudget (Twitter, 2016), with a bound on what is saved in place of a time to live.
type budget struct {
	share float64
	has   float64
	at    int64 // clock up to which perSecond is counted
}

const (
	// startBudget lets the first sessions of a pool, and those of one that has few, retry.
	startBudget = 10
	// maxBudget is what can be saved: a good hour does not pay for hammering in a bad one.
	maxBudget = 100
	// perSecond comes whether there are sessions or not.
	perSecond = 1
)

// budgetOf makes the budget of a new Plan. What was saved in the one before is kept: its
// loop may still be counting, so nothing in it is looked at.
func budgetOf(share float64, before *budget) *budget {
	switch {
	case share <= 0:
		return nil
	case before != nil && before.share == share:
		return before
	}
	return &budget{share: share, has: startBudget}
}

// budget is that of a pool; nil if there was none.
func (b *Bound) budget(id metrics.ID) *budget {
	if b == nil || b.pools[id] == nil {
		return nil
	}
	return b.pools[id].budget
}

// earn is called once for each session.
func (b *budget) earn() { b.has = min(b.has+b.share, maxBudget) }

// pays takes one retry out, if it can.
func (b *budget) pays(now int64) bool {
	b.has = min(b.has+perSecond*time.Duration(now-b.at).Seconds(), max(b.has, startBudget))
	b.at = now
	if b.has < 1 {
		return false
	}
	b.has--
	return true
}
