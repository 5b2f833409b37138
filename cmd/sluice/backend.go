package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"sluice/cmd/internal/admin"
)

// backend tells a running sluice, over its admin socket, what an operator wants of a
// backend. It holds through reloads, and until it is taken back by enable or its time is
// over. The words come first, as people say them, and then the flags.
func backend(e env, args []string) int {
	a := newAsking("sluice backend", 10*time.Second)
	pool := a.String("pool", "", "only in this `POOL`; else in every one that has the backend")
	lasts := a.Duration("for", 0, "`DURATION` after which it ends by itself; 0s = never")
	reason := a.String("reason", "", "`TEXT` that is shown with it")
	words := 0
	for words < len(args) && !strings.HasPrefix(args[words], "-") {
		words++
	}
	operands := []string{"NAME", "drain|disable|enable|weight"}
	if words > 1 && args[1] == "weight" {
		operands = append(operands, "N")
	}
	if status := parse(e, a.FlagSet, append(args[words:len(args):len(args)], args[:words]...), operands...); status >= 0 {
		return status
	}
	said := a.Args()
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
	return a.verdict(e, printAnswer, func(ctx context.Context, c *admin.Client) (admin.Verdict, error) { return c.Backend(ctx, o) })
}
