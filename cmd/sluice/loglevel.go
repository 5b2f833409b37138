package main

import (
	"context"
	"flag"
	"fmt"
	"strings"
	"time"

	"sluice/cmd/internal/admin"
	"sluice/cmd/internal/config"
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
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	var f config.Flags
	f.Bind(fs, "c", "admin", "admin-socket")
	socket := fs.String("socket", "", "`PATH` of the admin socket")
	timeout := fs.Duration("timeout", 10*time.Second, "`DURATION` to wait for the answer")
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") { // flags may follow, too
		args = append(args[1:len(args):len(args)], args[0])
	}
	if status := parse(e, fs, args, "LEVEL"); status >= 0 {
		return status
	}
	if _, err := admin.LevelOf(fs.Arg(0)); err != nil {
		fmt.Fprintln(e.stderr, name+":", err)
		return exitUsage
	}
	path, err := socketPath(*socket, f, e.vars)
	if err != nil {
		fmt.Fprintln(e.stderr, name+":", err)
		return exitFault
	}
	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	defer cancel()
	v, err := admin.NewClient(path).LogLevel(ctx, fs.Arg(0))
	if err != nil {
		fmt.Fprintln(e.stderr, name+":", err)
		return exitFault
	}
	fmt.Fprintln(e.stdout, v.Text)
	return exitOK
}
