package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"sluice/cmd/internal/admin"
)

// drain has a running sluice end when its sessions have, as SIGTERM does, over its admin
// socket. The flags of run are taken too, so that what started a sluice finds it.
func drain(e env, args []string) int {
	a := newAsking("sluice drain", 10*time.Second)
	now := a.Bool("now", false, "do not wait for sessions: cut them and end")
	wait := a.Bool("wait", false, "return when it has ended")
	if status := parse(e, a.FlagSet, args); status >= 0 {
		return status
	}
	status := a.verdict(e, printAnswer, func(ctx context.Context, c *admin.Client) (admin.Verdict, error) { return c.Drain(ctx, *now) })
	if status != exitOK || !*wait {
		return status
	}
	path, err := socketPath(*a.socket, a.flags, e.vars)
	if err != nil {
		fmt.Fprintln(e.stderr, a.Name()+":", err)
		return exitFault
	}
	for !gone(path) {
		time.Sleep(endsEvery)
	}
	fmt.Fprintln(e.stdout, "it has ended")
	return exitOK
}

// endsEvery is how often -wait looks whether the service is still there.
const endsEvery = 200 * time.Millisecond

// gone says that nobody listens at the socket any more. A service that is too busy to answer
// is there.
func gone(path string) bool {
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		c.Close()
	}
	return errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED)
}
