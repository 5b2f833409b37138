package control

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"sluice/listener/steering"
	"sluice/metrics"
	"sluice/proxy"
)

// The worker protocol: the supervisor asks, the worker answers each request with
// done, and sends notices in between. A supervisor starts workers from its own
// binary, whatever lies in its place on disk by then. What else may find itself at
// the other end is refused by the version that each frame carries.
//
//	0        4         5                    5+length
//	│ length │ version │ JSON of a message │          length is big-endian
const (
	wireVersion = 1
	wireHead    = 5
	// wireLimit bounds a frame. A Plan of 10,000 backends takes 2 MiB.
	wireLimit = 16 << 20
)

// errProtocol is a message that can't be understood. Everything else that reading
// returns says that the other end has gone.
var errProtocol = errors.New("worker protocol")

// message is a request, an answer or a notice; Kind says which fields count.
type message struct {
	Kind   messageKind    `json:"kind"`
	ID     uint64         `json:"id,omitempty"`     // of a request, repeated in its answer
	Start  *workerStart   `json:"start,omitempty"`  // kindStart
	Plan   *proxy.Plan    `json:"plan,omitempty"`   // kindApply
	Reason metrics.Reason `json:"reason,omitempty"` // kindCut
	Source netip.AddrPort `json:"source,omitzero"`  // kindFind
	Hung   int            `json:"hung,omitempty"`   // kindRescue: whose sockets
	On     bool           `json:"on,omitempty"`     // kindRescue: begin or stop
	Found  bool           `json:"found,omitempty"`  // kindDone after kindFind
	Error  string         `json:"error,omitempty"`  // kindDone; "" = it worked
	Notice *proxy.Notice  `json:"notice,omitempty"` // kindNotice
}

type messageKind string

const (
	kindStart          messageKind = "start"
	kindApply          messageKind = "apply"
	kindStartAccepting messageKind = "start_accepting"
	kindLeave          messageKind = "leave"
	kindStopAccepting  messageKind = "stop_accepting"
	kindRescue         messageKind = "rescue"
	kindCut            messageKind = "cut"
	kindFind           messageKind = "find"
	kindClose          messageKind = "close"
	kindDone           messageKind = "done"
	kindNotice         messageKind = "notice"
)

// check says whether a message has what its kind needs.
func (m *message) check() error {
	missing := false
	switch m.Kind {
	case kindStart:
		missing = m.Start == nil || !m.Start.complete()
	case kindApply:
		missing = m.Plan == nil
	case kindNotice:
		missing = m.Notice == nil
	case kindRescue:
		missing = m.Hung < 0 || m.Hung >= steering.MaxAcceptors
	case kindCut:
		missing = m.Reason >= metrics.NumReasons
	case kindStartAccepting, kindLeave, kindStopAccepting, kindFind, kindClose, kindDone:
	default:
		return fmt.Errorf("%w: unknown kind of message %q", errProtocol, m.Kind)
	}
	if missing {
		return fmt.Errorf("%w: incomplete message %q", errProtocol, m.Kind)
	}
	return nil
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

// readMessage returns an errProtocol for what it does not understand, and r's error
// when the other end has gone.
func readMessage(r io.Reader) (m message, err error) {
	var head [wireHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return m, err
	}
	if version := head[4]; version != wireVersion {
		return m, fmt.Errorf("%w: the other end speaks version %d, this one %d", errProtocol, version, wireVersion)
	}
	length := binary.BigEndian.Uint32(head[:4])
	if length > wireLimit {
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
