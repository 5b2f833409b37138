package main

import (
	"bufio"
	"context"
	"io"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// demoLine is what a backend of the demo answers.
var demoLine = regexp.MustCompile(`^backend [ab], through acceptor [0-3], pid [0-9]+$`)

// The demo prints three commands, they do what it says, and Ctrl-C ends it.
func TestDemo(t *testing.T) {
	need(t, "curl", "curl")
	stdout, printed := io.Pipe()
	s := launch(t, func(cmd *exec.Cmd) { cmd.Stdout = printed }, "demo", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
	var commands []string
	lines := bufio.NewScanner(stdout)
	for lines.Scan() && !strings.Contains(lines.Text(), "Ctrl-C ends it") {
		if command, isOne := strings.CutPrefix(lines.Text(), "  "); isOne {
			command, _, _ = strings.Cut(command, "   ") // from there on it is explained
			commands = append(commands, command)
		}
	}
	if len(commands) != 3 {
		t.Fatalf("%d commands: %q", len(commands), commands)
	}
	shell := func(command string) []string {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		out, err := exec.CommandContext(ctx, "bash", "-c", command).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
		return strings.Split(strings.TrimSpace(string(out)), "\n")
	}

	if who := shell(commands[0]); len(who) != 1 || !demoLine.MatchString(who[0]) {
		t.Errorf("%s: %q", commands[0], who)
	}
	who := shell(commands[1])
	if len(who) != 20 {
		t.Errorf("%s: %d answers", commands[1], len(who))
	}
	answered := map[string]bool{}
	for _, line := range who {
		if !demoLine.MatchString(line) {
			t.Fatalf("%s: %q", commands[1], line)
		}
		answered[strings.Fields(line)[1]] = true
	}
	if len(answered) != 2 {
		t.Errorf("%s: only %v answered", commands[1], answered)
	}
	if shares := shell(commands[2]); len(shares) != 4 {
		t.Errorf("%s: %q, want one line for each of four acceptors", commands[2], shares)
	}

	s.signal(syscall.SIGINT)
	if status := s.wait(stopWithin); status != exitOK {
		t.Errorf("exit status %d", status)
	}
}
