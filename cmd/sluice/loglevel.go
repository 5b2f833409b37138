package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"sluice/cmd/internal/admin"
)

// logCommand changes the log of a running sluice over its admin socket. The flags of run
// are taken too, so that what started a sluice finds it.
func logCommand(e env, args []string) int {
	name := "sluice log"
	if len(args) > 0 && args[0] == "level" {
		name, args = "sluice log level", args[1:]
	} else if len(args) == 0 || !strings.HasPrefix(args[0], "-") {
		fmt.Fprintln(e.stderr, "sluice log: it takes level LEVEL, such as: sluice log level debug")
		return exitUsage
	}
	a := newAsking(name, 10*time.Second)
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") { // flags may follow, too
		args = append(args[1:len(args):len(args)], args[0])
	}
	if status := parse(e, a.FlagSet, args, "LEVEL"); status >= 0 {
		return status
	}
	if _, err := admin.LevelOf(a.Arg(0)); err != nil {
		fmt.Fprintln(e.stderr, name+":", err)
		return exitUsage
	}
	return a.verdict(e, printAnswer, func(ctx context.Context, c *admin.Client) (admin.Verdict, error) { return c.LogLevel(ctx, a.Arg(0)) })
}
