package config

import "strings"

// Key is what documentation says of a key.
type Key struct {
	Path    string // with NAME for the name of a listener, pool or route
	Must    string // completes "must be ..."
	Default string // as a file has it; "" = it must be given
	Reload  string // live, rebind or restart
	Why     string // it does no more than that; "" = nothing to say
}

// Keys are all that a file may have, in the order of the table of options.
func Keys() []Key {
	keys := make([]Key, 0, len(options))
	for _, o := range options {
		keys = append(keys, o.documented())
	}
	return keys
}

// KeyAt is the key of a path with NAME for names.
func KeyAt(path string) (k Key, known bool) {
	o, known := optionAt(strings.ReplaceAll(path, "NAME", "*"))
	if !known {
		return k, false
	}
	return o.documented(), true
}

func (o option) documented() Key {
	c, l, p, r := Default(), DefaultListener("NAME"), DefaultPool("NAME"), Route{}
	k := Key{Path: strings.ReplaceAll(o.path, "*", "NAME"), Must: o.kind.must, Reload: string(o.apply.apply), Why: o.apply.why}
	if !required(o.path) {
		k.Default = literal(o.field(scope{&c, &l, &p, &r}))
	}
	return k
}

// required is true of the keys without which there is nothing to do.
func required(path string) bool {
	switch path {
	case "listener.*.bind", "listener.*.pool", "listener.*.route.*.pool":
		return true
	}
	return false
}
