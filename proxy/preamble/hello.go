package preamble

import "encoding/binary"

// Hello is what a TLS ClientHello (RFC 8446, 4.1.2) asks for. Where the real one is
// encrypted (ECH) it is what the outer one says.
type Hello struct {
	TLS  bool   // false: the client speaks something else, and the rest is empty
	ECH  bool   // a real one, or a client that only looks so (GREASE)
	ALPN []byte // protocols as they came: each a byte of length, then the name. It lies in what was parsed
	name [maxName]byte
	size uint8
}

// maxName is how long a host name may be.
const maxName = 255

// Name is the host that the client wants (SNI), in lower case and without a dot at its
// end; empty = it does not say.
func (h *Hello) Name() []byte { return h.name[:h.size] }

// FirstALPN is the protocol that the client likes best; empty = it names none.
func (h *Hello) FirstALPN() []byte {
	if len(h.ALPN) == 0 {
		return nil
	}
	return h.ALPN[1 : 1+h.ALPN[0]]
}

// OffersALPN says whether a protocol is among the client's.
func (h *Hello) OffersALPN(protocol string) bool {
	for rest := h.ALPN; len(rest) > 0; {
		end := 1 + int(rest[0])
		if string(rest[1:end]) == protocol {
			return true
		}
		rest = rest[end:]
	}
	return false
}

// NewHello is what a client that wants a host and offers protocols says, as ParseHello would
// find it; false: no client can say that.
func NewHello(name string, protocols []string) (h Hello, ok bool) {
	h.TLS = true
	if name != "" && !h.putName([]byte(name)) {
		return Hello{}, false
	}
	for _, p := range protocols {
		if p == "" || len(p) > 255 {
			return Hello{}, false
		}
		h.ALPN = append(append(h.ALPN, byte(len(p))), p...)
	}
	return h, true
}

const (
	recordHandshake = 22
	recordHead      = 5
	maxRecord       = 16 << 10
	clientHello     = 1
	messageHead     = 4

	extServerName = 0
	extALPN       = 16
	extECH        = 0xfe0d
)

// ParseHello reads a ClientHello, which may come in any number of records. Then it is put
// together in scratch, for which Max bytes are enough. What is no TLS, an SSL 2.0 hello
// included, is found to be that by its first two bytes.
//
//	record:   │ 22 │ 3 │ minor │ length: 2 │ a part of a message │
//	message:  │ 1 │ length: 3 │ ClientHello │
func ParseHello(b, scratch []byte) (h Hello, need int, err error) {
	if len(b) == 0 {
		return Hello{}, 1, nil
	}
	if b[0] != recordHandshake || len(b) > 1 && b[1] != 3 {
		return Hello{}, 0, nil
	}
	message := scratch[:0]
	for first := true; ; first = false {
		if !beginsLike(b, "\x16\x03") || len(b) > 3 && b[3] > maxRecord>>8 {
			return Hello{}, 0, FaultHello
		}
		if len(b) < recordHead {
			return Hello{}, recordHead - len(b), nil
		}
		size := int(binary.BigEndian.Uint16(b[3:]))
		if size == 0 || size > maxRecord {
			return Hello{}, 0, FaultHello
		}
		b = b[recordHead:]
		part := b[:min(size, len(b))]
		if first {
			message = part // in place, unless there are more
		} else {
			if len(message)+len(part) > Max {
				return Hello{}, 0, FaultTooLong
			}
			message = append(inScratch(message, scratch), part...)
		}
		whole, need, err := wholeMessage(message)
		switch {
		case err != nil:
			return Hello{}, 0, err
		case need == 0:
			h, ok := parseClientHello(message[messageHead:whole])
			if !ok {
				return Hello{}, 0, FaultHello
			}
			return h, 0, nil
		case len(b) < size:
			return Hello{}, min(need, size-len(b)), nil
		}
		b = b[size:]
	}
}

// inScratch moves a message that lies in place to scratch; one that is there stays.
func inScratch(message, scratch []byte) []byte {
	if cap(scratch) > 0 && &message[0] == &scratch[:1][0] {
		return message
	}
	return append(scratch[:0], message...)
}

// wholeMessage is how long the message is that begins here, and how much of it is missing.
func wholeMessage(b []byte) (size, need int, err error) {
	switch {
	case len(b) > 0 && b[0] != clientHello:
		return 0, 0, FaultHello
	case len(b) < messageHead:
		return 0, messageHead - len(b), nil
	}
	size = messageHead + int(b[1])<<16 + int(b[2])<<8 + int(b[3])
	if size > Max-recordHead {
		return 0, 0, FaultTooLong
	}
	return size, max(size-len(b), 0), nil
}

// cursor takes fields off a message; once it fails it is not ok any more.
type cursor struct {
	b  []byte
	ok bool
}

func (c *cursor) take(n int) []byte {
	if !c.ok || len(c.b) < n {
		c.ok = false
		return nil
	}
	taken := c.b[:n]
	c.b = c.b[n:]
	return taken
}

// vector takes a field behind its length, which has one or two bytes, and at least so many.
func (c *cursor) vector(lengthSize, least int) []byte {
	n := 0
	for _, x := range c.take(lengthSize) {
		n = n<<8 | int(x)
	}
	if n < least {
		c.ok = false
	}
	return c.take(n)
}

func (c *cursor) number() int {
	b := c.take(2)
	if b == nil {
		return 0
	}
	return int(binary.BigEndian.Uint16(b))
}

func parseClientHello(b []byte) (h Hello, ok bool) {
	c := cursor{b: b, ok: true}
	h.TLS = true
	c.take(2 + 32) // version, random
	c.vector(1, 0) // session
	c.vector(2, 2) // cipher suites
	c.vector(1, 1) // compressions
	if !c.ok || len(c.b) == 0 {
		return h, c.ok // without extensions: TLS 1.2 or older
	}
	extensions := cursor{b: c.vector(2, 0), ok: true}
	if !c.ok || len(c.b) > 0 {
		return h, false
	}
	var named, asked bool
	for len(extensions.b) > 0 && extensions.ok {
		kind := extensions.number()
		value := extensions.vector(2, 0)
		if !extensions.ok {
			return h, false
		}
		switch kind {
		case extServerName:
			if named || !h.readName(value) {
				return h, false
			}
			named = true
		case extALPN:
			if asked || !h.readALPN(value) {
				return h, false
			}
			asked = true
		case extECH:
			h.ECH = true
		}
	}
	return h, extensions.ok
}

// readName reads the extension server_name (RFC 6066, 3). Of several names, which no
// client sends, the first host name counts.
func (h *Hello) readName(b []byte) bool {
	outer := cursor{b: b, ok: true}
	list := cursor{b: outer.vector(2, 1), ok: true}
	if !outer.ok || len(outer.b) > 0 {
		return false
	}
	for len(list.b) > 0 {
		kind := list.take(1)
		name := list.vector(2, 1)
		if !list.ok {
			return false
		}
		if kind[0] != 0 || h.size > 0 {
			continue
		}
		if !h.putName(name) {
			return false
		}
	}
	return true
}

// putName takes a name of at least one byte, in lower case and without a dot at its end.
func (h *Hello) putName(name []byte) bool {
	if name[len(name)-1] == '.' {
		name = name[:len(name)-1]
	}
	if len(name) == 0 || len(name) > maxName {
		return false
	}
	for i, x := range name {
		switch {
		case x <= ' ' || x >= 0x7f:
			return false
		case 'A' <= x && x <= 'Z':
			x += 'a' - 'A'
		}
		h.name[i] = x
	}
	h.size = uint8(len(name))
	return true
}

// readALPN reads the extension of RFC 7301, 3.1.
func (h *Hello) readALPN(b []byte) bool {
	outer := cursor{b: b, ok: true}
	all := outer.vector(2, 2)
	if !outer.ok || len(outer.b) > 0 {
		return false
	}
	for list := (cursor{b: all, ok: true}); len(list.b) > 0; {
		if list.vector(1, 1); !list.ok {
			return false
		}
	}
	h.ALPN = all
	return true
}
