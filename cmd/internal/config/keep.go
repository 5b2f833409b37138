package config

import "reflect"

// Keep returns wanted, but for what a reload does not apply: there it is as in inForce.
func Keep(inForce, wanted Config) Config {
	from, to := scope{c: &inForce}, scope{c: &wanted}
	for _, o := range options {
		if o.apply.apply == Restart {
			reflect.ValueOf(o.field(to)).Elem().Set(reflect.ValueOf(o.field(from)).Elem())
		}
	}
	return wanted
}
