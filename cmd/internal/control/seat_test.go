package control

import (
	"slices"
	"testing"
	"time"

	"sluice/metrics"
	"sluice/proxy"
)

func seatsOf(numbers ...int) (all seating) {
	for _, n := range numbers {
		all = append(all, &seat{number: n})
	}
	return all
}

func TestSeatsLeaveFromTheTop(t *testing.T) {
	now := time.Now()
	all := seatsOf(0, 1, 2, 3, 5)
	if left := all.leave(5, now); left != nil {
		t.Errorf("%v leave, nobody should", left.numbers())
	}
	if left := all.leave(3, now); !slices.Equal(left.numbers(), []int{5, 3}) {
		t.Errorf("%v leave, want 5 and 3", left.numbers())
	}
	if left := all.leave(1, now); !slices.Equal(left.numbers(), []int{2, 1}) {
		t.Errorf("%v leave, want 2 and 1", left.numbers())
	}
	if got := all.serving(); !slices.Equal(got, []int{0}) {
		t.Errorf("%v serve, want 0", got)
	}
	if got := all.numbers(); !slices.Equal(got, []int{0, 1, 2, 3, 5}) {
		t.Errorf("%v are there, want all", got)
	}
	for _, s := range all {
		want := proxy.PhaseLeaving
		if s.number == 0 {
			want = proxy.PhaseServing
		}
		if s.phase() != want {
			t.Errorf("seat %d is in phase %v, want %v", s.number, s.phase(), want)
		}
		if s.leaving != nil && !s.leaving.deadline.IsZero() {
			t.Errorf("seat %d has a deadline; its sessions end in peace", s.number)
		}
	}
}

func TestVacantSeat(t *testing.T) {
	all := make([]int, metrics.MaxAcceptors)
	for i := range all {
		all[i] = i
	}
	for _, row := range []struct {
		taken []int
		want  int
	}{
		{nil, 0}, {[]int{0, 1}, 2}, {[]int{1, 2}, 0}, {[]int{0, 2, 3}, 1}, {[]int{3, 0, 1}, 2}, {all[:63], 63}, {all, -1},
	} {
		if got := seatsOf(row.taken...).vacant(); got != row.want {
			t.Errorf("with %v taken: %d, want %d", row.taken, got, row.want)
		}
	}
}

// Who has closed nothing yet is called back before a new one is made.
func TestCallBack(t *testing.T) {
	at := func(s stage, quiesce ...metrics.ID) *departure { return &departure{stage: s, quiesce: quiesce} }
	for _, row := range []struct {
		name  string
		count int
		back  []int
	}{
		{"nobody is wanted", 1, nil},
		{"the lowest", 2, []int{1}},
		{"all that can", 9, []int{1, 4}},
	} {
		all := seating{
			{number: 0}, {number: 1, leaving: at(emptying)}, {number: 2, leaving: at(closing)},
			{number: 3, leaving: at(announced, metrics.NewID(0, 1))}, {number: 4, leaving: at(announced)}, {number: 5, leaving: at(ending)},
		}
		back := all.callBack(row.count)
		if !slices.Equal(back, row.back) || len(all.serving()) != 1+len(row.back) {
			t.Errorf("%s: %v came back, want %v; %v serve", row.name, back, row.back, all.serving())
		}
	}
}
