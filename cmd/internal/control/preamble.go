package control

import (
	"slices"

	"sluice/cmd/internal/config"
	"sluice/metrics"
	"sluice/proxy"
	"sluice/proxy/pool"
)

var proxyModes = map[string]proxy.ProxyMode{
	config.ProxyOff: proxy.ProxyOff, config.ProxyOptional: proxy.ProxyOptional, config.ProxyRequired: proxy.ProxyRequired,
}

// numberRoutes gives each route its number. The cells of new ones are opened.
func (s *state) numberRoutes(l *ledger, board *metrics.Board) error {
	s.routes = map[routeName]metrics.ID{}
	for _, f := range s.fronts {
		for _, r := range f.config.Routes {
			name := routeName{f.config.Name, r.Name}
			id, isNew, err := l.routes.mint(name)
			if err != nil {
				return err
			}
			if isNew {
				board.OpenRoute(id)
			}
			s.routes[name] = id
		}
	}
	return nil
}

// planPreamble is what a listener asks a connection before it dials.
func (s *state) planPreamble(l config.Listener) proxy.Preamble {
	made := proxy.Preamble{Proxy: proxyModes[l.ProxyProtocol], From: config.Prefixes(l.ProxyProtocolFrom), Timeout: l.PreambleTimeout, Postgres: l.StartTLS == config.StartTLSPostgres}
	for _, r := range l.Routes {
		p, _ := s.pool(r.Pool) // config has checked that it is there
		made.Routes = append(made.Routes, proxy.Route{ID: s.routes[routeName{l.Name, r.Name}], Name: r.Name, Pool: p.id, SNI: r.SNI, ALPN: r.ALPN, Source: config.Prefixes(r.Source)})
	}
	return made
}

// poolsOf are the names of the pools that a listener leads to.
func poolsOf(l config.Listener) []string {
	names := []string{l.Pool}
	for _, r := range l.Routes {
		names = append(names, r.Pool)
	}
	return names
}

// introduction is what sessions are introduced to the backends of a pool with.
func introduction(c config.Pool) (made pool.SendProxy) {
	switch c.SendProxy {
	case config.SendProxyV1:
		made.Version = 1
	case config.SendProxyV2:
		made.Version = 2
		says := func(word string) bool { return slices.Contains(c.SendProxyTLVs, word) }
		made.UniqueID, made.Authority, made.ALPN = says(config.TLVUniqueID), says(config.TLVAuthority), says(config.TLVALPN)
		made.Checksum, made.PassOn = says(config.TLVChecksum), says(config.TLVPassOn)
		for _, text := range c.SendProxyTLVs {
			if kind, value, own := config.OwnTLV(text); own {
				made.Own = append(made.Own, pool.TLV{Type: kind, Value: []byte(value)})
			}
		}
	}
	return made
}

// showProxy is what a listener makes of PROXY headers; "" = nothing.
func showProxy(l config.Listener) string {
	if l.ProxyProtocol == config.ProxyOff {
		return ""
	}
	return l.ProxyProtocol
}

func (s *state) showRoutes(l config.Listener) (all []metrics.Route) {
	for _, r := range l.Routes {
		all = append(all, metrics.Route{ID: s.routes[routeName{l.Name, r.Name}], Name: r.Name, Pool: r.Pool, On: r.On()})
	}
	return all
}
