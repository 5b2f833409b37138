package metrics

import (
	"slices"
	"time"
)

// Health is what the control plane knows of a target beside the board: what its checks
// say, what operators want, and what follows of both.
type Health struct {
	State    TargetState `json:"state"`
	Since    time.Time   `json:"since"`           // of the state
	Weight   float64     `json:"weight_in_force"` // 0 = no new sessions; less than configured while it warms up
	Operator *Operator   `json:"operator,omitempty"`
	Check    *Check      `json:"check,omitempty"` // nil = it is not checked
}

// TargetState is what may be done with a target, in one word.
type TargetState string

// The states of a target. The first that fits is shown.
const (
	TargetDisabled TargetState = "disabled" // by an operator: no new sessions, and no checks
	TargetDraining TargetState = "draining" // by an operator: no new sessions
	TargetPanic    TargetState = "panic"    // checks say it is down, but too few are left: it is used all the same
	TargetDown     TargetState = "down"     // checks say so: no new sessions
	TargetWarming  TargetState = "warming"  // slow start: its share grows
	TargetUp       TargetState = "up"       // checks say so, or there are none
)

var targetStates = [...]TargetState{TargetDisabled, TargetDraining, TargetPanic, TargetDown, TargetWarming, TargetUp}

// Operator is what an operator wants of a backend, whatever its checks say.
type Operator struct {
	Want   string    `json:"want"`             // drain | disable | weight
	Weight *int      `json:"weight,omitempty"` // of weight
	Who    string    `json:"who"`
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until,omitzero"` // zero = until it is taken back
	Reason string    `json:"reason,omitempty"`
}

// Check is what a target's checks have found.
type Check struct {
	Up          bool      `json:"up"`
	Since       time.Time `json:"since"`    // of Up
	Last        time.Time `json:"last"`     // the last check's end; zero = none was made yet
	Seconds     float64   `json:"duration"` // of the last check
	Error       string    `json:"error,omitempty"`
	Failures    Counts    `json:"failures"`                     // by CheckFailure
	Certificate time.Time `json:"certificate_expires,omitzero"` // of TLS; zero = not seen
}

// CheckFailure classifies a check that failed.
type CheckFailure uint8

// The ways a check fails.
const (
	CheckRefused     CheckFailure = iota // RST to our SYN: nothing listens there
	CheckTimeout                         // not done within the timeout
	CheckUnreachable                     // no route, or an ICMP error
	CheckReset                           // broken or ended before the answer was there
	CheckAnswer                          // the answer is not the expected one
	CheckStatus                          // HTTP: another status than those wanted
	CheckTLS                             // no TLS session came about, its certificate included
	CheckOther                           // everything else, a lack of sluice's own included
	NumCheckFailures
)

var checkFailureNames = [NumCheckFailures]string{"refused", "timeout", "unreachable", "reset", "answer", "status", "tls", "other"}

func (f CheckFailure) String() string { return nameOf(checkFailureNames[:], int(f)) }

// CheckFailures are Counts of failed checks.
func CheckFailures(n *[NumCheckFailures]uint64) Counts {
	return Counts{checkFailureNames[:], slices.Clone(n[:])}
}
