package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"sluice/cmd/internal/admin"
)

// rebalance has a running sluice end sessions of backends that have more than their share, so
// that their clients connect anew; or with -dry-run say what that would do.
func rebalance(e env, args []string) int {
	a := newAsking("sluice rebalance", 10*time.Second, found...)
	var o admin.RebalanceOrder
	a.BoolVar(&o.DryRun, "dry-run", false, "end nothing, say what would end")
	a.IntVar(&o.PerSecond, "per-second", 0, "`NUMBER` of sessions that end, if not as the pool has it")
	a.Float64Var(&o.Share, "share", 0, "`SHARE` of the pool's sessions, 0 to 1, that may end at most, if not as the pool has it")
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		args = append(args[1:len(args):len(args)], args[0])
	}
	if status := parse(e, a.FlagSet, args, "POOL"); status >= 0 {
		return status
	}
	o.Pool = a.Arg(0)
	if err := o.Check(); err != nil {
		fmt.Fprintln(e.stderr, "sluice rebalance:", err)
		return exitUsage
	}
	return a.verdict(e, printAnswer, func(ctx context.Context, c *admin.Client) (admin.Verdict, error) { return c.Rebalance(ctx, o) })
}
