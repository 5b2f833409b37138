package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

// rig is what one run needs: a backend, the proxy and a load generator, each a process of its own, all fresh. A fresh run has no
// sockets in TIME_WAIT on its ports and no memory that an earlier case left in the proxy.
//
//	load generator ─► setting.front, proxy ─► setting.back, backend
type rig struct {
	setting setting
	backend *child
	others  []*child // further backends of the pool
	proxy   *child   // nil for the direct row
	load    *child
	stops   []func()
	started time.Time // of the proxy
}

// startLimit bounds how long a proxy may take from its start to its first answer.
const startLimit = 10 * time.Second

// startRig starts all for one run. Cancelling ctx makes the load generator fail, and with it the measurement.
func startRig(ctx context.Context, c *benchCase, path string, files int, dir string, threads int) (r *rig, err error) {
	r = &rig{}
	defer func() {
		if err != nil {
			r.stop()
		}
	}()
	j := c.job
	j.Threads = threads
	order := backendOrder{Threads: threads, Greet: j.Greeting, CheckAll: j.CheckAll, Everywhere: c.pooled.addresses > 0}
	backend, back, err := startBackend(order)
	if err != nil {
		return r, err
	}
	r.backend = backend
	r.stops = append(r.stops, backend.stop)
	r.setting = setting{path: path, acceptors: c.acceptors, files: files, front: back, back: back, pooled: c.pooled}
	if err := r.startPool(order); err != nil {
		return r, err
	}
	if c.proxy.name != direct {
		if err := r.startProxy(ctx, c, dir); err != nil {
			return r, err
		}
	}
	j.Target = r.setting.front
	if r.load, err = startSelf("_load"); err != nil {
		return r, err
	}
	r.stops = append(r.stops, r.load.stop)
	ignore := context.AfterFunc(ctx, r.load.kill)
	r.stops = append(r.stops, func() { ignore() })
	var ready reply
	if err := r.load.ask(j, &ready); err != nil {
		return r, err
	}
	return r, nil
}

// startPool makes the pool of which the first backend has been started.
func (r *rig) startPool(order backendOrder) error {
	s := &r.setting
	if s.pooled.addresses > 0 {
		s.pool = aliases(s.pooled.addresses, s.back.Port())
	}
	for i := range s.pooled.processes {
		at := s.back
		if i > 0 {
			other, its, err := startBackend(order)
			if err != nil {
				return err
			}
			r.others, at = append(r.others, other), its
			r.stops = append(r.stops, other.stop)
		}
		s.pool = append(s.pool, at)
	}
	return nil
}

// startProxy gives the proxy free ports and its configuration, starts it and waits until it serves.
func (r *rig) startProxy(ctx context.Context, c *benchCase, dir string) error {
	p := c.proxy
	dir, err := os.MkdirTemp(dir, p.name+"-")
	if err != nil {
		return err
	}
	r.stops = append(r.stops, func() { os.RemoveAll(dir) })
	s := &r.setting
	s.config = filepath.Join(dir, "config")
	if s.front, err = freePort(); err != nil {
		return err
	}
	for range c.listeners - 1 {
		at, err := freePort()
		if err != nil {
			return err
		}
		s.more = append(s.more, at)
	}
	s.spare = c.backends
	if c.spread || p.scrapes && s.scaled() {
		if s.admin, err = freePort(); err != nil {
			return err
		}
	}
	if p.config != nil {
		if err := os.WriteFile(s.config, []byte(p.config(*s)), 0o644); err != nil {
			return err
		}
	}
	r.started = time.Now()
	if r.proxy, err = startProgram(p.command(*s)); err != nil {
		return err
	}
	r.stops = append(r.stops, r.proxy.stop)
	return r.awaitAnswer(ctx)
}

// awaitAnswer asks through the proxy until the backend's answer comes.
func (r *rig) awaitAnswer(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		err := exchange(r.setting.front)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no answer through the proxy: %w%s", err, r.proxy.said.indented())
		case <-r.proxy.ended:
			return fmt.Errorf("the proxy ended at its start%s", r.proxy.said.indented())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// exchange makes one small request in a session of its own. A greeting before the answer counts as an answer.
func exchange(at netip.AddrPort) error {
	c, err := net.DialTimeout("tcp", at.String(), time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := c.Write(request{Down: tailSize}.head()); err != nil {
		return err
	}
	_, err = io.ReadFull(c, make([]byte, tailSize))
	return err
}

// nextPort walks through the ports below those that the kernel gives to clients, so that a port found free stays free until the
// proxy binds it.
var nextPort = uint16(12000 + os.Getpid()%8000)

func freePort() (netip.AddrPort, error) {
	for range 10000 {
		if nextPort++; nextPort >= 32000 {
			nextPort = 12000
		}
		at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), nextPort)
		if l, err := net.Listen("tcp", at.String()); err == nil {
			l.Close()
			return at, nil
		}
	}
	return netip.AddrPort{}, errors.New("no free port from 12000 to 32000")
}

// do has the load generator do a step.
func (r *rig) do(step step) (reply, error) {
	var answer reply
	if err := r.load.ask(step, &answer); err != nil {
		return answer, err
	}
	if answer.Err != "" {
		return answer, fmt.Errorf("%s: %s%s", step.Do, answer.Err, r.backend.said.indented())
	}
	return answer, nil
}

// workers returns the processes of the proxy that hold its acceptors: the children of the one that was started.
func (r *rig) workers() ([]int, error) {
	tree, err := processTree(r.proxy.pid())
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, p := range tree[1:] {
		pids = append(pids, p.Pid)
	}
	if len(pids) != r.setting.acceptors {
		return nil, fmt.Errorf("%d worker processes, want one for each of %d acceptors", len(pids), r.setting.acceptors)
	}
	return pids, nil
}

// awaitHeld waits until the backend holds n sessions: then the proxy has accepted and connected all of them.
func (r *rig) awaitHeld(n int) error {
	return r.await(func() error {
		var held int
		if err := r.backend.ask(question{}, &held); err != nil {
			return err
		}
		if held != n {
			return fmt.Errorf("the backend holds %d sessions, want %d", held, n)
		}
		return nil
	})
}

// await tries until it succeeds, for at most startLimit, and not when the load generator is gone.
func (r *rig) await(try func() error) error {
	late := time.After(startLimit)
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-r.load.ended:
			return errors.New("the load generator ended")
		case <-late:
			return err
		}
	}
}

// stop ends everything of the run, last started first.
func (r *rig) stop() {
	for i := len(r.stops) - 1; i >= 0; i-- {
		r.stops[i]()
	}
}
