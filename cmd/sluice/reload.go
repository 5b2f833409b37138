package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"sluice/cmd/internal/admin"
)

// reload asks a running sluice, over its admin socket, to read its configuration again,
// and waits for the verdict. With -dry-run it asks what that would change. The flags of
// run are taken too, so that what started a sluice finds it.
func reload(e env, args []string) int {
	// A Plan of 10,000 backends is bound within seconds; after a longer wait ask again.
	a := newAsking("sluice reload", time.Minute)
	dryRun := a.Bool("dry-run", false, "change nothing, say what would change")
	if status := parse(e, a.FlagSet, args); status >= 0 {
		return status
	}
	return a.verdict(e, printVerdict, func(ctx context.Context, c *admin.Client) (admin.Verdict, error) {
		return c.Reload(ctx, *dryRun)
	})
}

// printVerdict writes the text, the changes one per line, and what is in force now.
func printVerdict(w io.Writer, v admin.Verdict) {
	printAnswer(w, v)
	fmt.Fprintf(w, "in force: generation %d", v.Generation)
	if v.SHA256 != "" { // a service from flags has no file
		fmt.Fprintf(w, ", sha256 %s", v.SHA256)
	}
	fmt.Fprintln(w)
}
