package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"sluice/cmd/internal/admin"
)

// found are the flags of run that say where a sluice is. Commands whose own flags would look
// like the others of run take these only.
var found = []string{"c", "admin-socket", "instance"}

// sessions shows what sessions a running sluice has.
func sessions(e env, args []string) int {
	a := newAsking("sluice sessions", 10*time.Second, found...)
	q := bindQuery(a.FlagSet)
	var o admin.SessionOrder
	a.StringVar(&o.Sort, "sort", admin.Sorts[0], "`WORD` "+orOf(admin.Sorts)+": which come first")
	a.IntVar(&o.Limit, "limit", admin.DefaultSessions, fmt.Sprintf("`NUMBER` that is shown at most, up to %d", admin.MaxSessions))
	raw := a.Bool("json", false, "print the answer as JSON, with seconds and bytes as numbers")
	if status := parseQuery(e, a, q, args); status >= 0 {
		return status
	}
	if err := orErr(o.Check(), q.Check()); err != nil {
		fmt.Fprintln(e.stderr, "sluice sessions:", err)
		return exitUsage
	}
	return a.ask(e, func(ctx context.Context, c *admin.Client) error {
		list, text, err := c.Sessions(ctx, *q, o)
		if err != nil {
			return err
		}
		if *raw {
			_, err := e.stdout.Write(text)
			return err
		}
		return printSessions(e.stdout, list)
	})
}

// killCommand ends sessions of a running sluice: one by its id, or all that the flags mean.
func killCommand(e env, args []string) int {
	a := newAsking("sluice kill", 10*time.Second, found...)
	q := bindQuery(a.FlagSet)
	o := admin.KillOrder{}
	a.IntVar(&o.Max, "max", 0, "`NUMBER` that you reckon with: if more are meant, none is ended; without it you are told how many")
	a.IntVar(&o.PerSecond, "per-second", 0, "`NUMBER` that ends each second, in the background; 0 = all at once")
	a.StringVar(&o.Reason, "reason", "", "`TEXT` for the log")
	if status := parseQuery(e, a, q, args); status >= 0 {
		return status
	}
	if o.SessionQuery = *q; o.ID != "" && o.Max == 0 {
		o.Max = 1
	}
	if err := o.Check(); err != nil {
		fmt.Fprintln(e.stderr, "sluice kill:", err)
		return exitUsage
	}
	return a.verdict(e, printAnswer, func(ctx context.Context, c *admin.Client) (admin.Verdict, error) { return c.Kill(ctx, o) })
}

// bindQuery declares the flags that say which sessions are meant.
func bindQuery(fs *flag.FlagSet) *admin.SessionQuery {
	q := &admin.SessionQuery{}
	fs.Func("from", "`CLIENTS`: addresses or prefixes, with commas between them; may be repeated", func(text string) error {
		p, err := admin.ParsePrefixes(text)
		q.From = append(q.From, p...)
		return err
	})
	fs.StringVar(&q.To, "to", "", "`BACKEND` as configured, or an address of it")
	fs.StringVar(&q.Pool, "pool", "", "`POOL` of the backend that they have")
	fs.StringVar(&q.Listener, "listener", "", "`LISTENER` that took them")
	fs.StringVar(&q.State, "state", "", "`WORD` "+orOf(admin.States))
	fs.DurationVar(&q.MinAge, "older", 0, "than this `DURATION`")
	fs.DurationVar(&q.MaxAge, "younger", 0, "than this `DURATION`")
	fs.DurationVar(&q.MinIdle, "idle", 0, "for this `DURATION` or longer")
	fs.Uint64Var(&q.MinBytes, "min-bytes", 0, "`NUMBER` of bytes in both directions, or more")
	fs.Uint64Var(&q.MaxBytes, "max-bytes", 0, "`NUMBER` of bytes in both directions, or fewer; 0 = no bound")
	return q
}

// parseQuery reads the flags and, before them, an ID.
func parseQuery(e env, a *asking, q *admin.SessionQuery, args []string) int {
	var operands []string
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		args, operands = append(args[1:len(args):len(args)], args[0]), []string{"ID"}
	}
	if status := parse(e, a.FlagSet, args, operands...); status >= 0 {
		return status
	}
	q.ID = a.Arg(0)
	return -1
}

func orOf(words []string) string {
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

func orErr(all ...error) error {
	for _, err := range all {
		if err != nil {
			return err
		}
	}
	return nil
}

// printSessions writes a line for each, and how many there are.
func printSessions(w io.Writer, list admin.SessionList) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(list.Sessions) > 0 {
		fmt.Fprintln(t, "ID\tCLIENT\tLISTENER\tPOOL\tBACKEND\tSTATE\tAGE\tIDLE\tIN\tOUT")
	}
	for _, s := range list.Sessions {
		backend := s.Backend
		if s.Address != "" && s.Address != s.Backend {
			backend += " (" + s.Address + ")"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\n", s.ID, dashIfNone(s.Client), s.Listener, s.Pool, dashIfNone(backend), s.State,
			lasting(s.AgeSeconds), lasting(s.IdleSeconds), s.Received, s.Sent)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "%d shown, %d match, %d open\n", len(list.Sessions), list.Matched, list.Open)
	for _, acceptor := range list.Silent {
		fmt.Fprintf(w, "acceptor %d gave no whole answer in time: of its sessions not all are here\n", acceptor)
	}
	return nil
}

func dashIfNone(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// lasting is a time with as much of it as people read.
func lasting(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	if d < time.Minute {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
