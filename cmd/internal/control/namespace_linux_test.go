package control

import (
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// links is a source of events under a test's clock.
type links struct {
	events   chan error // nil is a change
	deadline <-chan time.Time
}

func (l *links) Read([]byte) (int, error) {
	select {
	case err := <-l.events:
		return 0, err
	case <-l.deadline:
		return 0, os.ErrDeadlineExceeded
	}
}

func (l *links) SetReadDeadline(t time.Time) error {
	l.deadline = nil
	if !t.IsZero() {
		l.deadline = time.After(time.Until(t))
	}
	return nil
}

// Each step changes whether the namespace is connected, tells of it, and lets time pass.
func TestStranding(t *testing.T) {
	type step struct {
		connected bool
		event     error
		wait      time.Duration
	}
	const short, long = 3 * time.Second, 6 * time.Second
	tests := []struct {
		name  string
		steps []step // the first is what there is at the start
		want  bool
	}{
		{"never connected", []step{{false, nil, long}, {false, nil, long}}, false},
		{"connected all the time", []step{{true, nil, long}, {true, nil, long}}, false},
		{"lost", []step{{true, nil, 0}, {false, nil, long}}, true},
		{"lost a moment ago", []step{{true, nil, 0}, {false, nil, short}}, false},
		{"moved to another network", []step{{true, nil, 0}, {false, nil, short}, {true, nil, long}}, false},
		{"moved, then lost", []step{{true, nil, 0}, {false, nil, short}, {true, nil, 0}, {false, nil, short}}, false},
		{"more events do not put it off", []step{{true, nil, 0}, {false, nil, short}, {false, nil, short}}, true},
		{"connected later, then lost", []step{{false, nil, long}, {true, nil, 0}, {false, nil, long}}, true},
		{"lost among more events than the socket holds", []step{{true, nil, 0}, {false, unix.ENOBUFS, long}}, true},
		{"the socket fails", []step{{true, nil, 0}, {false, os.ErrClosed, long}}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var connected atomic.Bool
				connected.Store(test.steps[0].connected)
				source := &links{events: make(chan error)}
				stranded := make(chan struct{})
				ended := make(chan struct{})
				go func() {
					awaitStranding(source, connected.Load, 5*time.Second, stranded)
					close(ended)
				}()
				time.Sleep(test.steps[0].wait)
				synctest.Wait()
				for _, s := range test.steps[1:] {
					connected.Store(s.connected)
					source.events <- s.event
					time.Sleep(s.wait)
					synctest.Wait()
				}
				select {
				case <-stranded:
					if !test.want {
						t.Error("stranded")
					}
				default:
					if test.want {
						t.Error("not stranded")
					}
					select {
					case source.events <- os.ErrClosed:
					case <-ended:
					}
				}
				<-ended
			})
		})
	}
}
