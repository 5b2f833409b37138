package control

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"sluice/metrics"
	"sluice/proxy"
)

// The worker protocol: the supervisor asks, the worker answers each request with
// done, and sends notices in between. Both ends are the same binary, yet not always
// the same build: an upgrade on disk gives the next worker the new one. So each
// frame carries the version, and another one is refused.
//
//	0        4         5                    5+length
//	│ length │ version │ JSON of a message │          length is big-endian
const (
	wireVersion = 1
	// wireLimit bounds a frame. A Plan of 10,000 backends takes 2 MiB.
	wireLimit = 16 << 20
)

// Faults of a frame.
var (
	errWireVersion = errors.New("worker protocol: the other end speaks another version")
	errWireLimit   = errors.New("worker protocol: frame is too long")
	errWireKind    = errors.New("worker protocol: unknown kind of message")
)

// message is a request, an answer or a notice; Kind says which fields count.
type message struct {
	Kind   messageKind    `json:"kind"`
	ID     uint64         `json:"id,omitempty"`     // of a request, repeated in its answer
	Start  *workerStart   `json:"start,omitempty"`  // kindStart
	Plan   *proxy.Plan    `json:"plan,omitempty"`   // kindApply
	Reason metrics.Reason `json:"reason,omitempty"` // kindCut
	Source netip.AddrPort `json:"source,omitzero"`  // kindFind
	Found  bool           `json:"found,omitempty"`  // kindDone after kindFind
	Error  string         `json:"error,omitempty"`  // kindDone; "" = it worked
	Notice *proxy.Notice  `json:"notice,omitempty"` // kindNotice
}

type messageKind string

const (
	kindStart         messageKind = "start"
	kindApply         messageKind = "apply"
	kindStopAccepting messageKind = "stop_accepting"
	kindCut           messageKind = "cut"
	kindFind          messageKind = "find"
	kindClose         messageKind = "close"
	kindDone          messageKind = "done"
	kindNotice        messageKind = "notice"
)

// check says whether a message has what its kind needs.
func (m *message) check() error {
	missing := false
	switch m.Kind {
	case kindStart:
		missing = m.Start == nil || m.Start.Plan == nil || m.Start.Acceptor < 0 || m.Start.Acceptor >= m.Start.Acceptors
	case kindApply:
		missing = m.Plan == nil
	case kindNotice:
		missing = m.Notice == nil
	case kindCut:
		missing = m.Reason >= metrics.NumReasons
	case kindStopAccepting, kindFind, kindClose, kindDone:
	default:
		return fmt.Errorf("%w: %q", errWireKind, m.Kind)
	}
	if missing {
		return fmt.Errorf("worker protocol: %s: incomplete message", m.Kind)
	}
	return nil
}

func writeMessage(w io.Writer, m message) error {
	body, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("worker protocol: %s: %w", m.Kind, err)
	}
	if len(body) > wireLimit {
		return fmt.Errorf("%w: %d bytes", errWireLimit, len(body))
	}
	frame := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	frame = append(frame, wireVersion)
	if _, err := w.Write(append(frame, body...)); err != nil {
		return fmt.Errorf("worker protocol: send %s: %w", m.Kind, err)
	}
	return nil
}

// readMessage returns io.EOF when the other end has gone between two frames.
func readMessage(r io.Reader) (m message, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return m, err
	}
	if head[4] != wireVersion {
		return m, fmt.Errorf("%w: %d, this is %d", errWireVersion, head[4], wireVersion)
	}
	n := binary.BigEndian.Uint32(head[:4])
	if n > wireLimit {
		return m, fmt.Errorf("%w: %d bytes", errWireLimit, n)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return m, fmt.Errorf("worker protocol: %w", err)
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return m, fmt.Errorf("worker protocol: %w", err)
	}
	return m, m.check()
}
