package metrics

import (
	"math/rand/v2"
	"testing"
)

func TestEvenness(t *testing.T) {
	for _, tt := range []struct {
		name   string
		counts []float64
		want   Evenness
	}{
		{"nothing", []float64{0, 0, 0, 0}, EvennessNone},
		{"no acceptor", nil, EvennessNone},
		{"a single one", []float64{7}, EvennessEven},
		{"one connection", []float64{0, 1, 0, 0}, EvennessEven},
		{"turns", []float64{5, 5, 6, 5}, EvennessEven},
		{"a few percent of many", []float64{1e6, 1.03e6, 1e6, 1e6}, EvennessEven},
		{"evener than chance", []float64{9, 11, 9, 11, 9, 11, 9, 11}, EvennessEven},
		{"as a hash does", []float64{30, 18, 25, 27}, EvennessChance},
		{"two of three", []float64{2, 0, 1}, EvennessChance},
		{"two that share like one", []float64{60, 40}, EvennessChance},
		{"one has all", []float64{20, 0, 0, 0}, EvennessSkewed},
		{"a tenth of many too much", []float64{1.1e6, 1e6, 1e6, 1e6}, EvennessSkewed},
		{"one gets nothing", []float64{33, 33, 0, 33}, EvennessSkewed},
	} {
		if got := BalanceOf(tt.counts).Evenness; got != tt.want {
			t.Errorf("%s: %v is %s, want %s", tt.name, tt.counts, got, tt.want)
		}
	}
}

// A fair hash is hardly ever called skewed, and rarely called even, over the sizes that
// the word is used for.
func TestEvennessOfAFairHash(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	const trials = 2000
	for _, tt := range []struct{ k, n int }{{2, 100}, {4, 100}, {4, 1000}, {16, 400}, {64, 2000}} {
		words := map[Evenness]int{}
		for range trials {
			counts := make([]float64, tt.k)
			for range tt.n {
				counts[random.IntN(tt.k)]++
			}
			words[BalanceOf(counts).Evenness]++
		}
		t.Logf("%d on %d: %v", tt.n, tt.k, words)
		if skewed := words[EvennessSkewed]; skewed > trials/200 {
			t.Errorf("%d on %d: a fair hash is called skewed %d times in %d", tt.n, tt.k, skewed, trials)
		}
	}
}
