package host

import (
	"testing"
	"time"

	"sluice/metrics"
	"sluice/proxy"
)

// all asks the same of each seat.
func all(q proxy.Survey, seats ...int) map[int]proxy.Survey {
	asks := map[int]proxy.Survey{}
	for _, seat := range seats {
		asks[seat] = q
	}
	return asks
}

func TestSurvey(t *testing.T) {
	run(t, func(t *testing.T, mode string) {
		w := newWorld(t, mode, 0, 1, 2, 3)
		web := w.listen()
		w.publish(web)
		w.waitForPlan(0, 1, 2, 3)
		const sessions = 4 * (heldPerFrame + 7) // more than one message of most
		for range sessions {
			w.dial(web)
		}
		ask := func(q proxy.Survey) (sum proxy.Surveyed) {
			t.Helper()
			q.Until = SurveyWithin(10 * time.Second)
			answers, silent := w.Survey(all(q, 0, 1, 2, 3))
			if len(silent) != 0 {
				t.Fatalf("no answer from %v", silent)
			}
			for seat, a := range answers {
				sum.Matched, sum.Ended, sum.Held = sum.Matched+a.Matched, sum.Ended+a.Ended, append(sum.Held, a.Held...)
				for _, h := range a.Held {
					if h.ID.Seat() != seat || !h.Client.IsValid() {
						t.Fatalf("seat %d answers %+v", seat, h)
					}
				}
			}
			return sum
		}
		w.wait("all to be relayed", func() bool {
			return ask(proxy.Survey{Filter: proxy.Filter{State: proxy.HeldRelaying}}).Matched == sessions
		})
		got := ask(proxy.Survey{Limit: sessions})
		if len(got.Held) != sessions {
			t.Errorf("%d described", len(got.Held))
		}
		one := got.Held[0].ID
		answers, _ := w.Survey(map[int]proxy.Survey{one.Seat(): {
			Filter: proxy.Filter{ID: one}, Limit: 1, End: true, Reason: metrics.ReasonKilled, Until: SurveyWithin(10 * time.Second),
		}})
		if answers[one.Seat()].Ended != 1 {
			t.Errorf("%+v", answers)
		}
		if got := ask(proxy.Survey{Limit: sessions, End: true, Reason: metrics.ReasonKilled}); got.Ended != sessions-1 {
			t.Errorf("%d of %d ended", got.Ended, sessions-1)
		}
		answers, silent := w.Survey(all(proxy.Survey{Until: SurveyWithin(5 * time.Second)}, 0, 9))
		if len(answers) != 1 || len(silent) != 1 || silent[0] != 9 {
			t.Errorf("answers %v, silent %v", answers, silent)
		}
	})
}

// A loop that does not turn is named when the time is over, and the others' answers are there.
func TestSurveyOfOneThatHangs(t *testing.T) {
	w := newWorld(t, Goroutine, 0, 1)
	web := w.listen()
	blocked, err := proxy.New(proxy.Options{Seat: 1, Board: w.board, Settings: proxy.Settings{MaxPipes: 4}})
	if err != nil {
		t.Fatal(err)
	}
	w.Host.(*threads).all[1] = &thread{Acceptor: blocked, running: true, lent: map[int]*proxy.Sockets{}}
	w.publish(web)
	w.waitForPlan(0)
	w.took("Survey", 3*time.Second, func() {
		answers, silent := w.Survey(all(proxy.Survey{Until: SurveyWithin(time.Second)}, 0, 1))
		if len(answers) != 1 || len(silent) != 1 || silent[0] != 1 {
			t.Errorf("answers %v, silent %v", answers, silent)
		}
	})
}

// A worker's answers are taken as far as they were asked for.
func TestAnswersThatNobodyAskedFor(t *testing.T) {
	var a asked
	c := newCollection()
	n := a.begin(2, 1, c)
	part := func(number uint64, held int) *message {
		return &message{Number: number, Surveyed: &proxy.Surveyed{Held: make([]proxy.Held, held)}}
	}
	a.add(2, part(n+1, 0))
	a.add(1, part(n, 0))
	a.add(2, part(n, 2))
	if len(c.answers) != 0 {
		t.Errorf("%v", c.answers)
	}
	a.add(2, part(n, 1))
	a.add(2, part(n, 1))
	if len(c.answers[2].Held) != 1 || len(c.came) != 1 {
		t.Errorf("%v", c.answers)
	}
}
