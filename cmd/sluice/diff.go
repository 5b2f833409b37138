package main

import (
	"flag"
	"fmt"

	"sluice/cmd/internal/config"
)

// diff prints what a reload from one file to another would change and how: a line for
// each change, or one that says there is none. Each file is read as run and check read
// it, with what the environment says. That something differs is no failure.
func diff(e env, args []string) int {
	fs := flag.NewFlagSet("sluice diff", flag.ContinueOnError)
	if status := parse(e, fs, args, "OLD", "NEW"); status >= 0 {
		return status
	}
	var sides [2]config.Config
	status := exitOK
	for i, path := range fs.Args() {
		var err error
		if sides[i], _, err = config.Load(path, e.vars); err != nil {
			fmt.Fprintln(e.stderr, err)
			status = exitFault
		}
	}
	if status != exitOK {
		return status
	}
	changes := config.Diff(sides[0], sides[1])
	if len(changes) == 0 {
		fmt.Fprintln(e.stdout, "no change")
	}
	for _, c := range changes {
		fmt.Fprintln(e.stdout, c)
	}
	return exitOK
}
