package host

import (
	"context"
	"fmt"
	"os"

	"sluice/listener"
	"sluice/metrics"
	"sluice/proxy"
)

// drain ends a worker whose supervisor has died: it may not hold the port, and must
// not drop what runs. It goes on through Plans of its own, the last one with other
// phases of its seat:
//
//	no new handshakes ─► queues empty ─► closed ─► sessions end ─► end
//	                                                  └ deadline: cut
func (h *holdings) drain() {
	defer h.close()
	if h.inForce == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), h.inForce.DrainTimeout)
	defer cancel()
	h.unbind()
	if err := h.leave(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "sluice: worker without a supervisor:", err)
	}
	if WaitFor(ctx, func() bool { return h.cells.Sessions.Load() == 0 }) {
		return
	}
	last, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	_ = h.enter(last, proxy.PhaseCut)
	WaitFor(last, func() bool { return h.cells.Sessions.Load() == 0 })
}

// leave serves what has come, and closes the sockets.
func (h *holdings) leave(ctx context.Context) error {
	for hung := range metrics.MaxAcceptors {
		h.rescue(hung, false) // every sibling drains by itself
	}
	if err := h.enter(ctx, proxy.PhaseLeaving); err != nil {
		return err
	}
	var sockets []int
	for _, l := range h.listeners {
		if l.socket >= 0 {
			sockets = append(sockets, l.socket)
		}
	}
	for _, fd := range sockets {
		if err := listener.Quiesce(fd); err != nil {
			return err
		}
	}
	EmptyQueues(ctx, func() int { return Waiting(sockets) }, h.accepted)
	return h.enter(ctx, proxy.PhaseClosed)
}

// enter has the own seat enter a phase, and waits until the loop has.
func (h *holdings) enter(ctx context.Context, phase proxy.Phase) error {
	next := *h.inForce
	plan := next.Plan.Renewed()
	for i := range plan.Seats {
		if s := &plan.Seats[i]; s.Number == h.seat {
			s.Phase = max(s.Phase, phase)
		}
	}
	next.Plan = plan
	if err := h.bind(&next); err != nil {
		return err
	}
	if err := h.commit(); err != nil {
		return err
	}
	WaitFor(ctx, func() bool { return h.runs(plan.Generation) })
	return nil
}

// accepted is how many connections have come so far.
func (h *holdings) accepted() (n uint64) {
	for id := range h.listeners {
		n += h.board.Listener(h.seat, id).Accepted.Load()
	}
	return n
}

// Waiting is how many connections stand in the accept queues of sockets.
func Waiting(sockets []int) (n int) {
	for _, fd := range sockets {
		if q, err := listener.QueueOf(fd); err == nil {
			n += q.Length
		}
	}
	return n
}
