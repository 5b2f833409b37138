package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sluice/cmd/internal/config"
	"sluice/metrics"
)

// names is a name server whose answers a test changes; a host without an entry
// does not exist.
type names map[string][]string

func (n names) lookup(_ context.Context, host string) ([]netip.Addr, error) {
	found, ok := n[host]
	if !ok {
		return nil, errors.New("no such host")
	}
	var addrs []netip.Addr
	for _, a := range found {
		addrs = append(addrs, netip.MustParseAddr(a))
	}
	return addrs, nil
}

// resolverOf makes a resolver of one pool's backends that asks n every minute.
func resolverOf(n names, backends ...string) (*resolver, *bytes.Buffer) {
	p := config.DefaultPool("p")
	p.ResolveInterval = time.Minute
	for _, b := range backends {
		p.Backends = append(p.Backends, config.Backend{Address: b, Weight: 1})
	}
	var log bytes.Buffer
	r := newResolver(config.Config{Pools: []config.Pool{p}}, slog.New(slog.NewTextHandler(&log, nil)), nil)
	r.lookup = n.lookup
	return r, &log
}

func (r *resolver) text(backend string) string { return fmt.Sprint(r.addrs[backend]) }

func TestResolverLeavesAddressesAlone(t *testing.T) {
	r, _ := resolverOf(names{}, "10.0.0.1:80", "[2001:db8::1]:443")
	if r.refresh(t.Context(), time.Now()) {
		t.Error("something changed")
	}
	if got := r.text("10.0.0.1:80"); got != "[10.0.0.1:80]" {
		t.Error(got)
	}
	if got := r.text("[2001:db8::1]:443"); got != "[[2001:db8::1]:443]" {
		t.Error(got)
	}
	if _, ok := r.next(); ok {
		t.Error("a lookup is due, without names")
	}
}

func TestResolverFollowsANameThroughItsLife(t *testing.T) {
	n := names{"db": {"10.0.0.2", "10.0.0.1", "::ffff:10.0.0.3"}}
	r, log := resolverOf(n, "db:5432")
	now := time.Now()
	steps := []struct {
		name    string
		answer  []string // nil = no such host
		changed bool
		want    string
		logged  string // new in the log
	}{
		{"first, in order and unmapped", n["db"], true, "[10.0.0.1:5432 10.0.0.2:5432 10.0.0.3:5432]", ""},
		{"the same in another order", []string{"10.0.0.3", "10.0.0.1", "10.0.0.2"}, false, "[10.0.0.1:5432 10.0.0.2:5432 10.0.0.3:5432]", ""},
		{"another", []string{"10.0.0.9"}, true, "[10.0.0.9:5432]", ""},
		{"gone: it keeps what it had", nil, false, "[10.0.0.9:5432]", `msg="backend name does not resolve" backend=db:5432 keeping=1`},
		{"still gone: said once", nil, false, "[10.0.0.9:5432]", ""},
		{"back", []string{"10.0.0.9"}, false, "[10.0.0.9:5432]", `msg="backend name resolves again" backend=db:5432`},
		{"no addresses are no answer", []string{}, false, "[10.0.0.9:5432]", ""},
	}
	for _, step := range steps {
		if step.answer == nil {
			delete(n, "db")
		} else {
			n["db"] = step.answer
		}
		log.Reset()
		if changed := r.refresh(t.Context(), now); changed != step.changed {
			t.Errorf("%s: changed is %v", step.name, changed)
		}
		if got := r.text("db:5432"); got != step.want {
			t.Errorf("%s: %s, want %s", step.name, got, step.want)
		}
		if got := log.String(); !strings.Contains(got, step.logged) || step.logged == "" && got != "" {
			t.Errorf("%s: logged %q, want %q", step.name, got, step.logged)
		}
		now = now.Add(time.Minute)
	}
}

func TestResolverAsksWhenDue(t *testing.T) {
	n := names{"db": {"10.0.0.1"}}
	r, _ := resolverOf(n, "db:1")
	start := time.Now()
	r.refresh(t.Context(), start)
	n["db"] = []string{"10.0.0.2"}
	if r.refresh(t.Context(), start.Add(59*time.Second)) {
		t.Error("asked before its time")
	}
	if due, ok := r.next(); !ok || due != start.Add(time.Minute) {
		t.Errorf("due %v, want %v", due, start.Add(time.Minute))
	}
	if !r.refresh(t.Context(), start.Add(time.Minute)) {
		t.Error("not asked when due")
	}
}

// silence is a name server that does not answer.
func silence(ctx context.Context, _ string) ([]netip.Addr, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// A name server that does not answer delays a start by resolveTimeout, once for all
// names, and no backend that is an address.
func TestSilentNameServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := resolverOf(nil, "a:1", "b:1", "10.0.0.1:80")
		r.lookup = silence
		begin := time.Now()
		if r.refresh(t.Context(), begin) {
			t.Error("something changed")
		}
		if took := time.Since(begin); took != resolveTimeout {
			t.Errorf("took %v, want %v", took, resolveTimeout)
		}
		want := addresses{"10.0.0.1:80": {netip.MustParseAddrPort("10.0.0.1:80")}}
		if !reflect.DeepEqual(r.addrs, want) {
			t.Errorf("%v, want %v", r.addrs, want)
		}
	})
}

// Nor does it hold up a signal, once the service is live.
func TestSignalDuringLookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, log := resolverOf(nil, "db:1")
		r.lookup = silence
		signals := make(chan os.Signal, 1)
		board, err := metrics.NewBoard()
		if err != nil {
			t.Fatal(err)
		}
		defer board.Close()
		s := &service{Options: Options{Signals: signals, Log: r.log}, resolver: r, state: &state{}, board: board, ledger: newLedger()}
		time.AfterFunc(10*time.Millisecond, func() { signals <- os.Interrupt })
		begin := time.Now()
		s.conduct(t.Context())
		if took := time.Since(begin); took != 10*time.Millisecond {
			t.Errorf("the signal was seen after %v", took)
		}
		synctest.Wait()
		if got := log.String(); strings.Contains(got, "resolve") {
			t.Errorf("the lookup was broken off, and logged is %s", got)
		}
	})
}

// A change is sent with all addresses, in time.
func TestResolverTellsChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := resolverOf(nil, "db:1", "10.0.0.9:1")
		asked := 0
		r.lookup = func(context.Context, string) ([]netip.Addr, error) {
			asked++
			return []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(asked)})}, nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		changed := make(chan addresses)
		begin := time.Now()
		go r.run(ctx, changed)
		for i, answer := range []string{"10.0.0.1", "10.0.0.2"} {
			got, took := <-changed, time.Since(begin)
			want := addresses{"db:1": {netip.MustParseAddrPort(answer + ":1")}, "10.0.0.9:1": {netip.MustParseAddrPort("10.0.0.9:1")}}
			if !reflect.DeepEqual(got, want) || took != time.Duration(i)*time.Minute {
				t.Errorf("%v after %v, want %v", got, took, want)
			}
		}
	})
}
