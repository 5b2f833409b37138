package config

import "slices"

// maxLoad takes 0 or how many times its share of the sessions a backend may have. More than
// 10 times is no bound that would show.
var maxLoad = kind{
	must: "0, or a number from 1 to 10",
	json: map[string]any{"anyOf": []any{map[string]any{"const": 0}, map[string]any{"type": "number", "minimum": 1, "maximum": 10}}},
	parse: func(raw any) (any, bool) {
		x, ok := number(raw)
		return x, ok && (x == 0 || 1 <= x && x <= 10)
	},
}

// checkPick reports what the pool's way to pick leaves no use for.
func (b *builder) checkPick(p Pool) {
	if at, given := b.origin[pathOf("pool", p.Name)+".max_load"]; given && p.MaxLoad > 0 && p.Pick != PickSourceHash {
		b.fault(at, `needs pick = "source_hash": %s spreads sessions by itself`, p.Pick)
	}
}

// MaxSessionsOf is how many sessions each address of a backend of the pool may have.
func (p Pool) MaxSessionsOf(b Backend) int {
	if b.MaxSessions > 0 {
		return b.MaxSessions
	}
	return p.MaxSessions
}

// checkQueue reports a queue that no session can ever wait in.
func (b *builder) checkQueue(p Pool) {
	table := pathOf("pool", p.Name)
	limited := slices.ContainsFunc(p.Backends, func(be Backend) bool { return p.MaxSessionsOf(be) > 0 })
	if at, given := b.origin[table+".queue"]; given && p.Queue > 0 && !limited {
		b.fault(at, `needs max_sessions, of the pool or of a backend: without it none is ever full`)
	}
	if at, given := b.origin[table+".queue_timeout"]; given && p.Queue == 0 && p.QueueTimeout != DefaultPool("").QueueTimeout {
		b.fault(at, `needs queue, such as queue = 100: without it no session waits`)
	}
}
