package metrics

import "math"

// Charts are ticks of a History, as JSON: short names, for there are up to 180 x 64
// sockets in them.
type Charts struct {
	Listener string      `json:"listener"` // the listener's name; "" = all
	Keeps    int         `json:"keeps"`    // ticks there are at most
	Last     uint64      `json:"last"`     // number of the last; to be asked with next time
	Ticks    []ChartTick `json:"ticks"`
}

// ChartTick is one of them.
type ChartTick struct {
	Time     int64         `json:"t"`             // milliseconds since the epoch
	Received float64       `json:"rx"`            // bytes a second from clients
	Sent     float64       `json:"tx"`            // bytes a second to clients
	P50      float64       `json:"p50,omitempty"` // of the time to connect, in seconds; left out without any
	P99      float64       `json:"p99,omitempty"`
	Sockets  []ChartSocket `json:"s"`
}

// ChartSocket is an acceptor's part.
type ChartSocket struct {
	Acceptor int     `json:"a"`
	Accepts  float64 `json:"r"`           // a second
	Held     float64 `json:"h"`           // sessions
	Queue    *int    `json:"q,omitempty"` // left out if it was not read
}

// Since returns the ticks after number last of one listener, or "" for all. All that
// there are if last is 0, or is none of this History's.
func (h *History) Since(listener string, last uint64) Charts {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := Charts{Listener: listener, Keeps: HistoryTicks, Last: h.number, Ticks: []ChartTick{}}
	oldest := h.number - uint64(len(h.ticks))
	if last < oldest || last > h.number {
		last = oldest
	}
	for n := last; n < h.number; n++ {
		if t, ok := h.ticks[n%HistoryTicks].chart(listener); ok {
			c.Ticks = append(c.Ticks, t)
		}
	}
	return c
}

func (t *tick) chart(listener string) (c ChartTick, ok bool) {
	p, ok := t.parts[listener]
	if !ok {
		return c, false
	}
	c = ChartTick{Time: t.at.UnixMilli(), Received: round(p.received), Sent: round(p.sent), Sockets: make([]ChartSocket, len(t.seats))}
	if l := t.connect[t.pools[listener]]; l != nil {
		c.P50, c.P99 = l.quantile(.5), l.quantile(.99)
	}
	for i, s := range p.sockets {
		c.Sockets[i] = ChartSocket{Acceptor: t.seats[i], Accepts: round(s.accepts), Held: round(s.held)}
		if s.queue >= 0 {
			n := int(s.queue)
			c.Sockets[i].Queue = &n
		}
	}
	return c, true
}

// round keeps the digits that a chart can show.
func round(x float32) float64 { return math.Round(float64(x)*100) / 100 }

// quantile is the q-quantile in seconds, as Prometheus works it out; 0 without data.
func (l *latencies) quantile(q float64) float64 {
	total := 0.0
	for _, n := range l {
		total += float64(n)
	}
	if total == 0 {
		return 0
	}
	rank, below, lower := q*total, 0.0, 0.0
	for i, n := range l {
		if i == len(LatencyBuckets) {
			return LatencyBuckets[i-1]
		}
		if c := float64(n); c > 0 && below+c >= rank {
			return lower + (LatencyBuckets[i]-lower)*(rank-below)/c
		}
		below += float64(n)
		lower = LatencyBuckets[i]
	}
	return 0
}
