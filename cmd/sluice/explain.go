package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"sluice/cmd/internal/admin"
)

// explain tells where a client would go now, and why; with a file, what that would change.
func explain(e env, args []string) int {
	a := newAsking("sluice explain", 15*time.Second, found...)
	var q admin.ExplainQuery
	a.StringVar(&q.Listener, "listener", "", "`LISTENER` that it would come to; without it all are told")
	a.StringVar(&q.SNI, "sni", "", "`NAME` that its TLS asks for, where routes go by it")
	a.Func("alpn", "`PROTOCOL` that it offers; may be repeated", func(text string) error { q.ALPN = append(q.ALPN, text); return nil })
	a.StringVar(&q.Config, "config", "", "`FILE` with another configuration: tell what it would change")
	raw := a.Bool("json", false, "print the answer as JSON")
	if status := parse(e, a.FlagSet, operandLast(args), "CLIENT"); status >= 0 {
		return status
	}
	var err error
	if q.Client, err = admin.ParseClient(a.Arg(0)); err == nil && q.Config != "" {
		q.Config, err = filepath.Abs(q.Config)
	}
	if err != nil {
		fmt.Fprintln(e.stderr, "sluice explain:", err)
		return exitUsage
	}
	return a.ask(e, func(ctx context.Context, c *admin.Client) error {
		x, text, err := c.Explain(ctx, q)
		if err != nil {
			return err
		}
		if *raw {
			_, err := e.stdout.Write(text)
			return err
		}
		return printExplanation(e.stdout, x)
	})
}

// operandLast puts an operand that comes first behind the flags.
func operandLast(args []string) []string {
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		return append(args[1:len(args):len(args)], args[0])
	}
	return args
}

// shownBackends is how many backends a person is shown; -json has them all.
const shownBackends = 20

func printExplanation(w io.Writer, x admin.Explanation) error {
	for i, e := range x.Now {
		if i > 0 {
			fmt.Fprintln(w)
		}
		if err := printEntrance(w, x.Client, e); err != nil {
			return err
		}
	}
	if x.More > 0 {
		fmt.Fprintf(w, "\n%d more listeners: -listener NAME shows one\n", x.More)
	}
	if x.Config == nil {
		return nil
	}
	heading := "With " + x.Config.Path + " in force"
	if len(x.Config.Changes) == 0 {
		wrapped(w, "", heading+" nothing changes for this client.")
		return nil
	}
	fmt.Fprintln(w)
	wrapped(w, "", heading+" this changes:")
	for _, change := range x.Config.Changes {
		wrapped(w, "  ", change)
	}
	changed := slices.DeleteFunc(slices.Clone(x.Config.Then), func(e admin.Entrance) bool {
		return !slices.ContainsFunc(x.Config.Changes, func(c string) bool { return strings.HasPrefix(c, e.Listener+":") })
	})
	for _, e := range changed {
		fmt.Fprintln(w)
		if err := printEntrance(w, "Then "+x.Client, e); err != nil {
			return err
		}
	}
	return nil
}

// printEntrance tells of one listener, from what decides first to what decides last. Where the
// client is refused the rest does not matter.
func printEntrance(w io.Writer, client string, e admin.Entrance) error {
	wrapped(w, "", fmt.Sprintf("%s at listener %s (%s) %s.", client, e.Listener, e.Address, e.Text))
	row := func(name, text string) { wrapped(w, fmt.Sprintf("  %-10s ", name), text) }
	switch {
	case e.Access == "":
		row("access", "everybody may connect")
	case e.Prefix == "" && e.Admitted:
		row("access", "admitted: no prefix of deny contains it")
	case e.Prefix == "":
		row("access", "denied: no prefix of allow contains it")
	case e.Admitted:
		row("access", "admitted by "+e.Prefix+", the longest prefix that contains it")
	default:
		row("access", "denied by "+e.Prefix+", the longest prefix that contains it")
	}
	for _, l := range e.Limits {
		row("limit", fmt.Sprintf("%s: %d of %d", l.Name, l.Has, l.Most))
	}
	row("steering", e.Steering.Policy+": "+e.Steering.Text)
	if e.Route != "" {
		row("route", e.Route)
	}
	row("pool", e.Pool+", pick "+e.Pick)
	if len(e.Tries) > 1 && e.Outcome == admin.OutcomeBackend {
		row("tries next", strings.Join(e.Tries[1:], ", "))
	}
	for _, note := range e.Notes {
		row("note", note)
	}
	if e.Outcome == admin.OutcomeRefused {
		return nil
	}
	if err := printAcceptors(w, e); err != nil {
		return err
	}
	return printCandidates(w, e)
}

// printAcceptors shows them where they differ in what they would do.
func printAcceptors(w io.Writer, e admin.Entrance) error {
	if len(e.Steering.Acceptors) < 2 {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t)
	fmt.Fprint(t, "  ACCEPTOR\tSTATE\tHOLDS")
	own := slices.ContainsFunc(e.Steering.Acceptors, func(a admin.ExplainedAcceptor) bool { return len(a.Tries) > 0 })
	if own {
		fmt.Fprint(t, "\tWOULD GIVE NEXT")
	}
	fmt.Fprintln(t)
	for _, a := range e.Steering.Acceptors {
		fmt.Fprintf(t, "  %d\t%s\t%d", a.Number, a.State, a.Load)
		if own {
			next := "-"
			if len(a.Tries) > 0 {
				next = clipped(a.Tries[0], 40)
			}
			fmt.Fprintf(t, "\t%s", next)
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}

// printCandidates shows the pool's backends; what is unusual about one has a line of its own.
func printCandidates(w io.Writer, e admin.Entrance) error {
	if len(e.Backends) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t)
	fmt.Fprintln(t, "  TRY\tBACKEND\tSTATE\tWEIGHT\tSESSIONS")
	shown := e.Backends[:min(len(e.Backends), shownBackends)]
	for _, b := range shown {
		try := ""
		if i := slices.Index(e.Tries, b.Address); i >= 0 {
			try = fmt.Sprint(i + 1)
		}
		name := b.Address
		if b.Backend != b.Address {
			name = b.Backend + " " + b.Address
		}
		sessions := fmt.Sprint(b.Sessions)
		if b.Most > 0 {
			sessions += fmt.Sprintf(" of %d", b.Most)
		}
		state := b.State
		if b.Backup {
			state += ", backup"
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\t%.4g\t%s\n", try, clipped(name, 30), state, b.Weight, sessions)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if more := len(e.Backends) - len(shown) + e.More; more > 0 {
		fmt.Fprintf(w, "  and %d more; -json has %d\n", more, len(e.Backends))
	}
	for _, b := range shown {
		if b.Why != "" {
			wrapped(w, "  ", b.Address+": "+b.Why)
		}
	}
	return nil
}

// clipped is a text with at most n letters, the middle left out where it has more.
func clipped(text string, n int) string {
	r := []rune(text)
	if len(r) <= n {
		return text
	}
	half := (n - 2) / 2
	return string(r[:half]) + ".." + string(r[len(r)-half:])
}

// lineWidth is what a terminal has at least.
const lineWidth = 80

// wrapped writes a text behind a head, in lines that fit; a word that is longer than a line
// stays whole.
func wrapped(w io.Writer, head, text string) {
	indent := strings.Repeat(" ", len(head))
	if head == "" {
		indent = "  "
	}
	line := head
	for i, word := range strings.Fields(text) {
		if i > 0 && len(line)+1+len(word) > lineWidth {
			fmt.Fprintln(w, line)
			line = indent + word
			continue
		}
		if i > 0 {
			line += " "
		}
		line += word
	}
	fmt.Fprintln(w, line)
}
