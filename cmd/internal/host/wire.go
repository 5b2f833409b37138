package host

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"sluice/metrics"
	"sluice/proxy"
)

// The worker protocol: the supervisor gives an order, the worker answers it with done,
// and sends notices in between. Only a plan is not answered: bind, which follows it,
// is. A supervisor starts workers from its own binary, whatever lies in its place on
// disk by then. What else may find itself at the other end is refused by the version
// that each frame carries.
//
//	start ─► (give ... plan bind, commit or unbind) ... ─► close
//	             └ also: give ... rescue; find; survey ─► done, then (surveyed) ...
//
//	0        4         5                    5+length
//	│ length │ version │ JSON of a message │          length is big-endian
//
// The descriptors of a give (SCM_RIGHTS) come with the first byte of its frame.
const (
	wireVersion = 2
	wireHead    = 5
	// wireLimit bounds a frame. A Plan of as many targets and listeners as the board has
	// takes 65,536 x 130 + 4,096 x 650 bytes = 11 MiB.
	wireLimit = 16 << 20
	// answerLimit bounds what a supervisor takes from a worker: 64 of them may be mad.
	// An error's text is cut to errorLimit, so that it fits whatever JSON makes of it.
	answerLimit = 64 << 10
	errorLimit  = 8 << 10
	// maxRights is how many descriptors the kernel lets go with one message (SCM_MAX_FD).
	maxRights = 253
)

// errProtocol is a message that can't be understood. Everything else that reading
// returns says that the other end has gone.
var errProtocol = errors.New("worker protocol")

// message is an order, an answer or a notice; Kind says which fields count.
type message struct {
	Kind   messageKind    `json:"kind"`
	ID     uint64         `json:"id,omitempty"`     // of an order, repeated in its answer
	Start  *workerStart   `json:"start,omitempty"`  // kindStart
	Body   *body          `json:"body,omitempty"`   // kindPlan
	Gifts  []gift         `json:"gifts,omitempty"`  // kindGive: what the descriptors are, in their order
	Source netip.AddrPort `json:"source,omitzero"`  // kindFind
	Seat   int            `json:"seat,omitempty"`   // kindRescue: whose sockets
	On     bool           `json:"on,omitempty"`     // kindRescue: begin or stop
	Found  bool           `json:"found,omitempty"`  // kindDone after kindFind
	Error  string         `json:"error,omitempty"`  // kindDone; "" = it worked
	Notice *proxy.Notice  `json:"notice,omitempty"` // kindNotice

	Number   uint64          `json:"number,omitempty"`   // kindSurvey, kindSurveyed: which
	Survey   *proxy.Survey   `json:"survey,omitempty"`   // kindSurvey
	Surveyed *proxy.Surveyed `json:"surveyed,omitempty"` // kindSurveyed
	More     bool            `json:"more,omitempty"`     // kindSurveyed: this is not the last part
}

type messageKind string

const (
	kindStart  messageKind = "start"
	kindPlan   messageKind = "plan" // what the next bind is about
	kindGive   messageKind = "give"
	kindBind   messageKind = "bind"
	kindCommit messageKind = "commit"
	kindUnbind messageKind = "unbind" // forget what was given and bound after the last commit
	kindRescue messageKind = "rescue"
	kindFind   messageKind = "find"
	kindClose  messageKind = "close"
	kindDone   messageKind = "done"
	kindNotice messageKind = "notice"

	kindSurvey   messageKind = "survey"   // answered at once, and then as often as it takes by
	kindSurveyed messageKind = "surveyed" // from the worker, not an answer
)

// workerStart is what a worker needs to begin. It reads no file and opens no port.
type workerStart struct {
	Seat     int            `json:"seat"`
	Settings proxy.Settings `json:"settings"`
}

// body is Orders as they travel: the same bytes to every worker.
type body struct {
	Plan         *proxy.Plan   `json:"plan"`
	HandOff      []metrics.ID  `json:"hand_off,omitempty"` // the listeners of which it is so
	Mail         []int         `json:"mail,omitempty"`     // the seats that mail can be sent to
	DrainTimeout time.Duration `json:"drain_timeout"`
}

// gift says what a descriptor is for.
type gift struct {
	Kind     giftKind   `json:"kind"`
	Listener metrics.ID `json:"listener,omitempty"`
	Seat     int        `json:"seat,omitempty"`
	Access   uint64     `json:"access,omitempty"`
	Netns    uint64     `json:"netns,omitempty"`
}

type giftKind string

const (
	giftSocket     giftKind = "socket"      // the worker's own, of Listener
	giftRows       giftKind = "rows"        // of Listener
	giftReceive    giftKind = "receive"     // the worker's own mailbox
	giftSend       giftKind = "send"        // to Seat's mailbox
	giftAccess     giftKind = "access"      // the access set with the number Access
	giftNetns      giftKind = "netns"       // the network namespace with the number Netns
	giftRescue     giftKind = "rescue"      // Seat's socket of Listener
	giftRescueMail giftKind = "rescue_mail" // Seat's mailbox, to receive from
)

// check says whether a message has what its kind needs, and numbers that can be.
func (m *message) check() error {
	missing := false
	switch m.Kind {
	case kindStart:
		missing = m.Start == nil || !isSeat(m.Start.Seat)
	case kindPlan:
		missing = m.Body == nil || m.Body.Plan == nil
	case kindGive:
		missing = len(m.Gifts) == 0 || len(m.Gifts) > maxRights
		for _, g := range m.Gifts {
			missing = missing || !isSeat(g.Seat)
		}
	case kindNotice:
		missing = m.Notice == nil || m.Notice.Class >= metrics.NumConnectErrors
	case kindRescue:
		missing = !isSeat(m.Seat)
	case kindSurvey:
		missing = m.Survey == nil || !m.Survey.Check()
	case kindSurveyed:
		missing = m.Surveyed == nil || !soundAnswer(m.Surveyed)
	case kindBind, kindCommit, kindUnbind, kindFind, kindClose, kindDone:
	default:
		return fmt.Errorf("%w: unknown kind of message %q", errProtocol, m.Kind)
	}
	if missing {
		return fmt.Errorf("%w: incomplete message %q", errProtocol, m.Kind)
	}
	return nil
}

func isSeat(n int) bool { return n >= 0 && n < metrics.MaxAcceptors }

// frame is e as all workers are sent it.
func (e *edition) frame() ([]byte, error) {
	b := &body{Plan: e.Plan, DrainTimeout: e.DrainTimeout}
	for i := range e.Plan.Listeners {
		id := e.Plan.Listeners[i].ID
		if e.Groups[id].HandOff {
			b.HandOff = append(b.HandOff, id)
		}
	}
	for seat := range metrics.MaxAcceptors {
		if e.has(seat) && e.mailbox(seat).Send >= 0 {
			b.Mail = append(b.Mail, seat)
		}
	}
	m := message{Kind: kindPlan, Body: b}
	return m.frame()
}

// frame is m as it is sent.
func (m *message) frame() ([]byte, error) {
	body, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errProtocol, err)
	}
	if len(body) > wireLimit {
		return nil, fmt.Errorf("%w: a frame of %d bytes is too long", errProtocol, len(body))
	}
	head := binary.BigEndian.AppendUint32(make([]byte, 0, wireHead+len(body)), uint32(len(body)))
	return append(append(head, wireVersion), body...), nil
}

// readMessage returns an errProtocol for what it does not understand or what is longer
// than limit, and r's error when the other end has gone.
func readMessage(r io.Reader, limit uint32) (m message, err error) {
	var head [wireHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return m, err
	}
	if version := head[4]; version != wireVersion {
		return m, fmt.Errorf("%w: the other end speaks version %d, this one %d", errProtocol, version, wireVersion)
	}
	length := binary.BigEndian.Uint32(head[:4])
	if length > limit {
		return m, fmt.Errorf("%w: a frame of %d bytes is too long", errProtocol, length)
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(r, body); err != nil {
		return m, err
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return m, fmt.Errorf("%w: %w", errProtocol, err)
	}
	return m, m.check()
}
