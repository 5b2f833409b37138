// Command sluice is a Layer-4 TCP reverse proxy: several acceptors share each
// listening port through SO_REUSEPORT and splice their clients to backends.
//
//	main ─► the table of commands ─► run    ─► config ─► control.Serve
//	                                 demo   ─► two backends of its own ─► control.Serve
//	                                 check  ─► config, and what would run
//	                                 status ─► the admin socket of a running one
//	                                 top    ─► the same, again and again
//	                                 reload ─► the admin socket of a running one
//	                                 drain, backend ─► the same
//	                                 sessions, kill ─► the same
//	                                 explain, trace ─► the same
//	                                 log    ─► the same
//	                                 diff   ─► two configs, and what a reload would change
//	                                 config ─► every value and where it comes from; the schema of the file
//	                                 help, man ─► what commands take, and keys mean
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"sluice/cmd/internal/config"
	"sluice/cmd/internal/host"
)

// env is the outside world of a command.
type env struct {
	stdout, stderr io.Writer
	vars           config.Environment
	signals        chan os.Signal
	help           func(w io.Writer, fs *flag.FlagSet, operands []string) // how a command shows what it takes; nil = printHelp
}

// command is one row of the table. Nouns show, verbs change.
type command struct {
	name, args, help string
	run              func(e env, args []string) int // returns the exit status
}

// Exit statuses, as the README promises them.
const (
	exitOK    = 0
	exitFault = 1 // bad configuration, a failed start, or a drain that had to cut sessions
	exitUsage = 2 // the command line itself
)

func commands() []command {
	return []command{
		{"demo", "", "two backends, four acceptors on one port, and what to try", demo},
		{"run", "-c FILE | --listen ADDRESS --backend HOST:PORT ...", "serve until a signal", run},
		{"check", "-c FILE | --listen ADDRESS --backend HOST:PORT ...", "report every fault of a configuration, or what would run", check},
		{"status", "[-json] [-c FILE | -socket PATH]", "a running sluice at a glance", status},
		{"top", "[-c FILE | -socket PATH] [-listener NAME] [-pool NAME]", "a running sluice, live in the terminal; ? tells the keys", top},
		{"reload", "[-c FILE | -socket PATH] [-dry-run]", "put a changed configuration in force", reload},
		{"drain", "[-c FILE | -socket PATH] [-wait] [-now]", "end a running sluice when its sessions have ended", drain},
		{"backend", "NAME drain | disable | enable | weight N [-pool POOL] [-for 10m] [-reason TEXT]", "take a backend out, or give it another weight", backend},
		{"sessions", "[ID] [-from CLIENT] [-to BACKEND] [-idle 5m] [-sort idle] [-limit 100] [-json] ...", "the sessions that a running sluice has", sessions},
		{"kill", "ID | -max N [-from CLIENT] [-to BACKEND] [-older 1h] ...", "end sessions of a running sluice", killCommand},
		{"explain", "CLIENT [-listener NAME] [-sni NAME] [-config FILE] [-json]", "where a client would go now, and why", explain},
		{"trace", "ID | CLIENT [-limit 10] [-json]", "what happened to a session, step by step", trace},
		{"rebalance", "POOL [-dry-run] [-per-second N] [-share 0.2]", "move sessions to backends that have fewer", rebalance},
		{"log", "level LEVEL", "change what the log of a running sluice shows", logCommand},
		{"diff", "OLD NEW", "what a reload from one file to another would change", diff},
		{"config", "show [-c FILE | --listen ADDRESS ...] | schema", "every value and where it comes from; the file's schema", configCommand},
		{"doctor", "[-json]", "what this machine allows, and what would improve it", doctor},
		{"healthcheck", "[-ready]", "ask a running sluice whether it is well, for Docker", healthcheck},
		{"completion", "bash | zsh | fish", "a script for the shell: source <(sluice completion bash)", completion},
		{"man", "[-dir DIR] [PAGE]", "manual pages: sluice(1), sluice-run(1) ..., sluice.toml(5)", man},
		{"version", "", "the version of this binary", version},
	}
}

// The first thread is kept for main. By its network namespace a process is looked at from outside
// (/proc/PID/net, nsenter -t PID), and who enters another one for netns must not do so on this thread: it could
// not even end there, as others do.
func init() { runtime.LockOSThread() }

func main() {
	if len(os.Args) > 1 && (os.Args[1] == "run" || os.Args[1] == "demo") {
		host.Slacken()
	}
	// A broken connection is an errno here, never a signal.
	signal.Ignore(syscall.SIGPIPE)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1)
	os.Exit(dispatch(env{stdout: os.Stdout, stderr: os.Stderr, vars: config.NewEnvironment(os.Environ()), signals: signals}, os.Args[1:]))
}

// dispatch runs the command that args name.
func dispatch(e env, args []string) int {
	if len(args) == 0 {
		usage(e.stderr)
		return exitUsage
	}
	switch args[0] {
	case "-h", "-help", "--help":
		usage(e.stdout)
		return exitOK
	case "help":
		return help(e, args[1:])
	}
	if args[0] == "worker" { // not for people: a supervisor starts it with its descriptors
		return work(e)
	}
	if args[0] == "complete" { // nor is this: the scripts of completion ask it
		return offer(e, args[1:])
	}
	for _, c := range commands() {
		if c.name == args[0] {
			return c.run(e, args[1:])
		}
	}
	fmt.Fprintf(e.stderr, "sluice: unknown command %q%s\n\n", args[0], config.DidYouMean(args[0], commandNames()))
	usage(e.stderr)
	return exitUsage
}

func commandNames() []string {
	var names []string
	for _, c := range commands() {
		names = append(names, c.name)
	}
	return names
}

func usage(w io.Writer) {
	fmt.Fprint(w, "sluice is a Layer-4 TCP reverse proxy with exact accept balance.\n\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  sluice %-12s %s\n", c.name, c.help)
	}
	fmt.Fprintf(w, "\nsluice COMMAND -h tells what a command takes, sluice help COMMAND all of it.\n"+
		"sluice help TOPIC tells more, on %s.\n", strings.Join(topics, ", "))
}
