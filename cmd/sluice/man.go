package main

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sluice/cmd/internal/config"
)

// filePage is the page on the configuration file.
const filePage = "sluice.toml"

// man prints a page of the manual: sluice(1), of a command, or sluice.toml(5). They are
// made of the tables of commands, flags and keys. With -dir it writes all of them, where
// man looks for them.
func man(e env, args []string) int {
	fs := flag.NewFlagSet("sluice man", flag.ContinueOnError)
	dir := fs.String("dir", "", "write all pages below this `DIR`, in man1 and man5")
	var operands []string
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		operands = []string{"PAGE"}
	}
	if status := parse(e, fs, args, operands...); status >= 0 {
		return status
	}
	if *dir != "" && fs.NArg() == 0 {
		return printed(e, writePages(e, *dir))
	}
	page := fs.Arg(0)
	if rest, is := strings.CutPrefix(page, "sluice-"); is {
		page = rest
	}
	switch {
	case *dir != "":
		fmt.Fprintln(e.stderr, "sluice man: -dir writes all pages; name none")
		return exitUsage
	case page == "", page == "sluice":
		writeMain(e.stdout)
	case page == filePage:
		writeFilePage(e.stdout)
	case slices.Contains(commandNames(), page):
		writeCommand(e.stdout, e, page)
	default:
		fmt.Fprintf(e.stderr, "sluice man: no page %q%s\n", page, config.DidYouMean(page, append(commandNames(), filePage)))
		return exitUsage
	}
	return exitOK
}

// writePages writes every page below dir.
func writePages(e env, dir string) error {
	write := func(name string, page func(io.Writer)) error {
		var text bytes.Buffer
		page(&text)
		path := filepath.Join(dir, "man"+name[len(name)-1:], name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		return os.WriteFile(path, text.Bytes(), 0o644)
	}
	if err := write("sluice.1", writeMain); err != nil {
		return err
	}
	for _, name := range commandNames() {
		if err := write("sluice-"+name+".1", func(w io.Writer) { writeCommand(w, e, name) }); err != nil {
			return err
		}
	}
	return write(filePage+".5", writeFilePage)
}

// writeMain writes sluice(1).
func writeMain(w io.Writer) {
	p := startPage(w, "sluice", 1, "Layer-4 TCP reverse proxy with exact accept balance", "sluice COMMAND [flags]")
	p.section("description")
	p.text("Several acceptors share each listening port. Each has a socket, an event loop and sessions of its own, and relays clients to the backends of a file, " +
		filePage + "(5), by splice(2) or by copying. Which acceptor gets a connection is decided so that their shares are even.")
	p.section("commands")
	for _, c := range commands() {
		p.item("sluice-"+c.name+"(1)", c.help)
	}
	for _, name := range topics {
		p.section(name)
		p.verbatim(topic(name))
	}
	p.section("signals")
	p.item("TERM, INT", "drain, then end; a second one ends sessions at once")
	p.item("HUP", "reload")
	p.item("USR1", "open the access log's file anew")
	p.statuses()
	p.seeAlso(filePage + "(5)")
}

// writeCommand writes the page of a command, with those below it.
func writeCommand(w io.Writer, e env, name string) {
	c := commands()[slices.Index(commandNames(), name)]
	p := startPage(w, "sluice-"+name, 1, c.help, strings.TrimSpace("sluice "+name+" "+twoDashes(c.args)))
	sets := []*flag.FlagSet{}
	if fs, _ := c.flagsOf(e); fs != nil {
		sets = append(sets, fs)
	}
	for _, word := range c.arguments() {
		if fs, _ := c.flagsOf(e, word); fs != nil && fs.Name() == "sluice "+name+" "+word {
			sets = append(sets, fs)
		}
	}
	p.section("description")
	p.text(sentence(c.help) + " One dash before a flag or two are the same.")
	for _, fs := range sets {
		for _, g := range groupsOf(fs) {
			if len(g.Names) == 0 {
				continue
			}
			title := strings.TrimSuffix(g.Title, ":")
			if fs.Name() != "sluice "+name {
				title = strings.TrimPrefix(fs.Name(), "sluice "+name+" ") + ": " + title
			}
			p.section(title)
			for _, flagName := range g.Names {
				left, text := flagLine(fs.Lookup(flagName))
				text, variable := withoutVariable(text)
				if variable != "" {
					text += "; in the environment: " + variable
				}
				p.item(left, text)
			}
		}
	}
	p.statuses()
	p.seeAlso("sluice(1)", filePage+"(5)")
}

// writeFilePage writes sluice.toml(5).
func writeFilePage(w io.Writer) {
	p := startPage(w, filePage, 5, "configuration of sluice", "sluice run -c "+filePage)
	p.section("description")
	p.text("A TOML file. NAME is the name of a listener, a pool or a route. In the text of a value ${VAR} and ${VAR:-default} are taken from the environment. " +
		`"sluice check -c FILE" reports every fault of a file, "sluice config show" every value and where it comes from. "live": a reload puts a change in force at once. ` +
		`"rebind": the listener gets new sockets before the old ones leave. "restart": sluice keeps the old value until it is started again.`)
	p.section("example")
	p.verbatim("[listener.web]\nbind = \":8080\"\npool = \"web\"\n\n[pool.web]\nbackends = [\"10.0.0.1:8080\", \"10.0.0.2:8080 weight=2\", \"10.0.0.3:8080 backup\"]\n")
	table := "-"
	for _, k := range config.Keys() {
		in, key := "", k.Path
		if i := strings.LastIndex(k.Path, "."); i >= 0 {
			in, key = k.Path[:i], k.Path[i+1:]
		}
		if in != table {
			table = in
			p.section(cmp.Or(in, "top level"))
		}
		text := "Must be " + k.Must + ". "
		if k.Default == "" {
			text += "Required"
		} else {
			text += "Default: " + k.Default
		}
		text += ". A reload: " + k.Reload
		if k.Why != "" {
			text += ", " + k.Why
		}
		p.item(key, text+".")
	}
	p.seeAlso("sluice(1)")
}
