package control

import (
	"fmt"
	"slices"

	"sluice/cmd/internal/config"
	"sluice/listener"
	"sluice/listener/netns"
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
	// A namespace has interfaces and settings of its own: what can be had is asked there.
	add := func(table, name, network string, e listener.Extras, mptcp bool) {
		err := netns.Within(network, func() error {
			for _, err := range e.Refused() {
				all = append(all, fmt.Errorf("%s.%s.%w", table, name, err))
			}
			if !mptcp {
				return nil
			}
			if err := listener.ProbeMultipath(); err != nil {
				all = append(all, fmt.Errorf("%s.%s.mptcp: %w", table, name, err))
			}
			return nil
		})
		if err != nil {
			all = append(all, fmt.Errorf("%s.%s.netns: %w", table, name, err))
		}
	}
	for _, l := range c.Listeners {
		add("listener", l.Name, l.NetnsPath(), extrasOf(l), l.MPTCP)
		if err := unknownOwner(l); err != nil {
			all = append(all, fmt.Errorf("listener.%s.%w", l.Name, err))
		}
	}
	for _, p := range c.Pools {
		add("pool", p.Name, p.NetnsPath(), listener.Extras{Congestion: p.Congestion, TOS: p.TOS, Mark: p.Mark, Interface: p.Interface, Transparent: p.Transparent}, false)
	}
	return all
}

// Fallbacks are what a configuration asks for and this kernel lacks, where the service does
// with something else.
func Fallbacks(c config.Config) (all []string) {
	for _, p := range c.Pools {
		if !p.MPTCP {
			continue
		}
		_ = netns.Within(p.NetnsPath(), func() error { // that it can't be entered, Refusals says
			if err := listener.ProbeMultipath(); err != nil {
				all = append(all, fmt.Sprintf("pool.%s.mptcp: %v: connections to its backends are plain ones until then", p.Name, err))
			} else if err := listener.ProbeMultipathTimeout(); err != nil && timesOut(c, p) {
				all = append(all, fmt.Sprintf("pool.%s.mptcp: user_timeout: %v: it does not hold where a backend speaks Multipath TCP", p.Name, err))
			}
			return nil
		})
	}
	return all
}

// timesOut says whether connections of p have a user_timeout, of its own or of a listener
// that leads there.
func timesOut(c config.Config, p config.Pool) bool {
	return p.UserTimeout > 0 || p.UserTimeout == config.AsListener && slices.ContainsFunc(c.Listeners, func(l config.Listener) bool {
		return l.UserTimeout > 0 && slices.Contains(poolsOf(l), p.Name)
	})
}

// unknownOwner says that this machine does not know the user or group that is to own the
// listener's socket.
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
