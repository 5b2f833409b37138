package config

// maxLoad takes 0 or how many times its share of the sessions a backend may have. More than
// 10 times is no bound that anybody would notice.
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
