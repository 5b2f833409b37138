package accesslog

import (
	"cmp"
	"strconv"
	"time"
	"unicode/utf8"

	"sluice/metrics"
	"sluice/metrics/journal"
)

// entry is one record with all that its line may tell.
type entry struct {
	*journal.Record
	epoch    int64 // see sinceEpoch
	second   second
	listener Listener
	route    Route
	target   Target
	worker   int
	lost     uint64 // sessions that ended with a worker, or lines that could not be written
	gap      bool   // it tells of lost lines, and has no Record
}

// field is one thing that a line may tell. It appends nothing where that is not known.
type field struct {
	name   string
	text   bool // it is quoted in JSON
	help   string
	append func(b []byte, e *entry) []byte
}

// fields are all that there is, in the order of a line.
var fields = []field{
	{"time", true, "when it happened: RFC 3339, UTC, with microseconds", func(b []byte, e *entry) []byte {
		if e.gap {
			return e.second.append(b, time.Now().UnixNano())
		}
		return e.second.append(b, e.At+e.epoch)
	}},
	{"level", true, "info, or warn for what `errors` shows", func(b []byte, e *entry) []byte {
		if e.warns() {
			return append(b, "warn"...)
		}
		return append(b, "info"...)
	}},
	{"event", true, "closed; connected (`access_start`); rejected: it was closed before it became a session; lost: lines were lost here", func(b []byte, e *entry) []byte { return append(b, e.event()...) }},
	{"id", true, "the session's", func(b []byte, e *entry) []byte {
		if e.gap || e.Session.Use() == 0 {
			return b
		}
		return e.Session.AppendText(b)
	}},
	{"listener", true, "its name", func(b []byte, e *entry) []byte { return append(b, e.listener.Name...) }},
	{"acceptor", false, "its number", func(b []byte, e *entry) []byte {
		if e.gap {
			return b
		}
		return strconv.AppendInt(b, int64(e.Session.Seat()), 10)
	}},
	{"worker", false, "the number of the process that holds the acceptor", func(b []byte, e *entry) []byte {
		if e.gap {
			return b
		}
		return strconv.AppendInt(b, int64(e.worker), 10)
	}},
	{"client", true, "its address", func(b []byte, e *entry) []byte {
		if e.gap {
			return b
		}
		if a := e.Client.AddrPort(); a.IsValid() {
			return a.AppendTo(b)
		}
		return b
	}},
	{"local", true, "the listener's address", func(b []byte, e *entry) []byte { return append(b, e.listener.Addr...) }},
	{"route", true, "the name of the route that it took", func(b []byte, e *entry) []byte { return append(b, e.route.Name...) }},
	{"pool", true, "its name", func(b []byte, e *entry) []byte {
		return append(b, cmp.Or(e.target.Pool, e.route.Pool, e.listener.Pool)...)
	}},
	{"backend", true, "the backend that was picked last, as configured", func(b []byte, e *entry) []byte { return append(b, e.target.Backend...) }},
	{"address", true, "the address of it", func(b []byte, e *entry) []byte { return append(b, e.target.Addr...) }},
	{"bytes_in", false, "bytes from the client that the backend got", func(b []byte, e *entry) []byte {
		if !e.counted() {
			return b
		}
		return strconv.AppendUint(b, e.Received, 10)
	}},
	{"bytes_out", false, "bytes from the backend that the client got", func(b []byte, e *entry) []byte {
		if !e.counted() {
			return b
		}
		return strconv.AppendUint(b, e.Sent, 10)
	}},
	{"duration_ms", false, "from the accept on, in milliseconds as the next two", func(b []byte, e *entry) []byte {
		if e.gap || e.lost > 0 || e.Kind == journal.KindRejected {
			return b
		}
		return appendMillis(b, e.Age())
	}},
	{"connect_ms", false, "how long the last connect took", func(b []byte, e *entry) []byte {
		if e.gap || e.Connect() < 0 {
			return b
		}
		return appendMillis(b, e.Connect())
	}},
	{"queue_ms", false, "from the accept to the last connect", func(b []byte, e *entry) []byte {
		if e.gap || e.Queue() < 0 {
			return b
		}
		return appendMillis(b, e.Queue())
	}},
	{"retries", false, "further connects after the first", func(b []byte, e *entry) []byte {
		if e.gap || e.Tries == 0 || e.Flags&journal.Partial != 0 {
			return b
		}
		return strconv.AppendUint(b, uint64(e.Tries-1), 10)
	}},
	{"path", true, "splice if some of its bytes went through a pipe, else copy", func(b []byte, e *entry) []byte {
		switch {
		case !e.counted() || e.Received+e.Sent == 0:
			return b
		case e.Flags&journal.Spliced != 0:
			return append(b, metrics.PathSplice.String()...)
		}
		return append(b, metrics.PathCopy.String()...)
	}},
	{"reason", true, "why it ended, see above; of one that was rejected why that", func(b []byte, e *entry) []byte {
		switch {
		case e.gap:
		case e.Kind == journal.KindClosed:
			return append(b, e.Reason.String()...)
		case e.Kind == journal.KindRejected:
			return append(b, e.Reject.String()...)
		}
		return b
	}},
	{"close_code", true, "the same as HAProxy's two letters, or the nearest that they have", func(b []byte, e *entry) []byte {
		if e.gap || e.Kind == journal.KindConnected {
			return b
		}
		c := code(e.Record)
		return append(b, c[:]...)
	}},
	{"partial", false, "true if the session began before the access log was on: bytes and connects are not known", func(b []byte, e *entry) []byte {
		if e.gap || e.Flags&journal.Partial == 0 {
			return b
		}
		return append(b, "true"...)
	}},
	{"sessions", false, "how many sessions of a listener were lost with a worker that died, in one line", func(b []byte, e *entry) []byte {
		if e.gap || e.lost == 0 {
			return b
		}
		return strconv.AppendUint(b, e.lost, 10)
	}},
	{"lines", false, "how many lines were lost here", func(b []byte, e *entry) []byte {
		if !e.gap {
			return b
		}
		return strconv.AppendUint(b, e.lost, 10)
	}},
}

func (e *entry) event() string {
	switch {
	case e.gap:
		return "lost"
	case e.Kind == journal.KindConnected:
		return "connected"
	case e.Kind == journal.KindRejected:
		return "rejected"
	}
	return "closed"
}

func (e *entry) warns() bool { return e.gap || !normal(e.Record) }

// counted says whether the session's bytes are known and final.
func (e *entry) counted() bool {
	return !e.gap && e.lost == 0 && e.Kind == journal.KindClosed && e.Flags&journal.Partial == 0
}

// second remembers the text of a second: most lines are of the one before's.
type second struct {
	unix int64
	text []byte
}

// append writes RFC 3339 with microseconds, in UTC.
func (s *second) append(b []byte, nanos int64) []byte {
	if unix := nanos / 1e9; unix != s.unix || s.text == nil {
		s.unix, s.text = unix, time.Unix(unix, 0).UTC().AppendFormat(s.text[:0], "2006-01-02T15:04:05.")
	}
	b = appendPadded(append(b, s.text...), int(nanos%1e9/1000), 6)
	return append(b, 'Z')
}

// appendMillis writes d in milliseconds with three digits behind the point.
func appendMillis(b []byte, d time.Duration) []byte {
	us := max(d.Microseconds(), 0)
	b = strconv.AppendInt(b, us/1000, 10)
	return appendPadded(append(b, '.'), int(us%1000), 3)
}

func appendPadded(b []byte, n, digits int) []byte {
	for div := [...]int{3: 100, 6: 100000}[digits]; div > 0; div /= 10 {
		b = append(b, byte('0'+n/div%10))
	}
	return b
}

// appendQuoted writes what is a string in JSON. Names are letters by the configuration's
// rules and addresses are plain, so mostly nothing is escaped.
func appendQuoted(b, text []byte) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		switch c := text[0]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < 0x20:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		case r == utf8.RuneError && n == 1:
			b = append(b, `\ufffd`...)
		default:
			b = append(b, text[:n]...)
		}
		text = text[n:]
	}
	return append(b, '"')
}
