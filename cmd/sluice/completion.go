package main

import (
	"flag"
	"fmt"
	"slices"
	"strings"

	"sluice/cmd/internal/config"
)

// The scripts of completion know nothing of sluice. They ask it, with the words typed so
// far, and offer what it answers; where that is nothing, the names of files.
var completions = map[string]string{
	"bash": `_sluice() {
	local IFS=$'\n'
	COMPREPLY=($(compgen -W "$(sluice complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _sluice sluice
`,
	"zsh": `#compdef sluice
_sluice() {
	local -a all
	all=(${(f)"$(sluice complete "${(@)words[2,CURRENT]}" 2>/dev/null)"})
	compadd -a all || _files
}
compdef _sluice sluice
`,
	"fish": `complete -c sluice -a '(sluice complete (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'
`,
}

// completion prints the script for a shell.
func completion(e env, args []string) int {
	fs := flag.NewFlagSet("sluice completion", flag.ContinueOnError)
	if status := parse(e, fs, args, "bash | zsh | fish"); status >= 0 {
		return status
	}
	script, known := completions[fs.Arg(0)]
	if !known {
		fmt.Fprintf(e.stderr, "sluice completion: unknown shell %q, there are bash, zsh and fish\n", fs.Arg(0))
		return exitUsage
	}
	fmt.Fprint(e.stdout, script)
	return exitOK
}

// offer prints what the last word may become, one a line: a command, an argument or a
// flag of one, a value of a flag.
func offer(e env, words []string) int {
	if len(words) == 0 {
		words = []string{""}
	}
	before, last := words[:len(words)-1], words[len(words)-1]
	var all []string
	if len(before) == 0 {
		all = append(commandNames(), "help")
	} else if before[0] == "help" && len(before) == 1 {
		all = append(commandNames(), topics...)
	} else if before[0] == "man" && len(before) == 1 && !strings.HasPrefix(last, "-") {
		all = append(commandNames(), filePage)
	} else if i := slices.Index(commandNames(), before[0]); i >= 0 {
		all = commands()[i].candidates(e, before[1:], last)
	}
	for _, word := range all {
		if strings.HasPrefix(word, last) {
			fmt.Fprintln(e.stdout, word)
		}
	}
	return exitOK
}

// candidates are the words that may follow.
func (c command) candidates(e env, before []string, last string) []string {
	if n := len(before); n > 0 && strings.HasPrefix(before[n-1], "-") {
		if words := config.FlagWords(strings.TrimLeft(before[n-1], "-")); words != nil {
			return words
		}
	}
	if !strings.HasPrefix(last, "-") {
		if len(before) > 0 {
			return nil
		}
		return c.arguments()
	}
	var below []string
	if len(before) > 0 && slices.Contains(c.arguments(), before[0]) {
		below = before[:1]
	}
	fs, _ := c.flagsOf(e, below...)
	var flags []string
	fs.VisitAll(func(f *flag.Flag) { flags = append(flags, dashed(f.Name)) })
	return flags
}

// arguments are the words of which the command takes one, by its line in the table.
func (c command) arguments() []string {
	var words []string
	for part := range strings.SplitSeq(c.args, "|") {
		word, _, _ := strings.Cut(strings.TrimSpace(part), " ")
		if word != "" && word == strings.ToLower(word) && !strings.ContainsAny(word, "-[]") {
			words = append(words, word)
		}
	}
	return words
}
