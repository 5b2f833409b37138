package health

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"sluice/metrics"
)

// What operators may want of a backend.
const (
	Drain   = "drain"   // no new sessions; it is checked as before
	Disable = "disable" // the same, and it is not checked
	Enable  = "enable"  // what checks say, and the weight that is configured
	Weight  = "weight"  // another weight, 0 = no new sessions
)

// Order is what an operator says.
type Order struct {
	Backend string        // as configured
	Pool    string        // "" = every pool that has it
	Want    string        // Drain, Disable, Enable or Weight
	Weight  int           // of Weight
	For     time.Duration // 0 = until it is taken back
	Who     string
	Reason  string
}

// Order puts in force what an operator says, and returns the pools that it holds for.
func (k *Keeper) Order(o Order) (pools []string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	for name, w := range k.pools {
		if o.Pool != "" && o.Pool != name {
			continue
		}
		for _, b := range w.config.Backends {
			if b.Address == o.Backend {
				pools = append(pools, name)
			}
		}
	}
	if len(pools) == 0 {
		return nil, k.unknown(o)
	}
	slices.Sort(pools)
	for _, name := range pools {
		key := backendKey{name, o.Backend}
		if o.Want == Enable {
			delete(k.orders, key)
		} else {
			k.orders[key] = o.operator(now)
		}
		k.ordered(key, now)
	}
	k.look()
	return pools, nil
}

func (o Order) operator(now time.Time) metrics.Operator {
	m := metrics.Operator{Want: o.Want, Who: o.Who, Since: now, Reason: o.Reason}
	if o.Want == Weight {
		m.Weight = &o.Weight
	}
	if o.For > 0 {
		m.Until = now.Add(o.For)
	}
	return m
}

// unknown says what is there instead.
func (k *Keeper) unknown(o Order) error {
	var names []string
	for name, w := range k.pools {
		if o.Pool != "" && o.Pool != name {
			continue
		}
		for _, b := range w.config.Backends {
			names = append(names, fmt.Sprintf("%s in pool %s", b.Address, name))
		}
	}
	if len(names) == 0 {
		return fmt.Errorf("there is no pool %q", o.Pool)
	}
	slices.Sort(names)
	const most = 20
	if more := len(names) - most; more > 0 {
		names = append(names[:most], fmt.Sprintf("and %d more", more))
	}
	return fmt.Errorf("there is no backend %q; there are: %s", o.Backend, strings.Join(names, ", "))
}

// ordered settles the targets of a backend of which an operator said something.
func (k *Keeper) ordered(key backendKey, now time.Time) {
	for _, t := range k.pools[key.pool].targets {
		if t.Backend != key.backend {
			continue
		}
		k.changed(t, now)
		if t.in.check != nil && !t.checking && k.orders[key].Want == "" {
			k.due.put(t, now) // it may not have been asked for long
		}
	}
}

// expire ends what operators wanted for a time, and returns when the next ends.
func (k *Keeper) expire(now time.Time) (next time.Time) {
	for key, o := range k.orders {
		switch {
		case o.Until.IsZero():
		case !o.Until.After(now):
			delete(k.orders, key)
			k.o.Log.Info("what an operator wanted of a backend has ended", "pool", key.pool, "backend", key.backend, "want", o.Want, "who", o.Who)
			k.ordered(key, now)
		case next.IsZero() || o.Until.Before(next):
			next = o.Until
		}
	}
	return next
}
