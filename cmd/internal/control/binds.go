package control

import "sluice/cmd/internal/config"

// at is one address of a configured listener.
type at struct {
	listener config.Listener
	bind     config.Bind
}

// addressKey names one: no two have the same.
type addressKey struct {
	listener string
	address  string
}

func (a at) key() addressKey { return addressKey{a.listener.Name, a.bind.Meant()} }

// addressesOf are those of all listeners, in the order of the configuration.
func addressesOf(c config.Config) (all []at) {
	for _, l := range c.Listeners {
		for _, bind := range l.Binds() {
			all = append(all, at{l, bind})
		}
	}
	return all
}

// byAddress are the fronts that serve.
func (s *state) byAddress() map[addressKey]*front {
	all := map[addressKey]*front{}
	for _, f := range s.fronts {
		if f.leaving == nil {
			all[at{f.config, f.bind}.key()] = f
		}
	}
	return all
}
