package health

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"sluice/metrics"
	"sluice/proxy/pool"
)

const (
	// maxCommands run at a time: each is a process, and most a shell or an interpreter. One
	// that waits for its turn loses nothing of its timeout.
	maxCommands = 32
	// lingering is how long a child of a command that has ended may hold its output open.
	lingering = 100 * time.Millisecond
	// maxOutput is what is kept of a command's output: its beginning.
	maxOutput = 1 << 10
)

// command runs the pool's command for a target, without a shell: well is exit status 0. It
// is told the target by its environment, and has no other variable SLUICE_*. It leads a process
// group, which is killed when the time is over.
func (c *check) command(ctx context.Context, t pool.Target) error {
	argv := c.health.Command
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "SLUICE_") }), c.environment(t)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	kill := func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Cancel, cmd.WaitDelay = kill, lingering
	var said output
	cmd.Stdout, cmd.Stderr = &said, &said
	err := c.way.netns.Within(func() error { return c.run(cmd) })
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s: killed after %s: %w", argv[0], c.health.Timeout, context.DeadlineExceeded)
	case errors.Is(err, exec.ErrWaitDelay): // it has ended, status 0, and left a process behind in its group
		_ = kill()
		return nil
	case errors.As(err, &exit):
		return fault{metrics.CheckStatus, fmt.Errorf("%s: %s%s", argv[0], exit.ProcessState, said.quoted())}
	}
	return err
}

func (c *check) environment(t pool.Target) []string {
	port := int(t.Addr.Port())
	if c.health.Port > 0 {
		port = c.health.Port
	}
	ip := t.Addr.Addr().String()
	return []string{
		"SLUICE_CHECK_POOL=" + c.pool, "SLUICE_CHECK_BACKEND=" + t.Backend,
		"SLUICE_CHECK_ADDRESS=" + net.JoinHostPort(ip, strconv.Itoa(port)), "SLUICE_CHECK_IP=" + ip, "SLUICE_CHECK_PORT=" + strconv.Itoa(port),
	}
}

// output keeps the beginning of what is written to it.
type output struct{ b []byte }

func (o *output) Write(p []byte) (int, error) {
	o.b = append(o.b, p[:min(len(p), maxOutput-len(o.b))]...)
	return len(p), nil
}

func (o *output) quoted() string {
	if text := bytes.TrimSpace(o.b); len(text) > 0 {
		return ": " + excerpt(text)
	}
	return ""
}
