package metrics

import "fmt"

// ID numbers a listener, a pool or a target. The control plane mints it; Plans,
// mail, sessions and cells carry it. Its index says where the cells are, its
// generation tells two things apart that had the index one after the other.
type ID uint64

const indexBits = 16

// NewID makes an ID. It panics if the index has more than 16 bits or the
// generation more than 48: one a microsecond would take nine years.
func NewID(index uint32, generation uint64) ID {
	if index>>indexBits != 0 || generation>>(64-indexBits) != 0 {
		panic(fmt.Sprintf("metrics: no ID has index %d and generation %d", index, generation))
	}
	return ID(generation<<indexBits | uint64(index))
}

// Index is the place of its cells in every table of their kind.
func (id ID) Index() uint32 { return uint32(id & (1<<indexBits - 1)) }

// Generation counts the things that had the index.
func (id ID) Generation() uint64 { return uint64(id >> indexBits) }

// Valid says whether the index is below limit (MaxListeners, MaxPools,
// MaxTargets). Code that decodes a Plan asks first, for the Board's methods
// panic.
func (id ID) Valid(limit uint32) bool { return id.Index() < limit }
