package health

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sluice/proxy/pool"
)

// connects are the checks that connect and say nothing: most checks of most services. They
// have no goroutine each. Those that are due together are begun together, and a machine near by
// has answered all of them by the time the last is begun.
//
//	begin ──► socket, connect ──► looked at once ──answered──► reset, done
//	                                    └─not yet─► epoll ──answered, or late──► reset, done
//
// The epoll lies in Go's own, so one goroutine waits for all and no thread does. A connection is
// reset before its server has seen it, see way.
type connects struct {
	ctx     context.Context // its end ends all, and nothing is reported
	running *sync.WaitGroup // the goroutine that waits is one of it

	mu    sync.Mutex // guards what follows
	epoll int
	file  *os.File         // of epoll; nil = none has had to wait yet
	open  map[int]*connect // under way, by descriptor
	wake  time.Time        // file's deadline; zero = it has none
}

// connect is one of them.
type connect struct {
	check *check
	to    netip.AddrPort
	doubt bool                             // it may be that nothing listens there
	done  func(begun time.Time, err error) // called once, by the one that finds out

	fd    int
	begun time.Time
}

func newConnects(ctx context.Context, running *sync.WaitGroup) *connects {
	return &connects{ctx: ctx, running: running, open: map[int]*connect{}}
}

// begin starts checks, and ends those that are decided at once.
func (w *connects) begin(all []*connect) {
	for some := range slices.Chunk(all, maxTogether) {
		w.beginSome(some)
	}
}

// maxTogether is begun before the first is looked at: in a millisecond or two. The ACKs that are
// held back go out after 40 ms.
const maxTogether = 64

func (w *connects) beginSome(all []*connect) {
	var waiting []*connect
	var polled []unix.PollFd
	for _, c := range all {
		c.begun = time.Now()
		if errno, step := c.start(); errno == unix.EINPROGRESS {
			waiting, polled = append(waiting, c), append(polled, unix.PollFd{Fd: int32(c.fd), Events: unix.POLLOUT})
		} else {
			c.end(step, errno)
		}
	}
	if len(waiting) == 0 {
		return
	}
	_, _ = unix.Poll(polled, 0)
	for i, c := range waiting {
		if told := polled[i].Revents; told != 0 {
			c.decide(told&(unix.POLLERR|unix.POLLHUP) != 0)
		} else if err := w.await(c); err != nil {
			c.close()
			c.done(c.begun, err)
		}
	}
}

// start begins to connect. errno 0 = it is connected, EINPROGRESS = it is under way; else step
// has failed.
func (c *connect) start() (errno syscall.Errno, step string) {
	source, family := c.check.source, unix.AF_INET
	path, isUnix := pool.UnixPath(c.to)
	switch {
	case isUnix:
		family = unix.AF_UNIX
	case !c.to.Addr().Unmap().Is4():
		family = unix.AF_INET6
	}
	var err error
	if c.fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
		c.fd = -1
		return errnoOf(err), "socket"
	}
	if isUnix {
		if err := c.check.way.netns.Move(c.fd); err != nil {
			return errnoOf(err), "socket"
		}
		return errnoOf(unix.Connect(c.fd, &unix.SockaddrUnix{Name: path})), "connect"
	}
	if err := c.check.way.set(c.fd); err != nil {
		return errnoOf(err), "setsockopt"
	}
	if source.IsValid() {
		if err := unix.Bind(c.fd, sockaddr(netip.AddrPortFrom(source, 0))); err != nil {
			return errnoOf(err), "bind"
		}
	}
	return errnoOf(unix.Connect(c.fd, sockaddr(c.address()))), "connect"
}

// address is that of the connection, the check's port included.
func (c *connect) address() netip.AddrPort {
	if port := c.check.health.Port; port > 0 {
		return netip.AddrPortFrom(c.to.Addr(), uint16(port))
	}
	return c.to
}

// decide ends a check whose connect is not under way any more.
func (c *connect) decide(failed bool) {
	var errno syscall.Errno
	switch {
	case failed:
		v, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if errno = syscall.Errno(v); err != nil {
			errno = errnoOf(err)
		}
	case c.doubt && c.metItself():
		errno = unix.ECONNREFUSED
	}
	c.end("connect", errno)
}

// metItself: where nothing listens on a port of this machine, the kernel may choose it as the
// source, and then the SYN is answered by its sender. Where something did a moment ago, that
// is not looked for: the next check tells.
func (c *connect) metItself() bool {
	own, err := unix.Getsockname(c.fd)
	if err != nil {
		return false
	}
	switch to := sockaddr(c.address()).(type) {
	case *unix.SockaddrInet4:
		own, is := own.(*unix.SockaddrInet4)
		return is && own.Port == to.Port && own.Addr == to.Addr
	case *unix.SockaddrInet6:
		own, is := own.(*unix.SockaddrInet6)
		return is && own.Port == to.Port && own.Addr == to.Addr
	}
	return false
}

// end ends a check in which a step gave errno, with a reset: so no TIME_WAIT is left behind.
func (c *connect) end(step string, errno syscall.Errno) {
	if errno == 0 {
		_ = unix.SetsockoptLinger(c.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		c.close()
		c.done(c.begun, nil)
		return
	}
	c.close()
	c.done(c.begun, c.fault(os.NewSyscallError(step, errno)))
}

func (c *connect) close() {
	if c.fd >= 0 {
		_ = unix.Close(c.fd)
	}
}

// fault says what failed as package net does.
func (c *connect) fault(err error) error {
	if path, is := pool.UnixPath(c.to); is {
		return &net.OpError{Op: "dial", Net: "unix", Addr: &net.UnixAddr{Name: path, Net: "unix"}, Err: err}
	}
	f := &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(c.address()), Err: err}
	if source := c.check.source; source.IsValid() {
		f.Source = net.TCPAddrFromAddrPort(netip.AddrPortFrom(source, 0))
	}
	return f
}

// await has a connect that is under way waited for.
func (w *connects) await(c *connect) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.ctx.Err(); err != nil {
		return err
	}
	if w.file == nil {
		if err := w.prepare(); err != nil {
			return err
		}
	}
	if err := unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, c.fd, &unix.EpollEvent{Events: unix.EPOLLOUT, Fd: int32(c.fd)}); err != nil {
		return os.NewSyscallError("epoll_ctl", err)
	}
	w.open[c.fd] = c
	if late := c.late(); w.wake.IsZero() || late.Before(w.wake) {
		w.wakeAt(late)
	}
	return nil
}

// prepare makes the epoll, and starts the goroutine that waits.
func (w *connects) prepare() error {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("epoll_create", err)
	}
	_ = unix.SetNonblock(fd, true) // so that os.NewFile gives it to Go's epoll
	file := os.NewFile(uintptr(fd), "checks")
	raw, err := file.SyscallConn()
	if err != nil || file.SetReadDeadline(time.Time{}) != nil { // it was not taken there
		_ = file.Close()
		return os.NewSyscallError("epoll_ctl", unix.ENOSPC)
	}
	w.epoll, w.file = fd, file
	w.running.Go(func() { w.wait(raw) })
	context.AfterFunc(w.ctx, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.wakeAt(time.Unix(1, 0))
	})
	return nil
}

// wakeAt has wait look by then. The zero time: only when a connect is decided.
func (w *connects) wakeAt(at time.Time) {
	w.wake = at
	_ = w.file.SetReadDeadline(at)
}

// wait is the goroutine that ends what begin had to leave under way.
func (w *connects) wait(epoll syscall.RawConn) {
	defer w.abandon()
	var ready [64]unix.EpollEvent
	for w.ctx.Err() == nil {
		n := 0
		look := func(fd uintptr) bool {
			n, _ = unix.EpollWait(int(fd), ready[:], 0)
			return n > 0
		}
		if err := epoll.Read(look); err != nil { // the deadline has come
			look(uintptr(w.epoll))
		}
		for _, e := range ready[:max(n, 0)] {
			if c := w.take(int(e.Fd)); c != nil {
				c.decide(e.Events&(unix.EPOLLERR|unix.EPOLLHUP) != 0)
			}
		}
		if n < len(ready) { // one that has an answer is not late
			w.expire(time.Now())
		}
	}
}

// take returns the check of a descriptor, which is waited for no more.
func (w *connects) take(fd int) *connect {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.open[fd]
	w.forget(c)
	return c
}

// forget: to close the descriptor is not enough while a child that was just forked has it, too.
func (w *connects) forget(c *connect) {
	if c != nil {
		delete(w.open, c.fd)
		_ = unix.EpollCtl(w.epoll, unix.EPOLL_CTL_DEL, c.fd, nil)
	}
}

// expire ends the checks that are late, up to together after they are: so that the looks are
// few, each of which is at all that are open.
func (w *connects) expire(now time.Time) {
	w.mu.Lock()
	if w.wake.IsZero() || now.Before(w.wake) {
		w.mu.Unlock()
		return
	}
	var late []*connect
	var next time.Time
	for _, c := range w.open {
		switch at := c.late(); {
		case !at.After(now):
			w.forget(c)
			late = append(late, c)
		case next.IsZero() || at.Before(next):
			next = at
		}
	}
	if soon := now.Add(together); !next.IsZero() && next.Before(soon) {
		next = soon
	}
	w.wakeAt(next)
	w.mu.Unlock()
	for _, c := range late {
		c.close()
		c.done(c.begun, c.fault(os.ErrDeadlineExceeded))
	}
}

// abandon ends everything: nothing is reported.
func (w *connects) abandon() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.open {
		c.close()
	}
	clear(w.open)
	_ = w.file.Close()
}

func (c *connect) late() time.Time { return c.begun.Add(c.check.health.Timeout) }

// sockaddr is an address as system calls want it.
func sockaddr(a netip.AddrPort) unix.Sockaddr {
	ip := a.Addr().Unmap()
	if ip.Is4() {
		return &unix.SockaddrInet4{Addr: ip.As4(), Port: int(a.Port())}
	}
	to := &unix.SockaddrInet6{Addr: ip.As16(), Port: int(a.Port())}
	if zone := ip.Zone(); zone != "" { // of an interface that is not there, 0: the kernel refuses it
		if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
			to.ZoneId = uint32(n)
		} else if found, err := net.InterfaceByName(zone); err == nil {
			to.ZoneId = uint32(found.Index)
		}
	}
	return to
}

// errnoOf is the errno of a system call's error; 0 = none.
func errnoOf(err error) syscall.Errno {
	var errno syscall.Errno
	if err != nil && !errors.As(err, &errno) {
		return unix.EINVAL
	}
	return errno
}
