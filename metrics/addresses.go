package metrics

import "maps"

// Add gives l one more of the listener's addresses: its queues count with the others', by
// acceptor, and of what steers the one is shown that is not as it was asked for.
func (l *Listener) Add(address string, steering Steering, queues map[int]Queue) {
	l.Addresses = append(l.Addresses, address)
	if l.Steering.Reason == "" && steering.Reason != "" {
		l.Steering = steering
	}
	sum := maps.Clone(queues)
	for seat, q := range l.Queues {
		r := sum[seat]
		sum[seat] = Queue{q.Length + r.Length, q.Limit + r.Limit, q.Drops + r.Drops}
	}
	l.Queues = sum
}
