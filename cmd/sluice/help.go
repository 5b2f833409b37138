package main

import (
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"sluice/cmd/internal/config"
)

// helpWidth is how wide help is: it fits a terminal of 80x24 where it can.
const helpWidth = 80

// mostUsed are the flags of run that -h shows; "sluice help run" shows all.
var mostUsed = []string{
	"c", "listen", "backend", "pick", "idle-timeout", "acceptors", "mode", "steering", "admin", "log-level", "access-log", "drain-timeout",
}

// first and last are the flags of a command's own that help shows at the ends, the most
// used first; the others stand between by name.
var (
	first = []string{"dry-run", "max", "from", "to", "pool", "listener", "idle", "older", "state", "sort", "limit"}
	last  = []string{"socket", "timeout"}
)

// printHelp writes what -h tells: the flags that are used most, on one screen.
func printHelp(w io.Writer, fs *flag.FlagSet, operands []string) {
	usageLine(w, fs, operands)
	shown := mostUsed
	if fs.Lookup("socket") != nil { // it asks a running sluice, and needs no more than where that is
		shown = []string{"c"}
	}
	var left []string
	groups := groupsOf(fs)
	for i, g := range groups {
		if g.Title != ownTitle {
			groups[i].Names = slices.DeleteFunc(slices.Clone(g.Names), func(name string) bool {
				if slices.Contains(shown, name) {
					return false
				}
				left = append(left, name)
				return true
			})
		}
	}
	printGroups(w, fs, groups, func(text string, width int) string {
		text, _ = withoutVariable(text)
		if short, _, cut := strings.Cut(text, "; "); cut && len(text) > width {
			return short
		}
		return text
	})
	if len(left) > 0 {
		fmt.Fprintf(w, "\n%s shows %d more flags, and variables for them.\n", strings.Replace(fs.Name(), "sluice", "sluice help", 1), len(left))
	}
}

// printAllHelp writes every flag with all that there is to say of it.
func printAllHelp(w io.Writer, fs *flag.FlagSet, operands []string) {
	usageLine(w, fs, operands)
	printGroups(w, fs, groupsOf(fs), func(text string, _ int) string { return text })
}

func usageLine(w io.Writer, fs *flag.FlagSet, operands []string) {
	line := []string{"Usage:", fs.Name()}
	fs.VisitAll(func(*flag.Flag) { line = append(line[:2], "[flags]") })
	fmt.Fprintln(w, strings.Join(append(line, operands...), " "))
}

const ownTitle = "Flags:"

// groupsOf are the flags of fs: its own, then those of the table.
func groupsOf(fs *flag.FlagSet) []config.FlagGroup {
	own := config.FlagGroup{Title: ownTitle}
	groups := config.FlagGroups()
	fs.VisitAll(func(f *flag.Flag) {
		if !slices.ContainsFunc(groups, func(g config.FlagGroup) bool { return slices.Contains(g.Names, f.Name) }) {
			own.Names = append(own.Names, f.Name)
		}
	})
	slices.SortStableFunc(own.Names, func(a, b string) int { return place(a) - place(b) })
	groups = append([]config.FlagGroup{own}, groups...)
	for i, g := range groups {
		groups[i].Names = slices.DeleteFunc(slices.Clone(g.Names), func(name string) bool { return fs.Lookup(name) == nil })
	}
	return groups
}

// place is where a flag stands among a command's own.
func place(name string) int {
	if i := slices.Index(first, name); i >= 0 {
		return i
	}
	return len(first) + 1 + slices.Index(last, name)
}

// printGroups writes a line or more for each flag, in groups; say is what is written
// about one, of which width letters fit a line.
func printGroups(w io.Writer, fs *flag.FlagSet, groups []config.FlagGroup, say func(text string, width int) string) {
	width := 0
	for _, g := range groups {
		for _, name := range g.Names {
			left, _ := flagLine(fs.Lookup(name))
			width = max(width, len(left))
		}
	}
	for _, g := range groups {
		if len(g.Names) > 0 {
			fmt.Fprintln(w, g.Title)
		}
		for _, name := range g.Names {
			left, text := flagLine(fs.Lookup(name))
			for _, line := range wrap(say(text, helpWidth-width-4), helpWidth-width-4) {
				fmt.Fprintf(w, "  %-*s  %s\n", width, left, line)
				left = ""
			}
		}
	}
}

// flagLine is a flag with its value, and what is said of it.
func flagLine(f *flag.Flag) (left, text string) {
	value, text := flag.UnquoteUsage(f)
	return strings.TrimSpace(dashed(f.Name) + " " + value), strings.TrimPrefix(text, "WORD ")
}

// withoutVariable takes the variable off what is said of a flag.
func withoutVariable(text string) (rest, variable string) {
	if i := strings.LastIndex(text, " [SLUICE_"); i >= 0 {
		return text[:i], strings.Trim(text[i:], " []")
	}
	return text, ""
}

// wrap breaks a text into lines between words.
func wrap(text string, width int) (lines []string) {
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		line = strings.TrimSpace(line + " " + word)
	}
	return append(lines, line)
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
