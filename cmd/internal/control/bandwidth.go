package control

import (
	"sluice/cmd/internal/config"
	"sluice/proxy"
)

// planPaces are the bandwidth limits of a listener: bytes from clients go to backends.
func planPaces(b config.Bandwidth) proxy.Paces {
	pace := func(r config.ByteRate) proxy.Pace { return proxy.Pace{Rate: int64(r.Rate), Burst: int64(r.AtOnce())} }
	return proxy.Paces{
		Session: [2]proxy.Pace{pace(b.Upload), pace(b.Download)},
		All:     [2]proxy.Pace{pace(b.TotalUpload), pace(b.TotalDownload)},
	}
}

// forgetSpent lets a listener whose total bandwidth has changed begin anew.
func (s *service) forgetSpent(f, was *front) {
	now := planPaces(f.config.Bandwidth).All
	if was != nil && planPaces(was.config.Bandwidth).All == now {
		return
	}
	for d := range now {
		s.board.Spent()[f.id.Index()][d].Store(0)
	}
}
