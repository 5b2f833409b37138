package admin

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// BackendOrder is what an operator wants of a backend.
type BackendOrder struct {
	Backend string        // as configured
	Pool    string        // "" = every pool that has it
	Want    string        // one of Wants
	Weight  int           // of weight, 0..MaxWeight
	For     time.Duration // 0 = until it is taken back
	Reason  string        // at most MaxReason bytes
	Who     string        // the kernel says it, not the caller
}

// Wants are what an operator may want.
var Wants = []string{"drain", "disable", "enable", "weight"}

// Bounds of an order.
const (
	MaxWeight = 256
	MaxReason = 256
	MaxFor    = 30 * 24 * time.Hour // for more, change the configuration
)

// Check says what is wrong with an order.
func (o BackendOrder) Check() error {
	switch {
	case o.Backend == "":
		return fmt.Errorf("which backend?")
	case !slices.Contains(Wants, o.Want):
		return fmt.Errorf("must be one of %s; got %q", strings.Join(Wants, ", "), o.Want)
	case o.Weight < 0 || o.Weight > MaxWeight:
		return fmt.Errorf("weight must be a whole number from 0 to %d; got %d", MaxWeight, o.Weight)
	case o.For < 0 || o.For > MaxFor:
		return fmt.Errorf("the time must be from 0s to %s; got %s", MaxFor, o.For)
	case o.For > 0 && o.Want == "enable":
		return fmt.Errorf("enable ends what was wanted, so it has no time")
	case len(o.Reason) > MaxReason || !utf8.ValidString(o.Reason):
		return fmt.Errorf("the reason must be text of at most %d bytes", MaxReason)
	}
	return nil
}

func (o BackendOrder) query() url.Values {
	return url.Values{"backend": {o.Backend}, "pool": {o.Pool}, "want": {o.Want}, "weight": {strconv.Itoa(o.Weight)}, "for": {o.For.String()}, "reason": {o.Reason}}
}

func readOrder(q url.Values) (o BackendOrder, err error) {
	o = BackendOrder{Backend: q.Get("backend"), Pool: q.Get("pool"), Want: q.Get("want"), Reason: q.Get("reason")}
	if text := q.Get("weight"); text != "" {
		if o.Weight, err = strconv.Atoi(text); err != nil {
			return o, fmt.Errorf("weight: %w", err)
		}
	} else if o.Want == "weight" {
		return o, fmt.Errorf("which weight?")
	}
	if text := q.Get("for"); text != "" {
		if o.For, err = time.ParseDuration(text); err != nil {
			return o, fmt.Errorf("for: %w", err)
		}
	}
	return o, o.Check()
}
