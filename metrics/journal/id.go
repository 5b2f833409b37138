package journal

import (
	"fmt"
	"strconv"
	"strings"

	"sluice/metrics"
)

// ID names a session: the seat that holds it, its slot there, and which use of the slot
// it is. No two sessions of a service have the same for as long as it matters: a
// seat's uses are counted from a random number on, so that an acceptor that is started
// again does not begin with its predecessor's. 0 is no session's.
//
//	│ 0 │ seat: 6 bits │ slot: 26 bits │ use: 31 bits │
type ID uint64

const (
	useBits  = 31
	slotBits = 26

	maxSlots = 1 << slotBits // 67 million sessions an acceptor; config allows 16 million in all
)

// NewID makes an ID of numbers that are in range.
func NewID(seat int, slot int32, use uint32) ID {
	return ID(uint64(seat)<<(slotBits+useBits) | uint64(slot)&(maxSlots-1)<<useBits | uint64(use)&(1<<useBits-1))
}

// Seat is the acceptor that holds the session.
func (id ID) Seat() int { return int(id >> (slotBits + useBits)) }

// Slot is its place in the acceptor's slab.
func (id ID) Slot() int32 { return int32(id >> useBits & (maxSlots - 1)) }

// Use counts the sessions of the slot.
func (id ID) Use() uint32 { return uint32(id & (1<<useBits - 1)) }

// String is the ID as people see and type it: 2-17-1f3a9c0d, the last part in hex.
func (id ID) String() string { return string(id.AppendText(nil)) }

// AppendText appends String to b.
func (id ID) AppendText(b []byte) []byte {
	b = strconv.AppendInt(b, int64(id.Seat()), 10)
	b = append(b, '-')
	b = strconv.AppendInt(b, int64(id.Slot()), 10)
	b = append(b, '-')
	return strconv.AppendUint(b, uint64(id.Use()), 16)
}

// ParseID reads what String has written.
func ParseID(text string) (ID, error) {
	parts := strings.Split(text, "-")
	if len(parts) == 3 {
		seat, err1 := strconv.ParseUint(parts[0], 10, 6)
		slot, err2 := strconv.ParseUint(parts[1], 10, slotBits)
		use, err3 := strconv.ParseUint(parts[2], 16, useBits)
		if id := NewID(int(seat), int32(slot), uint32(use)); err1 == nil && err2 == nil && err3 == nil && id.String() == text {
			return id, nil
		}
	}
	return 0, fmt.Errorf("%q is no session: one looks like %s", text, NewID(2, 17, 0x1f3a9c0d))
}

// A seat fits into its bits.
var _ [1<<6 - metrics.MaxAcceptors]struct{}
