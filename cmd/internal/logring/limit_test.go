package logring

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// lines is a log without times, in memory.
type lines struct {
	mu  sync.Mutex
	out bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(p)
}

// take returns what was logged since the last take.
func (l *lines) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.out.Reset()
	return l.out.String()
}

func limitedLog(w io.Writer, things ...string) *slog.Logger {
	return slog.New(Limit(slog.NewTextHandler(w, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
			return slog.Attr{}
		}
		return a
	}}), things...))
}

func want(t *testing.T, l *lines, text string) {
	t.Helper()
	if got := l.take(); got != text {
		t.Errorf("logged %q, want %q", got, text)
	}
}

func TestFirstThenOneAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out lines
		log := limitedLog(&out, "backend")
		for i := range 100 {
			log.Warn("refused", "backend", "a", "n", i)
		}
		want(t, &out, "msg=refused backend=a n=0\n")
		time.Sleep(every - time.Second)
		log.Warn("refused", "backend", "a", "n", 100)
		want(t, &out, "")
		time.Sleep(2 * time.Second)
		want(t, &out, "msg=refused backend=a n=100 repeated=99\n") // the burst's end is logged without another event
		log.Warn("refused", "backend", "a", "n", 101)
		want(t, &out, "")
		time.Sleep(every)
		want(t, &out, "msg=refused backend=a n=101\n")
		time.Sleep(every)
		log.Warn("refused", "backend", "a", "n", 102)
		want(t, &out, "msg=refused backend=a n=102\n") // after a quiet minute it is a first one
	}) // the bubble fails the test if a timer's goroutine were left
}

func TestKindsAndThings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out lines
		log := limitedLog(&out, "listener", "backend")
		say := func() {
			log.Warn("refused", "backend", "a", "n", 1)
			log.Warn("refused", "backend", "b")
			log.Warn("timeout", "backend", "a")
			log.Error("refused", "backend", "a")
			log.With("listener", "web").Warn("refused", "backend", "a")
			log.With("listener", "db").WithGroup("x").Warn("refused", "backend", "c")
		}
		say()
		if n := strings.Count(out.take(), "\n"); n != 6 {
			t.Errorf("%d lines, want one of each", n)
		}
		say()
		log.With("listener", "db").WithGroup("x").Warn("refused", "backend", "d") // in the group it is no thing
		want(t, &out, "")
	})
}

// A pair of notices ends with the one that is true.
func TestPairEndsWithTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out lines
		log := limitedLog(&out, "acceptor")
		for range 50 {
			log.Error("pauses", "acceptor", 1)
			time.Sleep(10 * time.Millisecond)
			log.Info("goes on", "acceptor", 1)
		}
		want(t, &out, "msg=pauses acceptor=1\nmsg=\"goes on\" acceptor=1\n")
		time.Sleep(2 * every)
		if got := out.take(); !strings.HasSuffix(got, "msg=\"goes on\" acceptor=1 repeated=48\n") || strings.Count(got, "\n") != 2 {
			t.Errorf("logged %q", got)
		}
	})
}

// However many things there are, lines and memory stay bounded.
func TestManyThings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out lines
		h := Limit(slog.NewTextHandler(&out, nil), "backend").(*limited)
		log := slog.New(h)
		for range 3 {
			for i := range 5 * maxNotices {
				log.Warn("refused", "backend", fmt.Sprint(i))
			}
		}
		if n := strings.Count(out.take(), "\n"); n != maxNotices+1 {
			t.Errorf("%d lines, want %d", n, maxNotices+1)
		}
		time.Sleep(every + time.Second)
		if n := strings.Count(out.take(), "\n"); n != maxNotices+1 {
			t.Errorf("%d lines after a minute, want %d", n, maxNotices+1)
		}
		time.Sleep(2 * every)
		log.Warn("refused", "backend", "new") // finds no room, and so makes some
		h.mu.Lock()
		defer h.mu.Unlock()
		if len(h.notices) != 1 || h.timer != nil {
			t.Errorf("%d notices are remembered, timer %v", len(h.notices), h.timer)
		}
	})
}

func TestLimitUnderRace(t *testing.T) {
	var out lines
	log := limitedLog(&out, "n")
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			for range 5000 {
				log.Warn("again", "n", n)
			}
		})
	}
	all.Wait()
	if n := strings.Count(out.take(), "\n"); n != 8 {
		t.Errorf("%d lines, want 8", n)
	}
}
