package host

import (
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// reaper buries the dead. Workers are waited for one by one, as everywhere. In a
// container this process may be PID 1, which is given every orphan there is, and
// nothing else waits for those.
type reaper struct {
	mu      sync.Mutex   // guards workers, and keeps orphans from being looked for during a start
	workers map[int]bool // and commands: the processes that are waited for
}

func newReaper() *reaper { return &reaper{workers: map[int]bool{}} }

// start starts a worker, which is waited for by wait.
//
// It takes bare descriptors, as os/exec does not: they stay with their owners.
func (r *reaper) start(path string, args []string, files []uintptr) (*os.Process, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := syscall.ForkExec(path, args, &syscall.ProcAttr{Env: os.Environ(), Files: files})
	if err != nil {
		return nil, err
	}
	r.workers[pid] = true
	return os.FindProcess(pid) // never fails on Linux
}

// wait returns how a process ended.
func (r *reaper) wait(p *os.Process) string {
	state, err := p.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.workers, p.Pid)
	if err != nil {
		return err.Error()
	}
	return state.String()
}

// Run is Host.Run.
func (r *reaper) Run(cmd *exec.Cmd) error {
	r.mu.Lock()
	err := cmd.Start()
	if err == nil {
		r.workers[cmd.Process.Pid] = true
	}
	r.mu.Unlock()
	if err != nil {
		return err
	}
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.workers, cmd.Process.Pid)
	}()
	return cmd.Wait()
}

// reapOrphans is the life of PID 1.
func (r *reaper) reapOrphans() {
	died := make(chan os.Signal, 1)
	signal.Notify(died, unix.SIGCHLD)
	for {
		r.reap()
		<-died
	}
}

// reap looks at all processes: PID 1 sees those of its container.
func (r *reaper) reap() {
	r.mu.Lock()
	defer r.mu.Unlock()
	self := strconv.Itoa(os.Getpid())
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || r.workers[pid] {
			continue
		}
		if f := processStat(pid); len(f) > statParent && f[statState] == "Z" && f[statParent] == self {
			_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
		}
	}
}
