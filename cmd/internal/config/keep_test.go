package config

import "testing"

// What a reload keeps is what Diff says needs a restart, and nothing else.
func TestKeep(t *testing.T) {
	old, new := parsed(t, "testdata/diff/old.toml"), parsed(t, "testdata/diff/new.toml")
	kept := Keep(old, new)
	for _, c := range Diff(old, kept) {
		if c.Apply == Restart {
			t.Errorf("in force: %v", c)
		}
	}
	restart := 0
	for _, c := range Diff(kept, new) {
		if c.Apply != Restart {
			t.Errorf("not in force: %v", c)
		}
		restart++
	}
	all := 0
	for _, o := range options {
		if o.apply.apply == Restart {
			all++
		}
	}
	if restart != all {
		t.Errorf("%d options are kept, %d need a restart", restart, all)
	}
	if again := Diff(new, parsed(t, "testdata/diff/new.toml")); len(again) > 0 {
		t.Errorf("Keep has changed what was wanted: %v", again)
	}
}
