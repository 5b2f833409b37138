package proxy

import "testing"

func TestProbeSplice(t *testing.T) {
	before := openDescriptors(t)
	if err := ProbeSplice(); err != nil {
		t.Error(err)
	}
	if n := openDescriptors(t); n != before {
		t.Errorf("%d descriptors are open, %d were before", n, before)
	}
}
