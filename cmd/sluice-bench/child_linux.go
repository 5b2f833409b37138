package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// child is a process that the bench started, with those that it started in turn. stop ends them all, by their process ids.
//
// Nothing outlives the bench: the kernel tells a child when the bench dies, whichever way (its death signal), and grandchildren
// whose parent has died become children of the bench, which finds them in its own tree (adoptOrphans, endAll).
type child struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	answers *json.Decoder // standard output, of the bench's own roles only
	said    tail          // the end of standard error
	ended   chan struct{}
}

// program is what a child runs. gentle: it has children of its own that it ends on SIGTERM, so that must be its death signal.
type program struct {
	path   string
	args   []string
	env    []string
	gentle bool
}

// stopPatience is how long a child has to end by itself after SIGTERM.
const stopPatience = 3 * time.Second

// startProgram starts p in its own process group: Ctrl-C reaches the bench alone, which then stops its children in order.
// Call it from a thread that lives as long as the bench: the death signal is bound to the thread.
func startProgram(p program) (*child, error) {
	c := &child{cmd: exec.Command(p.path, p.args...), ended: make(chan struct{})}
	c.cmd.Env = append(os.Environ(), p.env...)
	c.cmd.Stdout = &c.said
	return c, c.start(p)
}

// startSelf starts this program again in one of its hidden roles, which is talked to by ask.
func startSelf(role string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("path of this program: %w", err)
	}
	p := program{path: self, args: []string{role}}
	c := &child{cmd: exec.Command(p.path, p.args...), ended: make(chan struct{})}
	out, outOfChild, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("pipe: %w", err)
	}
	defer outOfChild.Close()
	c.cmd.Stdout = outOfChild
	c.answers = json.NewDecoder(out)
	if err := c.start(p); err != nil {
		out.Close()
		return nil, err
	}
	go func() {
		<-c.ended
		out.Close()
	}()
	return c, nil
}

func (c *child) start(p program) error {
	c.cmd.Stderr = &c.said
	c.cmd.WaitDelay = time.Second // grandchildren may hold the output open
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if p.gentle {
		c.cmd.SysProcAttr.Pdeathsig = syscall.SIGTERM
	}
	var err error
	if c.in, err = c.cmd.StdinPipe(); err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		return fmt.Errorf("start %s: %w", p.path, err)
	}
	go func() {
		c.cmd.Wait()
		close(c.ended)
	}()
	return nil
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// ask sends a message and waits for the answer.
func (c *child) ask(message, answer any) error {
	err := json.NewEncoder(c.in).Encode(message)
	if err == nil {
		err = c.answers.Decode(answer)
	}
	if err != nil {
		return fmt.Errorf("%s: %w%s", c.cmd.Args[1], err, c.said.indented())
	}
	return nil
}

// kill ends the child alone, at once: for use from another goroutine while ask waits.
func (c *child) kill() { c.cmd.Process.Kill() }

// stop ends the child and all that descend from it, and returns when they are gone.
func (c *child) stop() {
	tree, _ := processTree(c.pid()) // none when it has ended by itself: then there is nothing left to stop
	c.in.Close()
	c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.ended:
	case <-time.After(stopPatience):
	}
	endProcesses(tree)
	<-c.ended
}

// endProcesses kills those of the processes that still live and reaps those that are the bench's own.
func endProcesses(tree []procStat) {
	for _, p := range tree {
		if now, err := readStat(p.Pid); err == nil && now.Start == p.Start && now.State != 'Z' {
			unix.Kill(p.Pid, unix.SIGKILL)
		}
	}
	for _, p := range tree[min(1, len(tree)):] {
		unix.Wait4(p.Pid, nil, 0, nil) // refused when it is not, or no longer, ours
	}
}

// adoptOrphans makes the bench the parent of grandchildren whose parent dies.
func adoptOrphans() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become the reaper of orphans: %w", err)
	}
	return nil
}

// endAll kills whatever descends from the bench, as the last thing it does.
func endAll() {
	if tree, err := processTree(os.Getpid()); err == nil {
		endProcesses(tree[1:])
	}
}

// freezeProcess stops a process as a hung one is stopped, until the function that it returns is called.
func freezeProcess(pid int) (thaw func(), err error) {
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		return nil, fmt.Errorf("stop process %d: %w", pid, err)
	}
	return func() { unix.Kill(pid, unix.SIGCONT) }, nil
}

// checkFrozen says whether each thread of a process has stopped. Until one of them has taken the signal the others go on, and a
// connection that such a process takes is lost with it, whatever the proxy does.
func checkFrozen(pid int) error {
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return err
	}
	for _, t := range threads {
		tid, err := strconv.Atoi(t.Name())
		if err != nil {
			return err
		}
		if s, err := readStat(tid); err != nil || s.State != 'T' {
			return errors.Join(fmt.Errorf("thread %d of process %d goes on", tid, pid), err)
		}
	}
	return nil
}

// tail keeps the end of what a child says, for the error message when it fails.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	const keep = 2000
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	t.text = t.text[max(0, len(t.text)-keep):]
	return len(p), nil
}

// indented returns the text as lines under an error message, "" if there is none.
func (t *tail) indented() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := strings.TrimSpace(string(t.text))
	if text == "" {
		return ""
	}
	return "\n    " + strings.ReplaceAll(text, "\n", "\n    ")
}
