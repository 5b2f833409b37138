package main

import (
	"errors"
	"flag"
	"fmt"

	"sluice/cmd/internal/config"
	"sluice/cmd/internal/control"
	"sluice/cmd/internal/host"
)

// run serves what a file or the flags say, until a signal.
func run(e env, args []string) int {
	r, status := configure(e, "run", args)
	if status >= 0 {
		return status
	}
	return serve(e, control.Options{Config: r.config, Path: r.source.Path(), SHA256: r.digest, Read: r.again, ReadAt: r.at})
}

// serve completes o and runs it.
func serve(e env, o control.Options) int {
	o.Version = versionText()
	log := newLogger(e.stderr, o.Config.Log)
	defer log.close()
	o.Log, o.Level, o.Lost = log.Logger, log.level, log.ring.Dropped
	o.Signals, o.Stdout = e.signals, e.stdout
	switch err := control.Serve(o); {
	case err == nil:
		return exitOK
	case errors.Is(err, control.ErrCut), errors.Is(err, control.ErrStranded): // logged already
		return exitFault
	default:
		o.Log.Error("not started", "error", err)
		return exitFault
	}
}

// work is a worker process's life.
func work(e env) int {
	if err := host.Work(); err != nil {
		fmt.Fprintln(e.stderr, "sluice:", err)
		return exitFault
	}
	return exitOK
}

// check reports every fault of a configuration, what this machine lacks for it, or what
// would run. It listens nowhere.
func check(e env, args []string) int {
	r, status := configure(e, "check", args)
	if status >= 0 {
		return status
	}
	for _, doubt := range append(r.config.Doubts(), control.Fallbacks(r.config)...) {
		fmt.Fprintln(e.stderr, "sluice: warning:", doubt)
	}
	for _, refusal := range control.Refusals(r.config) {
		fmt.Fprintf(e.stderr, "sluice: warning: %v: this user could not start it here\n", refusal)
	}
	needs, err := control.Check(r.config)
	if err == nil {
		err = r.config.Describe(e.stdout, needs)
	}
	if err != nil {
		fmt.Fprintln(e.stderr, "sluice:", err)
		return exitFault
	}
	return exitOK
}

// reading is a configuration that was read, and where from.
type reading struct {
	config config.Config
	digest string // of the file; "" = none
	source *config.Source
}

// again reads it for a reload.
func (r reading) again() (config.Config, string, error) {
	if err := r.source.Again(); err != nil {
		return config.Config{}, "", err
	}
	return r.source.Read()
}

// at reads another file in its place.
func (r reading) at(path string) (config.Config, string, error) {
	other := reading{source: r.source.At(path)}
	return other.again()
}

// configure reads the command line that run and check share, and what it names, once.
// status is the exit status if there is nothing to go on with, else -1.
func configure(e env, name string, args []string) (r reading, status int) {
	fs := flag.NewFlagSet("sluice "+name, flag.ContinueOnError)
	var f config.Flags
	f.Bind(fs)
	if status := parse(e, fs, args); status >= 0 {
		return r, status
	}
	r.source = config.NewSource(f, e.vars)
	var err error
	if r.config, r.digest, err = r.source.Read(); err != nil {
		fmt.Fprintln(e.stderr, err)
		return r, exitFault
	}
	return r, -1
}

// parse reads flags, and behind them as many arguments as there are operands. The
// result is an exit status, or -1 to go on.
func parse(e env, fs *flag.FlagSet, args []string, operands ...string) int {
	fs.SetOutput(e.stderr)
	fs.Usage = func() {} // help goes to stdout, when it is asked for
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		show := e.help
		if show == nil {
			show = printHelp
		}
		show(e.stdout, fs, operands)
		return exitOK
	case err != nil:
		fmt.Fprintf(e.stderr, "%s -h tells what it takes%s\n", fs.Name(), flagMeant(err, fs))
		return exitUsage
	case fs.NArg() > len(operands):
		fmt.Fprintf(e.stderr, "%s: unexpected argument %q\n", fs.Name(), fs.Arg(len(operands)))
		return exitUsage
	case fs.NArg() < len(operands):
		fmt.Fprintf(e.stderr, "%s: %s is missing\n", fs.Name(), operands[fs.NArg()])
		return exitUsage
	}
	return -1
}
