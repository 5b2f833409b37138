package steering

import "testing"

// Each connection goes to the seat that was foreseen, however many each holds.
func TestForesee(t *testing.T) {
	needBPF(t)
	for _, policy := range programs {
		t.Run(policy.String(), func(t *testing.T) {
			s := start(t, "127.0.0.1:0", 4, policy)
			s.onlyTo(2)
			s.dial("127.0.0.1", 5, false)
			before := s.held(5)
			s.onlyTo(-1)
			for n := int64(6); n < 40; n++ {
				want, ok := s.rows.Foresee(policy, []int{0, 1, 2, 3})
				if !ok {
					t.Fatal("nobody was foreseen")
				}
				s.dial("127.0.0.1", 1, false)
				after := s.held(n)
				if after[want] != before[want]+1 {
					t.Fatalf("acceptor %d was foreseen; held %v, then %v", want, before, after)
				}
				before = after
			}
			for i := range s.acceptors {
				s.rows.SetHung(i, i != 1)
			}
			if seat, ok := s.rows.Foresee(policy, []int{0, 1, 2, 3}); !ok || seat != 1 {
				t.Errorf("%d, %v; the others hang", seat, ok)
			}
			if _, ok := s.rows.Foresee(policy, []int{0, 2, 3}); ok {
				t.Error("one was foreseen, and all hang")
			}
		})
	}
}
