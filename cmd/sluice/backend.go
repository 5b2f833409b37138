package main

import (
	"context"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"time"

	"sluice/cmd/internal/admin"
	"sluice/cmd/internal/config"
)

// backend tells a running sluice, over its admin socket, what an operator wants of a
// backend. It holds through reloads, and until it is taken back by enable or its time is
// over. The words come first, as people say them, and then the flags.
func backend(e env, args []string) int {
	fs := flag.NewFlagSet("sluice backend", flag.ContinueOnError)
	var f config.Flags
	f.Bind(fs)
	socket := fs.String("socket", "", "`PATH` of the admin socket")
	pool := fs.String("pool", "", "only in this `POOL`; else in every one that has the backend")
	lasts := fs.Duration("for", 0, "`DURATION` after which it ends by itself; 0s = never")
	reason := fs.String("reason", "", "`TEXT` that is shown with it")
	timeout := fs.Duration("timeout", 10*time.Second, "`DURATION` to wait for the answer")
	words := 0
	for words < len(args) && !strings.HasPrefix(args[words], "-") {
		words++
	}
	operands := []string{"NAME", "drain|disable|enable|weight"}
	if words > 1 && args[1] == "weight" {
		operands = append(operands, "N")
	}
	if status := parse(e, fs, append(args[words:len(args):len(args)], args[:words]...), operands...); status >= 0 {
		return status
	}
	said := fs.Args()
	o := admin.BackendOrder{Backend: said[0], Want: said[1], Pool: *pool, For: *lasts, Reason: *reason}
	var err error
	switch {
	case len(said) == 3:
		if o.Weight, err = strconv.Atoi(said[2]); err != nil {
			err = fmt.Errorf("weight must be a whole number; got %q", said[2])
		}
	case o.Want == "weight": // behind the flags
		err = fmt.Errorf("the words come before the flags, such as: sluice backend %s weight 2", o.Backend)
	}
	if err == nil {
		err = o.Check()
	}
	if err != nil {
		fmt.Fprintln(e.stderr, "sluice backend:", err)
		return exitUsage
	}
	path, err := socketPath(*socket, f, e.vars)
	if err != nil {
		fmt.Fprintln(e.stderr, "sluice backend:", err)
		return exitFault
	}
	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	defer cancel()
	v, err := admin.NewClient(path).Backend(ctx, o)
	if err != nil {
		fmt.Fprintln(e.stderr, "sluice backend:", err)
		return exitFault
	}
	if !v.OK {
		fmt.Fprintln(e.stderr, v.Text)
		return exitFault
	}
	fmt.Fprintln(e.stdout, v.Text)
	for _, change := range v.Changes {
		fmt.Fprintln(e.stdout, change)
	}
	return exitOK
}
