package listener

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"sluice/listener/netns"
)

// Add opens a socket for a seat that has none. It does not listen before Listen, also
// in a live group: so it can be taken away again, and no connection with it.
func (g *Group) Add(seat int) error {
	if err := netns.Within(g.options.Netns, func() error { return g.add(seat) }); err != nil {
		return fmt.Errorf("listener %s, seat %d: %w", g.Address(), seat, err)
	}
	return nil
}

func (g *Group) add(seat int) error {
	if seat < 0 || g.FD(seat) >= 0 {
		return errors.New("the seat has a socket, or can have none")
	}
	if g.place != nil {
		fd, err := duplicate(g.any())
		if err == nil {
			g.put(fd, seat)
		}
		return err
	}
	if g.options.socket == nil {
		return errors.New("an adopted group grows only where it was opened")
	}
	fd, err := bound(g.options, g.addr, true)
	if errors.Is(err, unix.EADDRINUSE) {
		return heldByOthers(err)
	}
	if err != nil {
		return err
	}
	g.put(fd, seat)
	return nil
}

func (g *Group) put(fd, seat int) {
	for len(g.fds) <= seat {
		g.fds = append(g.fds, -1)
	}
	g.fds[seat] = fd
}

// Remove ends listening on a seat's socket, for all that hold it, and closes it.
// What waits in its queue or is half-open is reset, unless the kernel migrates it:
// steer away first and let the queue run empty. A group's last socket stays until
// Close, because the address would be free for others without it. After an error
// of the system the socket has left all the same.
func (g *Group) Remove(seat int) error {
	fd := g.FD(seat)
	if fd < 0 {
		return fmt.Errorf("listener %s: seat %d has no socket", g.Address(), seat)
	}
	if g.Len() == 1 {
		return fmt.Errorf("listener %s: seat %d has the last socket", g.Address(), seat)
	}
	err := g.Stop(seat)
	g.fds[seat] = -1
	if err = errors.Join(err, unix.Close(fd)); err != nil {
		return fmt.Errorf("listener %s, seat %d: %w", g.Address(), seat, err)
	}
	return nil
}

// Adjust brings the sockets to options that need no other ones (SameSockets): the
// backlog, the Rights of a unix socket's file, and the Keeping of connections accepted from now on. It holds for all
// processes that hold the sockets, and moves no connection.
func (g *Group) Adjust(o Options) error {
	if err := netns.Within(g.options.Netns, func() error { return g.adjust(o) }); err != nil {
		return fmt.Errorf("listener %s: %w", g.Address(), err)
	}
	return nil
}

func (g *Group) adjust(o Options) error {
	if g.options.socket == nil && g.place == nil || !g.options.SameSockets(o) {
		return errors.New("the options need other sockets")
	}
	if err := g.settleBacklog(o.Backlog); err != nil {
		return err
	}
	if g.place != nil {
		return g.adjustUnix(o)
	}
	g.options.Backlog, g.options.Keeping = o.Backlog, o.Keeping
	for _, seat := range g.Seats() {
		if err := set(g.fds[seat], o.keeping(o.MPTCP)); err != nil {
			return fmt.Errorf("seat %d: %w", seat, err)
		}
		if !g.order.has(g, seat) {
			continue
		}
		if err := unix.Listen(g.fds[seat], g.backlog); err != nil { // where it listens already, this sets the limit and no more
			return fmt.Errorf("seat %d: listen: %w", seat, err)
		}
	}
	return nil
}
