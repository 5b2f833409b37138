package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"sluice/cmd/internal/admin"
	"sluice/cmd/internal/config"
)

// asking is a command that asks a running sluice over its admin socket. It takes the
// flags of run, so that what started a sluice finds it.
type asking struct {
	*flag.FlagSet
	flags   config.Flags
	socket  *string
	timeout *time.Duration
}

// newAsking declares the flags that all such commands have; wait is how long they wait
// for the answer if nothing is said. Of the flags of run they take those named; none = all.
func newAsking(name string, wait time.Duration, names ...string) *asking {
	a := &asking{FlagSet: flag.NewFlagSet(name, flag.ContinueOnError)}
	a.flags.Bind(a.FlagSet, names...)
	a.socket = a.String("socket", "", "`PATH` of the admin socket")
	a.timeout = a.Duration("timeout", wait, "`DURATION` to wait for the answer")
	return a
}

// ask does it, and returns the exit status.
func (a *asking) ask(e env, do func(context.Context, *admin.Client) error) int {
	path, err := socketPath(*a.socket, a.flags, e.vars)
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), *a.timeout)
		defer cancel()
		err = do(ctx, admin.NewClient(path))
	}
	if err != nil {
		fmt.Fprintln(e.stderr, a.Name()+":", err)
		return exitFault
	}
	return exitOK
}

// verdict asks for something to be done, and prints the verdict: one that refuses to
// stderr.
func (a *asking) verdict(e env, show func(io.Writer, admin.Verdict), do func(context.Context, *admin.Client) (admin.Verdict, error)) int {
	var v admin.Verdict
	status := a.ask(e, func(ctx context.Context, c *admin.Client) (err error) {
		v, err = do(ctx, c)
		return err
	})
	switch {
	case status != exitOK:
	case !v.OK:
		show(e.stderr, v)
		return exitFault
	default:
		show(e.stdout, v)
	}
	return status
}

// socketPath is where the running sluice listens: as -socket says, else where one with
// these flags, variables and file would. Faults elsewhere in the file do not matter here.
func socketPath(given string, f config.Flags, env config.Environment) (string, error) {
	if given != "" {
		return given, nil
	}
	a, err := config.NewSource(f, env).Admin()
	if err != nil {
		return "", err
	}
	if path := a.SocketPath(); path != "" {
		return path, nil
	}
	return "", errors.New("which sluice: it has no admin socket by its configuration; give -socket PATH")
}

// printAnswer writes the text of a verdict and the changes, one a line.
func printAnswer(w io.Writer, v admin.Verdict) {
	fmt.Fprintln(w, v.Text)
	for _, change := range v.Changes {
		fmt.Fprintln(w, change)
	}
}
