package main

import (
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"sluice/cmd/internal/config"
)

// printHelp writes what a command takes, a line each: its own flags, then those of the
// table in groups.
func printHelp(w io.Writer, fs *flag.FlagSet, operands []string) {
	line := []string{"Usage:", fs.Name()}
	fs.VisitAll(func(*flag.Flag) { line = append(line[:2], "[flags]") })
	fmt.Fprintln(w, strings.Join(append(line, operands...), " "))
	groups := config.FlagGroups()
	own := config.FlagGroup{Title: "Flags:"}
	fs.VisitAll(func(f *flag.Flag) {
		if !slices.ContainsFunc(groups, func(g config.FlagGroup) bool { return slices.Contains(g.Names, f.Name) }) {
			own.Names = append(own.Names, f.Name)
		}
	})
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, g := range append([]config.FlagGroup{own}, groups...) {
		printFlags(t, fs, g)
	}
	t.Flush()
}

// printFlags writes the flags of a group that fs has.
func printFlags(w io.Writer, fs *flag.FlagSet, g config.FlagGroup) {
	titled := false
	for _, name := range g.Names {
		f := fs.Lookup(name)
		if f == nil {
			continue
		}
		if !titled {
			fmt.Fprintf(w, "\n%s\n", g.Title)
			titled = true
		}
		value, help := flag.UnquoteUsage(f)
		help = strings.TrimPrefix(help, "WORD ")
		fmt.Fprintf(w, "  %s\t%s\n", strings.TrimSpace(dashed(name)+" "+value), help)
	}
}

// dashed is a flag as people write it: -c, --listen. One dash or two are the same.
func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// flagMeant completes a message on a flag that there is not.
func flagMeant(err error, fs *flag.FlagSet) string {
	name, unknown := strings.CutPrefix(err.Error(), "flag provided but not defined: -")
	if !unknown {
		return ""
	}
	var all []string
	fs.VisitAll(func(f *flag.Flag) { all = append(all, f.Name) })
	return config.DidYouMean(strings.TrimLeft(name, "-"), all)
}
