package main

import (
	"fmt"
	"time"

	"sluice/metrics"
)

// Counters of a listener.
func accepted(l *metrics.ListenerStats) (n uint64) {
	for _, a := range l.Acceptors {
		n += a.Accepted
	}
	return n
}
func received(l *metrics.ListenerStats) uint64 { return total(l.Received) }
func sent(l *metrics.ListenerStats) uint64     { return total(l.Sent) }

func total(c metrics.Counts) (n uint64) {
	for _, x := range c.All() {
		n += x
	}
	return n
}

// rate is what a counter of all chosen listeners grew by a second.
func (s *screen) rate(of func(*metrics.ListenerStats) uint64) (sum float64) {
	for _, name := range s.listenerNames() {
		if s.listener == "" || s.listener == name {
			sum += s.rateOf(of, name)
		}
	}
	return sum
}

func (s *screen) rateOf(of func(*metrics.ListenerStats) uint64, name string) float64 {
	now, before := listenerOf(&s.now, name), listenerOf(&s.before, name)
	if now == nil || before == nil {
		return 0
	}
	return s.perSecond(of(now), of(before))
}

func listenerOf(n *metrics.Snapshot, name string) *metrics.ListenerStats {
	for i := range n.Listeners {
		if n.Listeners[i].Name == name {
			return &n.Listeners[i]
		}
	}
	return nil
}

func (s *screen) acceptedBefore(number int) (n uint64) {
	for i := range s.before.Listeners {
		l := &s.before.Listeners[i]
		if s.listener != "" && l.Name != s.listener {
			continue
		}
		for _, a := range l.Acceptors {
			if a.Number == number {
				n += a.Accepted
			}
		}
	}
	return n
}

// cpuOf is the share of a CPU that a worker had.
func (s *screen) cpuOf(number int) float64 {
	for _, w := range s.now.Workers {
		for _, before := range s.before.Workers {
			if w.Number == number && before.Number == number && w.PID == before.PID && s.seconds() > 0 {
				return max(0, w.CPUSeconds-before.CPUSeconds) / s.seconds()
			}
		}
	}
	return 0
}

// seconds are those between the two looks; 0 = they cannot be compared.
func (s *screen) seconds() float64 {
	if s.before.Time.IsZero() || !s.before.Started.Equal(s.now.Started) {
		return 0
	}
	return max(0, s.now.Time.Sub(s.before.Time).Seconds())
}

func (s *screen) perSecond(now, before uint64) float64 {
	if s.seconds() == 0 || now < before {
		return 0
	}
	return float64(now-before) / s.seconds()
}

func rank(well bool) float64 {
	if well {
		return 1
	}
	return 0
}

// figure writes a figure with three digits or as a whole number.
func figure(x float64) string {
	switch {
	case x == 0:
		return "0"
	case x < 10:
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.0f", x)
}

func inBytes(x float64) string {
	for _, unit := range []string{"B", "kB", "MB", "GB"} {
		if x < 1000 {
			return figure(x) + " " + unit
		}
		x /= 1000
	}
	return figure(x) + " TB"
}

func since(now, then time.Time) string {
	if then.IsZero() {
		return ""
	}
	return (&glance{Time: now}).ago(then)
}
