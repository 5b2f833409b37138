package host

import (
	"maps"

	"sluice/metrics"
	"sluice/proxy"
)

// rescues says which seats serve the sockets of which others. It outlives the
// acceptors' processes: a successor goes on with them.
type rescues map[int]map[int]bool // by, hung

func (r rescues) set(by, hung int, on bool) {
	if !on {
		delete(r[by], hung)
		return
	}
	if r[by] == nil {
		r[by] = map[int]bool{}
	}
	r[by][hung] = true
}

// forget takes a seat that has left out of them, on both sides.
func (r rescues) forget(seat int) {
	delete(r, seat)
	for by := range r {
		delete(r[by], seat)
	}
}

// lends lists the listeners of which a rescuer is given the hung seat's sockets: all
// that the seat still accepts from.
func (e *edition) lends(hung int) (listeners []metrics.ID) {
	if !e.has(hung) {
		return nil
	}
	for i := range e.Plan.Listeners {
		l := &e.Plan.Listeners[i]
		if max(l.Phase, e.phases[hung]) < proxy.PhaseClosed && e.socket(l.ID, hung) >= 0 {
			listeners = append(listeners, l.ID)
		}
	}
	return listeners
}

func (t *threads) Rescue(by, hung int, on bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rescues.set(by, hung, on)
	t.lendLocked(by)
}

// lendLocked gives a rescuer what it should serve, where that has changed.
func (t *threads) lendLocked(by int) {
	a := t.all[by]
	if a == nil || !a.running {
		return
	}
	for hung := range a.lent {
		if !t.rescues[by][hung] {
			delete(a.lent, hung)
			a.Rescue(hung, nil)
		}
	}
	for hung := range t.rescues[by] {
		s := &proxy.Sockets{Listeners: map[metrics.ID]int{}, Mail: t.inForce.mailbox(hung).Receive}
		for _, id := range t.inForce.lends(hung) {
			s.Listeners[id] = t.inForce.socket(id, hung)
		}
		if had := a.lent[hung]; had == nil || !maps.Equal(had.Listeners, s.Listeners) {
			a.lent[hung] = s
			a.Rescue(hung, s)
		}
	}
}

func (s *supervisor) Rescue(by, hung int, on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rescues.set(by, hung, on)
	if w := s.all[by]; w != nil {
		w.wakeUp()
	}
}
