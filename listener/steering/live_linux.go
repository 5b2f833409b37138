package steering

import (
	"errors"
	"fmt"
)

// Place steers to a seat with this socket of the group, which listens: a further
// acceptor, a seat that was removed and stays after all, or a new socket in the place
// of one that was closed. It ends the row's Draining. A seat number used again has had
// its row Reset.
func (s *Steering) Place(seat, fd int) error {
	if err := mustBeSeat(seat); err != nil {
		return err
	}
	if s.program != nil {
		if err := s.program.place(seat, fd); err != nil {
			return err
		}
	}
	before, had := s.sockets[seat]
	s.sockets[seat] = fd
	if err := s.choose(); err != nil {
		if delete(s.sockets, seat); had {
			s.sockets[seat] = before
		}
		return err
	}
	s.rows.SetDraining(seat, false)
	return nil
}

// Remove steers nothing new to a seat from now on, while its socket still listens
// and its queue is served. Handshakes under way complete, and so does one whose SYN
// another CPU is steering at this moment. After an error nothing has changed. Where
// no program can be attached (Multipath TCP, a shared group) that is always so, and
// the caller quiesces the socket instead (listener.Quiesce).
func (s *Steering) Remove(seat int) error {
	fd, has := s.sockets[seat]
	switch {
	case !has:
		return fmt.Errorf("remove seat %d: it is not steered to", seat)
	case s.barred != nil:
		return fmt.Errorf("remove seat %d: %w", seat, s.barred)
	case len(s.sockets) == 1:
		return fmt.Errorf("remove seat %d: %w", seat, errLast)
	}
	delete(s.sockets, seat)
	if err := s.choose(); err != nil {
		s.sockets[seat] = fd
		return fmt.Errorf("remove seat %d: %w", seat, err)
	}
	s.rows.SetDraining(seat, true)
	return nil
}

// Avoids says that nothing new is steered to a seat, though its socket may listen. Where
// it does not, Remove or listener.Quiesce makes it so.
func (s *Steering) Avoids(seat int) bool {
	_, has := s.sockets[seat]
	return !has && s.barred == nil
}

var errLast = errors.New("it is the last one")

// Removed tells that a seat's socket has been closed, or with -1 one of another group
// on the same address. It comes right after, before the next one is closed: the kernel has given the number of the closed socket to its last, and
// classic programs go by numbers. Until then the hash chooses for the last.
func (s *Steering) Removed(seat int) error {
	delete(s.sockets, seat) // it may not have been removed first
	if s.program != nil && seat >= 0 {
		if err := s.program.remove(seat); err != nil {
			return err
		}
	}
	return s.choose()
}

// choose brings what is attached in line with s.sockets and the kernel's order.
func (s *Steering) choose() error {
	switch {
	case s.barred != nil:
		return nil
	case s.program != nil:
		return s.program.steerTo(s.seats())
	case s.info.Effective == CPU:
		return s.cpu()
	}
	return s.hash()
}
