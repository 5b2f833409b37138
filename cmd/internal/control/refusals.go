package control

import (
	"fmt"

	"sluice/cmd/internal/config"
	"sluice/listener"
)

// extrasOf are the options of a listener's sockets that few need.
func extrasOf(l config.Listener) listener.Extras {
	return listener.Extras{
		FastOpen: l.FastOpen, DeferAccept: l.DeferAccept, Congestion: l.Congestion, TOS: l.TOS, Mark: l.Mark, Interface: l.Interface,
	}
}

// Refusals are the socket options of a configuration that the kernel refuses, or the
// rights of this user do: a service that asks for them does not start.
func Refusals(c config.Config) (all []error) {
	add := func(table, name string, e listener.Extras) {
		for _, err := range e.Refused() {
			all = append(all, fmt.Errorf("%s.%s.%w", table, name, err))
		}
	}
	for _, l := range c.Listeners {
		add("listener", l.Name, extrasOf(l))
		if err := unknownOwner(l); err != nil {
			all = append(all, fmt.Errorf("listener.%s.%w", l.Name, err))
		}
	}
	for _, p := range c.Pools {
		add("pool", p.Name, listener.Extras{Congestion: p.Congestion, TOS: p.TOS, Mark: p.Mark, Interface: p.Interface})
	}
	return all
}

// unknownOwner says that this machine does not know who shall own the listener's socket.
func unknownOwner(l config.Listener) error {
	if l.SocketUser != "" {
		if _, err := listener.UserID(l.SocketUser); err != nil {
			return fmt.Errorf("socket_user: %w", err)
		}
	}
	if l.SocketGroup != "" {
		if _, err := listener.GroupID(l.SocketGroup); err != nil {
			return fmt.Errorf("socket_group: %w", err)
		}
	}
	return nil
}
