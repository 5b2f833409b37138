package control

import (
	"slices"
	"time"

	"sluice/cmd/internal/host"
	"sluice/metrics"
	"sluice/proxy"
)

// seat is a place for an acceptor: its number, and where connections are passed on to
// it. Its sockets are with the fronts.
type seat struct {
	number   int
	mail     host.Mailbox
	settings proxy.Settings
	leaving  *departure
}

func (s *seat) phase() proxy.Phase {
	if s.leaving == nil {
		return proxy.PhaseServing
	}
	return s.leaving.phase
}

// seating is all seats of a service.
type seating []*seat

// serving are the numbers of those that take connections, in ascending order.
func (all seating) serving() []int {
	var numbers []int
	for _, s := range all {
		if s.leaving == nil {
			numbers = append(numbers, s.number)
		}
	}
	return numbers
}

// numbers are those of all that there are.
func (all seating) numbers() []int {
	var numbers []int
	for _, s := range all {
		numbers = append(numbers, s.number)
	}
	return numbers
}

// vacant is the lowest number that no acceptor has, which still may have sessions; -1 = none.
func (all seating) vacant() int {
	taken := all.numbers()
	for n := range metrics.MaxAcceptors {
		if !slices.Contains(taken, n) {
			return n
		}
	}
	return -1
}

// sorted keeps the seats in the order of their numbers.
func (all seating) sorted() seating {
	slices.SortFunc(all, func(a, b *seat) int { return a.number - b.number })
	return all
}

// resized are copies of the seats, of which count serve: some are called back, some made anew,
// or some leave. The numbers of taken are no place for new ones; where there is none left,
// fewer serve.
func (all seating) resized(count int, taken seating, now time.Time) (next seating, back []int, made seating) {
	for _, old := range all {
		copied := *old
		next = append(next, &copied)
	}
	back = next.callBack(count)
	for len(next.serving()) < count {
		number := append(next, taken...).vacant()
		if number < 0 {
			break
		}
		made = append(made, &seat{number: number})
		next = append(next, made[len(made)-1]).sorted()
	}
	next.leave(count, now)
	return next, back, made
}

// leave lets seats go, the highest numbers first, until count serve.
func (all seating) leave(count int, now time.Time) (left seating) {
	serving := len(all.serving())
	for i := len(all) - 1; i >= 0 && serving > count; i-- {
		if s := all[i]; s.leaving == nil {
			s.leaving = newDeparture(now, time.Time{}) // its sessions end in peace
			left = append(left, s)
			serving--
		}
	}
	return left
}

// callBack lets seats stay that leave and have closed nothing yet, the lowest numbers
// first, until count serve: they are as good as new ones, and sooner there.
func (all seating) callBack(count int) (back []int) {
	serving := len(all.serving())
	for _, s := range all {
		if d := s.leaving; serving < count && d != nil && d.stage <= emptying && len(d.quiesce) == 0 {
			s.leaving = nil
			back = append(back, s.number)
			serving++
		}
	}
	return back
}
