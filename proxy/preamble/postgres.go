package preamble

// Start is what a PostgreSQL client asks for before it says who it is: whether the
// connection may be encrypted. Each request is answered by one byte, and the client waits
// for it. Those that want TLS at once (PostgreSQL 17, by ALPN) ask for nothing.
type Start struct {
	Len     int    // bytes of the requests, of those that were parsed
	Answers string // a byte each: no to GSSAPI, yes to TLS
	TLS     bool   // the last one was for TLS, so a ClientHello follows
}

// SSLRequest is how a client asks for TLS, and SaysYes how a server takes it.
const (
	SSLRequest = requestHead + "\x2f"
	SaysYes    = 'S'

	requestHead   = "\x00\x00\x00\x08\x04\xd2\x16" // length 8, and what no version of the protocol has
	gssENCRequest = requestHead + "\x30"
	requestSize   = len(SSLRequest)
)

// ParsePostgres reads the requests that a PostgreSQL client begins with. What is none is
// found to be that by the first byte that differs. While need > 0 those that have come
// whole are in Start already, for its client waits for their answers.
//
//	[ GSSENCRequest ] [ SSLRequest ClientHello ] │ StartupMessage │ CancelRequest │ ClientHello
//	               N             S
func ParsePostgres(b []byte) (s Start, need int) {
	for {
		switch rest := b[s.Len:]; {
		case !beginsLike(rest, requestHead):
			return s, 0
		case len(rest) < requestSize:
			return s, 1 // it may be anything yet
		case beginsLike(rest, gssENCRequest) && s.Len == 0:
			s.Len, s.Answers = requestSize, "N"
		case beginsLike(rest, SSLRequest):
			if s.TLS, s.Answers = true, "S"; s.Len > 0 {
				s.Answers = "NS"
			}
			s.Len += requestSize
			return s, 0
		default:
			return s, 0
		}
	}
}
