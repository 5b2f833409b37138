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

// A seat that leaves is called back first, then come the lowest free numbers; the old seats stay
// as they are.
func TestResized(t *testing.T) {
	now := time.Now()
	old := seatsOf(0, 2, 3)
	old.leave(2, now) // 3 leaves
	for count, want := range map[int]struct{ serve, back, made []int }{
		1: {[]int{0}, nil, nil}, 2: {[]int{0, 2}, nil, nil}, 3: {[]int{0, 2, 3}, []int{3}, nil}, 5: {[]int{0, 2, 3, 4, 5}, []int{3}, []int{4, 5}},
		metrics.MaxAcceptors: {nil, []int{3}, nil},
	} {
		next, back, made := old.resized(count, seatsOf(1), now)
		if count == metrics.MaxAcceptors { // 1 is no place
			if n := len(next.serving()); n != count-1 || slices.Contains(made.numbers(), 1) {
				t.Errorf("%d serve of %d, made %v", n, count, made.numbers())
			}
			continue
		}
		if !slices.Equal(next.serving(), want.serve) || !slices.Equal(back, want.back) || !slices.Equal(made.numbers(), want.made) {
			t.Errorf("%d: %v serve, %v back, %v made", count, next.serving(), back, made.numbers())
		}
	}
	if !slices.Equal(old.serving(), []int{0, 2}) || len(old) != 3 {
		t.Errorf("%v serve", old.serving())
	}
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

// A seat that has closed nothing yet is called back before a new one is made.
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
