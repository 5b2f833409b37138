// Package preamble reads what a client says before its first byte of payload, as far as
// routing needs it: a PROXY header (versions 1 and 2), how a PostgreSQL client asks for
// TLS, and the TLS ClientHello.
//
//	first bytes of a connection ─► ParseProxy    ─► Header: whose connection this is
//	    (all of them, each time)   ParsePostgres ─► Start: what it wants answered first
//	                               ParseHello    ─► Hello: the name and protocols it asks for
//
//	a verdict    need > 0      undecided: at least so many bytes more
//	             err != nil    never will be one: a Fault
//	             neither       found
//
// The parsers are pure: they keep nothing, allocate nothing and look at no byte twice
// that a verdict needs once. A verdict depends on the bytes alone and not on how they came:
// once there is one, more bytes do not change it.
package preamble

// Max is how many bytes a preamble may have in all. PROXY headers with a client's
// certificate take a few KiB, a ClientHello with two post-quantum key shares about 4.
const Max = 16 << 10

// Fault says why bytes are not what they should be.
type Fault uint8

// The faults.
const (
	FaultMissing  Fault = iota // no PROXY header begins here
	FaultSyntax                // a PROXY header begins, and is none
	FaultAddress               // its addresses do not fit its family
	FaultTLV                   // its TLVs do not fit its length
	FaultChecksum              // its CRC32c is another
	FaultTooLong               // it is longer than Max
	FaultHello                 // a TLS record begins, and holds no ClientHello
	FaultNoTLS                 // TLS was asked for, and something else came
	NumFaults
)

var faults = [NumFaults]string{
	"no PROXY header", "malformed PROXY header", "addresses of the PROXY header do not fit its family", "malformed TLVs in the PROXY header",
	"wrong checksum in the PROXY header", "longer than 16 KiB", "malformed TLS ClientHello",
	"asks for TLS, and does not speak it",
}

func (f Fault) Error() string {
	if f < NumFaults {
		return faults[f]
	}
	return "unknown fault"
}

// beginsLike compares as much of b as there is with a signature.
func beginsLike(b []byte, signature string) bool {
	n := min(len(b), len(signature))
	return string(b[:n]) == signature[:n]
}
