package host

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestEmptyQueues(t *testing.T) {
	for _, row := range []struct {
		name   string
		before func(accepted *atomic.Uint64, waiting *atomic.Int64, hurry context.CancelFunc)
		want   time.Duration
	}{
		{"idle", func(*atomic.Uint64, *atomic.Int64, context.CancelFunc) {}, 200 * time.Millisecond},
		{
			"handshakes end late", func(accepted *atomic.Uint64, _ *atomic.Int64, _ context.CancelFunc) {
				for at := range 3 {
					time.AfterFunc(time.Duration(at+1)*150*time.Millisecond+time.Millisecond, func() { accepted.Add(1) })
				}
			}, 660 * time.Millisecond, // 200 ms after the last, of 451 ms
		},
		{
			"connections never cease", func(accepted *atomic.Uint64, _ *atomic.Int64, _ context.CancelFunc) {
				for at := range 80 {
					time.AfterFunc(time.Duration(at)*50*time.Millisecond, func() { accepted.Add(1) })
				}
			}, 2 * time.Second,
		},
		{
			"somebody waits", func(_ *atomic.Uint64, waiting *atomic.Int64, _ context.CancelFunc) {
				waiting.Store(1)
				time.AfterFunc(3*time.Second+time.Millisecond, func() { waiting.Store(0) })
			}, 3*time.Second + 10*time.Millisecond, // longer than quietAtMost, and then at once
		},
		{
			"somebody waits for ever", func(_ *atomic.Uint64, waiting *atomic.Int64, _ context.CancelFunc) { waiting.Store(1) },
			10 * time.Second,
		},
		{
			"there is no time left", func(_ *atomic.Uint64, waiting *atomic.Int64, hurry context.CancelFunc) {
				waiting.Store(1)
				time.AfterFunc(55*time.Millisecond, hurry)
			}, 55 * time.Millisecond,
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, hurry := context.WithTimeout(t.Context(), 10*time.Second)
				defer hurry()
				var accepted atomic.Uint64
				var waiting atomic.Int64
				row.before(&accepted, &waiting, hurry)
				begin := time.Now()
				EmptyQueues(ctx, func() int { return int(waiting.Load()) }, accepted.Load)
				if took := time.Since(begin); took != row.want {
					t.Errorf("took %v, want %v", took, row.want)
				}
				time.Sleep(5 * time.Second) // what row.before began, ends
			})
		})
	}
}

func TestWaitFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		if !WaitFor(ctx, func() bool { return time.Since(begin) > 500*time.Millisecond }) {
			t.Error("it gave up")
		}
		if WaitFor(ctx, func() bool { return false }) || time.Since(begin) != time.Second {
			t.Errorf("it waited for %v", time.Since(begin))
		}
		if !WaitFor(ctx, func() bool { return true }) {
			t.Error("what is done needs no time")
		}
	})
}
