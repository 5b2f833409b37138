package proxy

import (
	"fmt"
	"syscall"
	"testing"
)

// masks are all 32 combinations of the events that epoll can tell of a connection.
func masks() (all []uint32) {
	bits := [5]uint32{epollIn, epollOut, epollErr, epollHup, epollRdhup}
	for n := range uint32(32) {
		var m uint32
		for i, b := range bits {
			m |= n >> i & 1 * b
		}
		all = append(all, m)
	}
	return all
}

func maskName(m uint32) string {
	name := ""
	for _, b := range []struct {
		bit  uint32
		name string
	}{{epollIn, "IN"}, {epollOut, "OUT"}, {epollErr, "ERR"}, {epollHup, "HUP"}, {epollRdhup, "RDHUP"}} {
		if m&b.bit != 0 {
			name += "+" + b.name
		}
	}
	return (name + "+none")[1:]
}

// TestReadinessOf says for each bit of readiness by which events it is set.
func TestReadinessOf(t *testing.T) {
	by := map[readiness]uint32{
		readable: epollIn | epollRdhup | epollHup | epollErr,
		writable: epollOut | epollHup | epollErr,
		eof:      epollRdhup | epollHup,
		hup:      epollHup,
		broken:   epollErr,
	}
	for _, m := range masks() {
		for bit, events := range by {
			if got, want := readinessOf(m)&bit != 0, m&events != 0; got != want {
				t.Errorf("%s: bit %b is %v, want %v", maskName(m), bit, got, want)
			}
		}
	}
	if got := readinessOf(epollPri); got != readable|urgent {
		t.Errorf("PRI: %b", got)
	}
}

// row says what becomes of a session when one of its sides is told a mask. The first
// row that matches holds.
type row struct {
	any  uint32 // it matches masks with one of these bits (0: with any)
	all  uint32 // and all of these
	want string
}

const gone, ends = epollErr | epollHup, epollRdhup | epollHup

// eventTable is the truth table of the loop: in each state, each side, each mask.
// Behind a mask is what the kernel has there: IN a byte to read, RDHUP and HUP then
// EOF, ERR then ECONNRESET.
//
// An outcome is the close reason or the state, and what became of the client and of the
// backend: closed, reset, or shut (told by SHUT_WR).
var eventTable = []struct {
	state string
	begin func(w *world) *session
	side  side
	rows  []row
}{
	{"dialing", dialingSession, client, []row{
		{gone, 0, "client_reset: client closed, backend reset"},
		{0, 0, "dialing: client open, backend open"}, // a FIN of the client is no reason to end
	}},
	{"dialing", dialingSession, backend, []row{
		{gone, 0, "connect_failed: client reset, backend closed"},
		{0, epollOut | epollRdhup, "half-closed: client shut, backend open"}, // it said goodbye at once
		{epollOut, 0, "relaying: client open, backend open"},
		{0, 0, "dialing: client open, backend open"},
	}},
	{"upgrading", upgradingSession, client, []row{
		{gone, 0, "client_reset: client closed, backend reset"},
		{0, 0, "upgrading: client open, backend open"},
	}},
	{"upgrading", upgradingSession, backend, []row{
		{epollIn, 0, "starttls_refused: client reset, backend reset"}, // it says something else than yes
		{epollErr, 0, "backend_reset: client reset, backend closed"},
		{ends, 0, "starttls_refused: client reset, backend reset"},
		{0, 0, "upgrading: client open, backend open"},
	}},
	{"waiting", waitingSession, client, []row{
		{gone, 0, "client_reset: client closed"},
		{0, epollRdhup | epollIn, "waiting: client open"}, // it wants an answer to what it sent
		{0, epollRdhup, "client_eof: client reset"},       // it sent nothing, and has left
		{0, 0, "waiting: client open"},
	}},
	{"preamble", preambleSession, client, []row{
		{gone, 0, "client_reset: client closed"},
		{epollIn, 0, "proxy_missing: client reset"}, // it begins with something else
		{epollRdhup, 0, "client_eof: client reset"},
		{0, 0, "preamble: client open"},
	}},
	{"relaying, both open", openSession, client, []row{
		{epollErr, 0, "client_reset: client closed, backend reset"},
		{ends, 0, "half-closed: client open, backend shut"},
		{0, 0, "relaying: client open, backend open"},
	}},
	{"relaying, both open", openSession, backend, []row{
		{epollErr, 0, "backend_reset: client reset, backend closed"},
		{ends, 0, "half-closed: client shut, backend open"},
		{0, 0, "relaying: client open, backend open"},
	}},
	{"client is done", clientDone, client, []row{
		{epollErr, 0, "client_reset: client closed, backend reset"},
		{0, 0, "half-closed: client open, backend shut"},
	}},
	{"client is done", clientDone, backend, []row{
		{epollErr, 0, "backend_reset: client reset, backend closed"},
		{ends, 0, "client_eof: client closed, backend closed"},
		{0, 0, "half-closed: client open, backend shut"},
	}},
	{"client is done, not all acknowledged", clientDoneUnsent, client, []row{
		{epollErr, 0, "client_reset: client closed, backend closed"}, // a RST would take back what is on its way
		{0, 0, "half-closed: client open, backend shut"},
	}},
	{"backend is done", backendDone, client, []row{
		{epollErr, 0, "client_reset: client closed, backend reset"},
		{ends, 0, "backend_eof: client closed, backend closed"},
		{0, 0, "half-closed: client shut, backend open"},
	}},
	{"a byte held for the client", heldForClient, client, []row{
		{epollErr, 0, "client_reset: client closed, backend reset"},
		{ends, 0, "half-closed: client open, backend shut"},
		{0, 0, "relaying: client open, backend open"},
	}},
	{"a byte held for the client", heldForClient, backend, []row{
		{epollErr, 0, "backend_reset: client reset, backend closed"},
		{0, 0, "relaying: client open, backend open"}, // its FIN waits behind the byte
	}},
	{"a byte and a FIN held for the client", heldWithFIN, client, []row{
		{epollErr, 0, "client_reset: client closed, backend reset"},
		{epollHup, 0, "client_eof: client closed, backend closed"},
		{0, epollRdhup | epollOut, "client_eof: client closed, backend closed"},
		{epollRdhup, 0, "half-closed: client open, backend shut"},
		{epollOut, 0, "half-closed: client shut, backend open"},
		{0, 0, "relaying: client open, backend open"},
	}},
	{"a byte and a FIN held for the client", heldWithFIN, backend, []row{
		{epollErr, 0, "backend_reset: client reset, backend closed"},
		{0, 0, "relaying: client open, backend open"},
	}},
}

func TestEveryEventInEveryState(t *testing.T) {
	for _, e := range eventTable {
		for _, m := range masks() {
			t.Run(fmt.Sprintf("%s/%s/%s", e.state, [2]string{"client", "backend"}[e.side], maskName(m)), func(t *testing.T) {
				want := ""
				for _, r := range e.rows {
					if (r.any == 0 || r.any&m != 0) && r.all&m == r.all {
						want = r.want
						break
					}
				}
				w := newWorld(t, func(p *Plan) { p.Pools[0].Targets = p.Pools[0].Targets[:1] })
				s := e.begin(w)
				fds := s.fd
				w.tell(fds[e.side], m)
				if got := w.outcome(s, fds); got != want {
					t.Errorf("got  %s\nwant %s", got, want)
				}
				w.settled()
			})
		}
	}
}

// tell gives a descriptor an event, and what the kernel has behind it.
func (w *world) tell(fd int32, m uint32) {
	f := w.at(int(fd))
	if m&epollIn != 0 {
		f.in = append(f.in, 'i')
	}
	f.eof = f.eof || m&ends != 0
	if m&epollErr != 0 {
		f.err = syscall.ECONNRESET
	}
	if m&(epollOut|epollHup) != 0 {
		f.room = 1 << 20
	}
	w.turn(w.on(fd, m))
}

func (w *world) outcome(s *session, fds [2]int32) string {
	got := w.ended()
	if got == "" {
		got = [...]string{"free", "dialing", "upgrading", "preamble", "waiting", "relaying"}[s.state]
		if s.halfClosed() {
			got = "half-closed"
		}
	}
	for sd, fd := range fds {
		if fd < 0 {
			continue
		}
		f := w.fds[int(fd)]
		what := "open"
		switch {
		case f.closed == "close":
			what = "closed"
		case f.closed == "reset":
			what = "reset"
		case f.shut:
			what = "shut"
		}
		got += []string{": client ", ", backend "}[sd] + what
	}
	return got
}

func dialingSession(w *world) *session {
	_, s := w.accept()
	w.turn(w.on(s.fd[client], epollOut))
	return s
}

func waitingSession(w *world) *session {
	w.faults["socket"] = append(w.faults["socket"], syscall.EMFILE)
	_, s := w.accept()
	return s
}

func openSession(w *world) *session { s, _ := w.relaying(); return s }

func clientDone(w *world) *session {
	s, _ := w.relaying()
	w.tell(s.fd[client], epollIn|epollRdhup)
	return s
}

func clientDoneUnsent(w *world) *session { w.unsent = 1; return clientDone(w) }

func backendDone(w *world) *session {
	s, _ := w.relaying()
	w.tell(s.fd[backend], epollIn|epollRdhup)
	return s
}

func heldForClient(w *world) *session {
	s, f := w.relaying()
	f[client].room = 0
	w.tell(s.fd[backend], epollIn)
	return s
}

func heldWithFIN(w *world) *session {
	s := heldForClient(w)
	w.tell(s.fd[backend], epollRdhup)
	return s
}
