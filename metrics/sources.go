package metrics

import (
	"crypto/rand"
	"encoding/binary"
	"sync/atomic"
	"unsafe"
)

// What all acceptors of a service know of where clients come from lies behind the stripes:
//
//	Sources (a table of fixed size) │ what each seat holds of each Source │ Rates │ Spent, by listener index
//
// Package access says what is in a Source. Pages that are not used cost nothing.
const (
	// MaxSources is how many Sources there are: 4 MiB, and 1 MiB for each seat.
	MaxSources = 1 << 18

	sourcesAt     = stripesAt + stripes*stripeSize
	sourcesHeldAt = sourcesAt + MaxSources*unsafe.Sizeof(Source{})
	sourcesHeld   = MaxSources * unsafe.Sizeof(atomic.Uint32{}) // of one seat
	ratesAt       = sourcesHeldAt + MaxAcceptors*sourcesHeld
	spentAt       = ratesAt + MaxListeners*unsafe.Sizeof(Gauge{})
	sourcesEnd    = spentAt + MaxListeners*unsafe.Sizeof([2]Gauge{})
)

// Source is what is known of one source of connections.
type Source struct {
	// Word says which source it is in its upper bits, and in its lower SourceBits how many
	// sessions it has.
	Word Counter
	// Next is CLOCK_MONOTONIC, nanoseconds, as far as its rate is spent.
	Next Gauge
}

// SourceBits of a Source's Word hold its sessions: two descriptors each, so far more than
// there can be.
const SourceBits = 24

// Sources are those of the service.
func (b *Board) Sources() []Source { return unsafe.Slice(cellsAt[Source](b, sourcesAt), MaxSources) }

// SourcesHeld are the sessions that a seat holds, by the index of their Source. Only its
// acceptor writes there: after it has raised a Source, and before it lowers one.
func (b *Board) SourcesHeld(seat int) []atomic.Uint32 {
	b.Acceptor(seat) // panics if there is no such seat
	return unsafe.Slice(cellsAt[atomic.Uint32](b, sourcesHeldAt+uintptr(seat)*sourcesHeld), MaxSources)
}

// Rates hold, by listener index, as far as the rate of its new sessions is spent, as
// Source.Next does.
func (b *Board) Rates() []Gauge { return unsafe.Slice(cellsAt[Gauge](b, ratesAt), MaxListeners) }

// Spent hold, by listener index and direction, as far as the bandwidth of all its sessions is
// spent, as Source.Next does.
func (b *Board) Spent() [][2]Gauge { return unsafe.Slice(cellsAt[[2]Gauge](b, spentAt), MaxListeners) }

// Secret is what sources are hashed with, so that no client can choose those that meet.
func (b *Board) Secret() [2]uint64 { return b.header().secret }

func newSecret() (s [2]uint64) {
	var text [16]byte
	_, _ = rand.Read(text[:]) // it cannot fail
	return [2]uint64{binary.NativeEndian.Uint64(text[:8]), binary.NativeEndian.Uint64(text[8:])}
}

// giveBackSources takes back what a dead acceptor held. One that was killed between a Source
// and its own part leaves the Source one session too many.
func (b *Board) giveBackSources(seat int) {
	start := sourcesHeldAt + uintptr(seat)*sourcesHeld
	held, sources := b.SourcesHeld(seat), b.Sources()
	for from, to := range b.runs(start, sourcesHeld) {
		for i := (from - start) / 4; i < (to-start)/4; i++ {
			if n := held[i].Swap(0); n != 0 {
				sources[i].Word.Add(-uint64(n))
			}
		}
	}
}
