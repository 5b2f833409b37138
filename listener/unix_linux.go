package listener

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A group may be a unix socket. The kernel spreads nothing there: it is one socket with one
// queue, and each seat has a descriptor of it.
//
//	seat 0 ─┐
//	seat 1 ─┼─► socket ─► place: "/run/web.sock", or "@web" ─► the file, if it has one
//	seat 2 ─┘      ▲
//	               └── another group of this process on the same place (Options.Beside) has it, too
//
// So it goes on listening, and its file stays, until the last group has let it go.

// unixPrefix begins the address of one.
const unixPrefix = "unix:"

// unixPath is the path in an address, or an @ and the abstract name.
func unixPath(address string) (path string, is bool) { return strings.CutPrefix(address, unixPrefix) }

// place is a unix socket under its name.
type place struct {
	path      string
	file      *File    // nil = an abstract name, which goes with the socket
	users     []*Group // that listen there, or are about to
	withdrawn bool     // no new client comes
}

// Unix says whether the group is a unix socket: its seats have one queue between them.
func (g *Group) Unix() bool { return g.place != nil }

// Address is how people read Addr; a unix socket's is "unix:" and the path.
func (g *Group) Address() string {
	if g.place != nil {
		return unixPrefix + g.place.path
	}
	return g.addr.String()
}

// openUnix opens a group at a path, or joins one that is Beside it there.
func (g *Group) openUnix(path string, seats []int) error {
	for _, other := range g.options.Beside {
		if p := other.place; p != nil && p.path == path && !p.withdrawn && other.Len() > 0 {
			fd, err := duplicate(other.any())
			if err != nil {
				return err
			}
			g.place = p
			g.begin(fd, seats[0])
			return g.addAll(seats[1:])
		}
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	g.place = &place{path: path}
	g.begin(fd, seats[0])
	if err := g.place.bind(fd, g.options.Rights); err != nil {
		return err
	}
	return g.addAll(seats[1:])
}

func (g *Group) begin(fd, seat int) {
	g.place.users = append(g.place.users, g)
	g.put(fd, seat)
}

func (g *Group) addAll(seats []int) error {
	for _, seat := range seats {
		if err := g.add(seat); err != nil {
			return err
		}
	}
	return nil
}

// bind gives the socket its name. No client can connect before it listens, so the rights
// are there in time.
func (p *place) bind(fd int, r Rights) (err error) {
	bind := func() error {
		if err := unix.Bind(fd, &unix.SockaddrUnix{Name: p.path}); err != nil { // it takes an @ for an abstract name
			return fmt.Errorf("bind: %w", err)
		}
		return nil
	}
	if p.path[0] == '@' {
		return bind()
	}
	if p.file, err = ClaimFile(p.path, bind); err != nil {
		return err
	}
	return p.file.Give(r)
}

// listenUnix makes the socket live, and further seats take part.
func (g *Group) listenUnix() error {
	if !g.live && len(g.place.users) > 1 && g.place.file != nil { // it has another group's rights so far
		if err := g.place.file.Give(g.options.Rights); err != nil {
			return err
		}
	}
	if !g.live {
		if err := unix.Listen(g.any(), g.backlog); err != nil { // where it listens already, this sets the limit and no more
			return err
		}
		g.live = true
	}
	for _, seat := range g.Seats() {
		if !g.order.has(g, seat) {
			g.order.add(g, seat)
		}
	}
	return nil
}

// adjustUnix sets what can change of a live one.
func (g *Group) adjustUnix(o Options) error {
	g.options.Backlog = o.Backlog
	if g.place.file != nil && o.Rights != g.options.Rights {
		if err := g.place.file.Give(o.Rights); err != nil {
			return err
		}
		g.options.Rights = o.Rights
	}
	if !g.live {
		return nil
	}
	return unix.Listen(g.any(), g.backlog)
}

// Withdraw lets no new client come to a unix socket; what waits in its queue can still
// be accepted. A file is gone after it. It does nothing while another group has the
// socket, and to sockets other than unix sockets, which are quiesced.
func (g *Group) Withdraw() {
	p := g.place
	if p == nil || p.withdrawn || len(p.users) > 1 || g.Len() == 0 {
		return
	}
	p.withdrawn = true
	if p.file != nil {
		p.file.Remove()
		return
	}
	_ = unix.Shutdown(g.any(), unix.SHUT_RD) // an abstract name stays with the socket
}

// leavePlace lets a unix socket go. The last group ends listening there, for all that
// hold it: what still waits in its queue is reset.
func (g *Group) leavePlace() error {
	p := g.place
	if p == nil || !slices.Contains(p.users, g) {
		return nil
	}
	g.Withdraw()
	p.users = slices.DeleteFunc(p.users, func(u *Group) bool { return u == g })
	if len(p.users) > 0 {
		return nil
	}
	if err := unix.Shutdown(g.any(), unix.SHUT_RD); err != nil && g.live {
		return err
	}
	return nil
}

// any is one of its descriptors.
func (g *Group) any() int {
	for _, fd := range g.fds {
		if fd >= 0 {
			return fd
		}
	}
	return -1
}

func duplicate(fd int) (int, error) {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("dup: %w", err)
	}
	return dup, nil
}
