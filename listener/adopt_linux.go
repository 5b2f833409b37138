package listener

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Adopt makes a Group of listening sockets that another process opened: a
// worker's one or a successor's all, in group order, as seats 0 and up. They must
// be live members of one group, so Listen has no part in this, and it can shrink
// but not grow. The group owns the descriptors from then on; after an error the
// caller still does.
func Adopt(fds []int) (*Group, error) {
	if len(fds) == 0 {
		return nil, errors.New("adopt: no sockets")
	}
	g := &Group{live: true, order: new(order)}
	cookies := make(map[uint64]int)
	for i, fd := range fds {
		if err := g.adopt(fd, cookies); err != nil {
			return nil, fmt.Errorf("adopt socket %d (descriptor %d): %w", i, fd, err)
		}
	}
	return g, nil
}

func (g *Group) adopt(fd int, cookies map[uint64]int) error {
	for _, want := range []struct {
		name, value int
		text        string
	}{
		{unix.SO_TYPE, unix.SOCK_STREAM, "not a stream socket"},
		{unix.SO_ACCEPTCONN, 1, "not listening"},
		{unix.SO_REUSEPORT, 1, "SO_REUSEPORT is not set"},
	} {
		got, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, want.name)
		if err != nil {
			return err
		}
		if got != want.value {
			return errors.New(want.text)
		}
	}
	addr, err := localAddr(fd)
	if err != nil {
		return err
	}
	queue, err := QueueOf(fd)
	if err != nil {
		return err
	}
	if len(g.fds) == 0 {
		g.addr, g.backlog = addr, queue.Limit
	}
	if addr != g.addr {
		return fmt.Errorf("bound to %s, the first one to %s", addr, g.addr)
	}
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	if err != nil {
		return fmt.Errorf("SO_COOKIE: %w", err)
	}
	if first, twice := cookies[cookie]; twice {
		return fmt.Errorf("the same socket as descriptor %d", first)
	}
	cookies[cookie] = fd
	// Exec and SCM_RIGHTS bring descriptors without the flag, and some without O_NONBLOCK.
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		return fmt.Errorf("set O_NONBLOCK: %w", err)
	}
	g.order.add(g, len(g.fds))
	g.fds = append(g.fds, fd)
	return nil
}
