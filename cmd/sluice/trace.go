package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"sluice/cmd/internal/admin"
)

// trace tells what happened to a session, or to the last ones of a client.
func trace(e env, args []string) int {
	a := newAsking("sluice trace", 10*time.Second, found...)
	limit := a.Int("limit", admin.DefaultTraced, fmt.Sprintf("`NUMBER` of a client's sessions that are told at most, the newest, up to %d", admin.MaxTraced))
	raw := a.Bool("json", false, "print the answer as JSON")
	if status := parse(e, a.FlagSet, operandLast(args), "ID | CLIENT"); status >= 0 {
		return status
	}
	q := admin.ParseTraced(a.Arg(0))
	q.Limit = *limit
	if err := q.Check(); err != nil {
		fmt.Fprintln(e.stderr, "sluice trace:", err)
		return exitUsage
	}
	return a.ask(e, func(ctx context.Context, c *admin.Client) error {
		t, text, err := c.Trace(ctx, q)
		if err != nil {
			return err
		}
		if *raw {
			_, err := e.stdout.Write(text)
			return err
		}
		return printTrace(e.stdout, t)
	})
}

func printTrace(w io.Writer, t admin.Trace) error {
	if t.Text != "" {
		wrapped(w, "", t.Text)
	}
	for i, s := range t.Sessions {
		if i > 0 {
			fmt.Fprintln(w)
		}
		if err := printTraced(w, s); err != nil {
			return err
		}
	}
	if more := t.Matched - len(t.Sessions); more > 0 {
		fmt.Fprintf(w, "\n%d older ones are known: -limit tells more\n", more)
	}
	if len(t.Sessions) > 0 && !t.Recording {
		fmt.Fprintln(w)
		wrapped(w, "", "Steps are not recorded: [log] trace = true does so.")
	}
	if len(t.Sessions) > 0 {
		for _, n := range t.Silent {
			fmt.Fprintf(w, "acceptor %d gave no whole answer in time: of its sessions not all are here\n", n)
		}
	}
	return nil
}

// printTraced tells of one session. Times are UTC, as in the access log.
func printTraced(w io.Writer, s admin.TracedSession) error {
	name := "session " + s.ID
	if s.ID == "" {
		name = "a connection"
	}
	from := ""
	if s.Client != "" {
		from = " of " + s.Client
	}
	wrapped(w, "", fmt.Sprintf("%s%s at listener %s%s, acceptor %d, on %s: %s", name, from, s.Listener, nonEmpty(", route ", s.Route), s.Acceptor, s.Begun.Format(time.DateOnly), s.State))
	if s.Partial {
		wrapped(w, "  ", "not all of its steps are known: they were not recorded, or are forgotten")
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	day := s.Begun.Format(time.DateOnly)
	fmt.Fprintln(t, "  TIME (UTC)\tAFTER\tWHAT")
	for i, step := range s.Steps {
		if d := step.Time.Format(time.DateOnly); d != day {
			fmt.Fprintf(t, "  %s\t\t\n", d)
			day = d
		}
		at, later := step.Time.Format("15:04:05.000000"), after(step.Seconds)
		for _, text := range stepTexts(step) {
			fmt.Fprintf(t, "  %s\t%s\t%s\n", at, later, text)
			at, later = "", ""
		}
		if s.LeftOut > 0 && i == len(s.Steps)/2-1 {
			fmt.Fprintf(t, "  \t\t%d steps are left out here\n", s.LeftOut)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if n := s.Now; n != nil {
		where := ""
		if n.Address != "" {
			where = " with " + n.Address
		}
		wrapped(w, "  ", fmt.Sprintf("now it is %s%s for %s in all, idle for %s, %d bytes in, %d out", n.State, where, lasting(n.AgeSeconds), lasting(n.IdleSeconds), n.Received, n.Sent))
	}
	return nil
}

// after is a time since the accept with as much of it as people read.
func after(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(time.Millisecond).String()
}

// stepTexts are the lines of a step.
func stepTexts(s admin.TracedStep) []string {
	switch s.Step {
	case "accepted", "waits":
		return []string{s.Step}
	case "dials":
		if s.Address == "" {
			return []string{"connects to a backend that is no more"}
		}
		return []string{"connects to " + clipped(s.Address, 38)}
	case "dial_failed":
		return []string{"that failed: " + s.Reason}
	case "connected":
		return []string{"connected, in " + after(s.Took)}
	case "rejected":
		return []string{"rejected: " + s.Reason}
	case "worker_died":
		return []string{"ended with its worker: " + s.Reason}
	}
	texts := []string{"closed: " + s.Reason}
	if s.In+s.Out > 0 {
		texts = append(texts, fmt.Sprintf("%d bytes in, %d out, by %s", s.In, s.Out, s.Path))
	}
	return texts
}
