package main

import (
	"flag"
	"fmt"
	"runtime"
	"runtime/debug"
)

func version(e env, args []string) int {
	if status := parse(e, flag.NewFlagSet("sluice version", flag.ContinueOnError), args); status >= 0 {
		return status
	}
	fmt.Fprintf(e.stdout, "sluice %s %s %s/%s\n", versionText(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return exitOK
}

// versionText is the module's version as the build recorded it, with the commit
// where there is no tag.
func versionText() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	if v == "" {
		v = "(devel)"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && v == "(devel)" {
			v = s.Value[:min(12, len(s.Value))]
		}
	}
	return v
}
