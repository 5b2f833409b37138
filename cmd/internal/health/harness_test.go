package health

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/cmd/internal/config"
	"sluice/metrics"
	"sluice/proxy/pool"
)

// world is a Keeper whose checks end as the test says, in the time of a synctest bubble.
type world struct {
	*Keeper
	t       *testing.T
	weights []metrics.Gauge
	log     *bytes.Buffer

	lock   sync.Mutex // guards what follows, and log
	down   map[metrics.ID]bool
	lack   error         // what every check fails with
	takes  time.Duration // what a check takes
	begins map[metrics.ID][]time.Time
}

func newWorld(t *testing.T, targets int) *world {
	t.Helper()
	w := &world{t: t, weights: make([]metrics.Gauge, targets), log: &bytes.Buffer{}, down: map[metrics.ID]bool{}, begins: map[metrics.ID][]time.Time{}}
	w.Keeper = New(Options{Log: slog.New(slog.NewTextHandler(w, nil)), Weights: w.weights})
	w.conns = nil
	w.probe = func(ctx context.Context, _ *check, t pool.Target) outcome {
		w.lock.Lock()
		w.begins[t.ID] = append(w.begins[t.ID], time.Now())
		down, takes, lack := w.down[t.ID], w.takes, w.lack
		w.lock.Unlock()
		select {
		case <-time.After(takes):
		case <-ctx.Done():
		}
		if lack != nil {
			return outcome{err: lack, failure: classify(lack)}
		}
		if down {
			return outcome{err: fault{metrics.CheckRefused, context.DeadlineExceeded}, failure: metrics.CheckRefused}
		}
		return outcome{}
	}
	w.Start()
	t.Cleanup(w.Close)
	return w
}

func (w *world) Write(p []byte) (int, error) {
	w.lock.Lock()
	defer w.lock.Unlock()
	return w.log.Write(p)
}

func (w *world) logged(text string) int {
	w.lock.Lock()
	defer w.lock.Unlock()
	return strings.Count(w.log.String(), text)
}

func (w *world) set(at int, down bool) {
	w.lock.Lock()
	defer w.lock.Unlock()
	w.down[idOf(at)] = down
}

func (w *world) checks(at int) int {
	w.lock.Lock()
	defer w.lock.Unlock()
	return len(w.begins[idOf(at)])
}

// weight is the one in force, as the configuration counts it.
func (w *world) weight(at int) float64 { return float64(w.weights[at].Load()) / pool.WeightScale }

func (w *world) state(at int) metrics.TargetState {
	states, _ := w.Snapshot()
	return states[idOf(at)].State
}

func (w *world) want(what string, weights ...float64) {
	w.t.Helper()
	for at, want := range weights {
		if got := w.weight(at); got != want {
			w.t.Errorf("%s: target %d has weight %v (%s), want %v", what, at, got, w.state(at), want)
		}
	}
}

func idOf(at int) metrics.ID { return metrics.NewID(uint32(at), 1) }

// poolOf has targets from to before to of the numbers, each a backend of its own.
func poolOf(from, to int, change func(*config.Pool)) Pool {
	p := Pool{Config: config.DefaultPool("app")}
	p.Config.Health.Check, p.Config.Health.Interval, p.Config.Health.FastInterval = config.CheckTCP, time.Second, 0
	p.Config.Health.Jitter, p.Config.Health.Rise, p.Config.Health.Fall = 0, 2, 3
	if change != nil {
		change(&p.Config)
	}
	for at := from; at < to; at++ {
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(at >> 8), byte(at)}), 80)
		p.Targets = append(p.Targets, pool.Target{ID: idOf(at), Backend: addr.String(), Addr: addr, Weight: 1})
		p.Config.Backends = append(p.Config.Backends, config.Backend{Address: addr.String(), Weight: 1})
	}
	return p
}
