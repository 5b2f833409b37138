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

// reload asks a running sluice, over its admin socket, to read its configuration again,
// and waits for the verdict. With -dry-run it asks what that would change. The flags of
// run are taken too, so that what started a sluice finds it.
func reload(e env, args []string) int {
	fs := flag.NewFlagSet("sluice reload", flag.ContinueOnError)
	var f config.Flags
	f.Bind(fs)
	socket := fs.String("socket", "", "`PATH` of the admin socket")
	dryRun := fs.Bool("dry-run", false, "change nothing, say what would change")
	// A Plan of 10,000 backends is bound within seconds; who waits longer can ask again.
	timeout := fs.Duration("timeout", time.Minute, "`DURATION` to wait for the verdict")
	if status := parse(e, fs, args); status >= 0 {
		return status
	}
	path, err := socketPath(*socket, f, e.vars)
	if err != nil {
		fmt.Fprintln(e.stderr, "sluice reload:", err)
		return exitFault
	}
	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	defer cancel()
	v, err := admin.NewClient(path).Reload(ctx, *dryRun)
	if err != nil {
		fmt.Fprintln(e.stderr, "sluice reload:", err)
		return exitFault
	}
	if !v.OK {
		printVerdict(e.stderr, v)
		return exitFault
	}
	printVerdict(e.stdout, v)
	return exitOK
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

// printVerdict writes the text, the changes one per line, and what is in force now.
func printVerdict(w io.Writer, v admin.Verdict) {
	fmt.Fprintln(w, v.Text)
	for _, change := range v.Changes {
		fmt.Fprintln(w, change)
	}
	fmt.Fprintf(w, "in force: generation %d", v.Generation)
	if v.SHA256 != "" { // a service from flags has no file
		fmt.Fprintf(w, ", sha256 %s", v.SHA256)
	}
	fmt.Fprintln(w)
}
