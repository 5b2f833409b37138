package main

import (
	"embed"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"sluice/cmd/internal/config"
)

// The long help: a file for each topic. A line that is @ and the path of a key becomes
// that key with its default and what a reload does with it.
//
//go:embed topics/*.txt
var topicFiles embed.FS

// topics are what help has a long text on, in the order in which help names them.
var topics = []string{"steering", "balance", "reload", "health", "containers"}

// help shows the commands, a topic, or all that a command takes. A word may be both.
func help(e env, args []string) int {
	if len(args) == 0 {
		usage(e.stdout)
		return exitOK
	}
	i := slices.Index(commandNames(), args[0])
	if slices.Contains(topics, args[0]) {
		fmt.Fprint(e.stdout, topic(args[0]))
		if i < 0 {
			return exitOK
		}
		fmt.Fprintln(e.stdout)
	}
	if i >= 0 {
		e.help = printAllHelp
		return commands()[i].run(e, append(slices.Clone(args[1:]), "-h"))
	}
	if strings.HasPrefix(args[0], "-") || args[0] == "help" { // help -h
		usage(e.stdout)
		return exitOK
	}
	fmt.Fprintf(e.stderr, "sluice help: no help on %q%s\n\nThere is some on each command, and on %s.\n",
		args[0], config.DidYouMean(args[0], append(commandNames(), topics...)), strings.Join(topics, ", "))
	return exitUsage
}

// topic is the long text on a topic.
func topic(name string) string {
	raw, err := topicFiles.ReadFile("topics/" + name + ".txt")
	if err != nil {
		panic(err) // the table and the files are of one build
	}
	var text strings.Builder
	for line := range strings.Lines(string(raw)) {
		if path, is := strings.CutPrefix(strings.TrimSpace(line), "@"); is {
			if k, known := config.KeyAt(path); known {
				line = fmt.Sprintf("    %-36s %-16s %s\n", k.Path, k.Default, k.Reload)
			}
		}
		text.WriteString(line)
	}
	return text.String()
}

// flagsOf are the flags of a command, and what it takes besides; words are those of a
// command below it, as in "config show".
func (c command) flagsOf(e env, words ...string) (fs *flag.FlagSet, operands []string) {
	e.stdout, e.stderr = io.Discard, io.Discard
	e.help = func(_ io.Writer, f *flag.FlagSet, o []string) { fs, operands = f, o }
	c.run(e, append(slices.Clone(words), "-h"))
	return fs, operands
}
