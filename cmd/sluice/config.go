package main

import (
	"flag"
	"fmt"

	"sluice/cmd/internal/config"
)

// configCommand tells of the configuration itself: what would be in force, and what a
// file may say.
func configCommand(e env, args []string) int {
	if len(args) > 0 {
		switch args[0] {
		case "show":
			return configShow(e, args[1:])
		case "schema":
			return configSchema(e, args[1:])
		}
	}
	fs := flag.NewFlagSet("sluice config", flag.ContinueOnError)
	if status := parse(e, fs, args, "show | schema"); status >= 0 {
		return status
	}
	fmt.Fprintf(e.stderr, "sluice config: unknown %q%s\n", fs.Arg(0), config.DidYouMean(fs.Arg(0), []string{"show", "schema"}))
	return exitUsage
}

// configShow takes the flags of run, and prints every value with its origin.
func configShow(e env, args []string) int {
	fs := flag.NewFlagSet("sluice config show", flag.ContinueOnError)
	var f config.Flags
	f.Bind(fs)
	if status := parse(e, fs, args); status >= 0 {
		return status
	}
	return printed(e, config.NewSource(f, e.vars).Show(e.stdout))
}

func configSchema(e env, args []string) int {
	if status := parse(e, flag.NewFlagSet("sluice config schema", flag.ContinueOnError), args); status >= 0 {
		return status
	}
	return printed(e, config.WriteSchema(e.stdout))
}

// printed is the exit status of what was printed, or has a fault.
func printed(e env, err error) int {
	if err != nil {
		fmt.Fprintln(e.stderr, err)
		return exitFault
	}
	return exitOK
}
