package main

import (
	"fmt"
	"io"
	"regexp"
	"strings"
)

// page writes a page of the manual in the man macros of roff. Errors of the writer
// are left to it: it is memory, or stdout.
type page struct{ w io.Writer }

// startPage writes the head of a page.
func startPage(w io.Writer, name string, section int, what, synopsis string) page {
	p := page{w}
	fmt.Fprintf(w, ".TH %s %d \"\" \"sluice %s\" \"sluice\"\n", quoteRoff(strings.ToUpper(name)), section, roff(versionText()))
	p.section("name")
	fmt.Fprintf(w, "%s \\- %s\n", roff(name), roff(what))
	p.section("synopsis")
	fmt.Fprintf(w, ".B %s\n", roff(synopsis))
	return p
}

func (p page) section(title string) {
	if !strings.Contains(title, "NAME") { // the path of a table is written as it is
		title = strings.ToUpper(title)
	}
	fmt.Fprintf(p.w, ".SH %s\n", quoteRoff(title))
}

func (p page) text(text string) { fmt.Fprintf(p.w, "%s\n", roff(text)) }

// item writes a word and what it means.
func (p page) item(word, text string) { fmt.Fprintf(p.w, ".TP\n.B %s\n%s\n", roff(word), roff(text)) }

// verbatim writes lines as they are.
func (p page) verbatim(text string) {
	fmt.Fprint(p.w, ".nf\n")
	for line := range strings.Lines(text) {
		fmt.Fprintln(p.w, roff(strings.TrimSuffix(line, "\n")))
	}
	fmt.Fprint(p.w, ".fi\n")
}

// statuses writes the section on exit statuses.
func (p page) statuses() {
	p.section("exit status")
	p.item("0", "Done as asked; no session was cut.")
	p.item("1", "A faulty configuration, a failed start, a refusal, or sessions that had to be cut at the end.")
	p.item("2", "The command line itself is wrong.")
}

func (p page) seeAlso(pages ...string) {
	p.section("see also")
	p.text(strings.Join(pages, ", "))
}

// roff escapes a line: no character of it is a request or an escape, and a dash stays one.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "…", "...", "─", `\-`, "►", ">").Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}

// quoteRoff makes one argument of a request of a text.
func quoteRoff(text string) string {
	return `"` + strings.ReplaceAll(roff(text), `"`, `""`) + `"`
}

var oneDash = regexp.MustCompile(`(^|[\s\[])-([a-z][a-z-]+)`)

// twoDashes writes the flags in a line of the table of commands as help does.
func twoDashes(args string) string { return oneDash.ReplaceAllString(args, "$1--$2") }

// sentence begins with a capital letter and ends with a dot.
func sentence(text string) string {
	return strings.ToUpper(text[:1]) + strings.TrimSuffix(text[1:], ".") + "."
}
