package main

import (
	"errors"
	"flag"
	"fmt"

	"sluice/cmd/internal/config"
	"sluice/cmd/internal/control"
)

// run serves what a file or the flags say, until a signal.
func run(e env, args []string) int {
	c, path, status := configure(e, "run", args)
	if status >= 0 {
		return status
	}
	return serve(e, control.Options{Config: c, Path: path})
}

// serve completes o and runs it.
func serve(e env, o control.Options) int {
	o.SHA256 = digest(o.Path)
	o.Version = versionText()
	o.Log = newLogger(e.stderr, o.Config.Log)
	o.Signals = e.signals
	switch err := control.Serve(o); {
	case err == nil:
		return exitOK
	case errors.Is(err, control.ErrCut): // logged already
		return exitFault
	default:
		o.Log.Error("not started", "error", err)
		return exitFault
	}
}

// work is a worker process's life.
func work(e env) int {
	if err := control.Work(); err != nil {
		fmt.Fprintln(e.stderr, "sluice:", err)
		return exitFault
	}
	return exitOK
}

// check reports every fault of a configuration, or what would run. It opens no
// socket.
func check(e env, args []string) int {
	c, _, status := configure(e, "check", args)
	if status >= 0 {
		return status
	}
	if err := c.Describe(e.stdout); err != nil {
		fmt.Fprintln(e.stderr, "sluice:", err)
		return exitFault
	}
	return exitOK
}

// configure reads the command line that run and check share. status is the exit
// status if there is nothing to go on with, else -1.
func configure(e env, name string, args []string) (c config.Config, path string, status int) {
	fs := flag.NewFlagSet("sluice "+name, flag.ContinueOnError)
	var f config.Flags
	f.Bind(fs)
	if status := parse(e, fs, args); status >= 0 {
		return c, "", status
	}
	c, err := config.FromFlags(f, e.getenv)
	if err != nil {
		fmt.Fprintln(e.stderr, err)
		return c, "", exitFault
	}
	return c, f.Path(e.getenv), -1
}

// parse reads flags; the result is an exit status, or -1 to go on.
func parse(e env, fs *flag.FlagSet, args []string) int {
	fs.SetOutput(e.stderr)
	fs.Usage = func() {} // help goes to stdout, when it is asked for
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintf(e.stdout, "Usage of %s:\n", fs.Name())
		fs.SetOutput(e.stdout)
		fs.PrintDefaults()
		return exitOK
	case err != nil:
		fmt.Fprintf(e.stderr, "%s -h tells what it takes\n", fs.Name())
		return exitUsage
	case fs.NArg() > 0:
		fmt.Fprintf(e.stderr, "%s: unexpected argument %q\n", fs.Name(), fs.Arg(0))
		return exitUsage
	}
	return -1
}
