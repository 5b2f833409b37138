package pool

// SendProxy says with what PROXY header a session is introduced to a backend. The zero one
// is without.
type SendProxy struct {
	Version   uint8 `json:",omitempty"` // 1 or 2; 0 = none
	UniqueID  bool  `json:",omitempty"` // the session's number, as the access log has it
	Authority bool  `json:",omitempty"` // the name in the client's TLS ClientHello
	ALPN      bool  `json:",omitempty"` // the protocol there that it likes best
	Checksum  bool  `json:",omitempty"`
	PassOn    bool  `json:",omitempty"` // the TLVs of the header that the client came with
	Own       []TLV `json:",omitempty"`
}

// TLV is one that every session of a pool is introduced with.
type TLV struct {
	Type  uint8
	Value []byte
}

// Names says whether the ClientHello is needed for it.
func (p *SendProxy) Names() bool { return p.Authority || p.ALPN }

// Reads says whether something that the client sent is.
func (p *SendProxy) Reads() bool { return p.Names() || p.PassOn }
