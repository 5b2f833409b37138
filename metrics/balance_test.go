package metrics

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

func near(a, b, tolerance float64) bool { return math.Abs(a-b) <= tolerance*max(1, math.Abs(b)) }

func TestBalanceOf(t *testing.T) {
	tests := []struct {
		name                               string
		counts                             []float64
		jain, cv, maxOverMean, spread, chi float64
	}{
		{"even", []float64{5, 5, 5, 5}, 1, 0, 1, 0, 0},
		{"one has all of four", []float64{8, 0, 0, 0}, .25, math.Sqrt(3), 4, 8, 8},
		{"two of three", []float64{3, 3, 0}, 2. / 3, math.Sqrt(.5), 1.5, 3, 1.5},
		{"one apart", []float64{2, 1}, .9, 1. / 3, 4. / 3, 1, 1. / 3},
		{"a single acceptor", []float64{7}, 1, 0, 1, 0, 0},
		{"nothing", []float64{0, 0}, 0, 0, 0, 0, 0},
		{"no acceptors", nil, 0, 0, 0, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := BalanceOf(tt.counts)
			got := []float64{b.Jain, b.CV, b.MaxOverMean, b.Spread, b.ChiSquare}
			want := []float64{tt.jain, tt.cv, tt.maxOverMean, tt.spread, tt.chi}
			for i := range got {
				if !near(got[i], want[i], 1e-12) {
					t.Errorf("jain, cv, max/mean, spread, chi-square: got %v, want %v", got, want)
					break
				}
			}
			if _, err := json.Marshal(b); err != nil {
				t.Error(err) // NaN and infinity are not JSON
			}
		})
	}
}

func TestBalanceHasItsProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw := rapid.SliceOfN(rapid.Uint64Max(1<<50), 1, 64).Draw(t, "counts")
		counts := make([]float64, len(raw))
		for i, x := range raw {
			counts[i] = float64(x)
		}
		b := BalanceOf(counts)
		if _, err := json.Marshal(b); err != nil {
			t.Fatal(err)
		}
		if b.Total == 0 {
			return
		}
		n := float64(len(counts))
		sum := 0.0
		for _, s := range b.Shares {
			sum += s
		}
		switch {
		case !near(sum, 1, 1e-9):
			t.Fatalf("shares add up to %v", sum)
		case b.Jain < 1/n-1e-9 || b.Jain > 1+1e-9:
			t.Fatalf("Jain %v outside [1/%v, 1]", b.Jain, n)
		case !near(b.Jain, 1/(1+b.CV*b.CV), 1e-9):
			t.Fatalf("Jain %v, but 1/(1+CV^2) = %v", b.Jain, 1/(1+b.CV*b.CV))
		case b.MaxOverMean < 1-1e-9 || b.MaxOverMean > n+1e-9:
			t.Fatalf("max/mean %v outside [1, %v]", b.MaxOverMean, n)
		case n > 1 && !near(b.ChiSquare, b.CV*b.CV/(b.Chance.CV*b.Chance.CV), 1e-6):
			t.Fatalf("chi-square per df %v, but (CV / chance's CV)^2 = %v", b.ChiSquare, b.CV*b.CV/(b.Chance.CV*b.Chance.CV))
		}
	})
}

// TestChanceIsWhatAHashGives throws connections at acceptors at random, from a
// fixed seed, and compares the averages with what ChanceOf foretells.
func TestChanceIsWhatAHashGives(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	const trials = 400
	for _, tt := range []struct{ k, n int }{{4, 100}, {4, 10000}, {16, 1000}, {64, 10000}} {
		var chi, squaredCV, jain, maxOverMean float64
		for range trials {
			counts := make([]float64, tt.k)
			for range tt.n {
				counts[random.IntN(tt.k)]++
			}
			b := BalanceOf(counts)
			chi += b.ChiSquare / trials
			squaredCV += b.CV * b.CV / trials
			jain += b.Jain / trials
			maxOverMean += b.MaxOverMean / trials
		}
		chance := ChanceOf(float64(tt.n), tt.k)
		t.Logf("%d on %d: chi-square/df %.3f, CV %.4f (%.4f), Jain %.4f (%.4f), max/mean %.3f (%.3f)",
			tt.n, tt.k, chi, math.Sqrt(squaredCV), chance.CV, jain, chance.Jain, maxOverMean, chance.MaxOverMean)
		if math.Abs(chi-1) > .1 {
			t.Errorf("%d on %d: chi-square per df %.3f, want about 1", tt.n, tt.k, chi)
		}
		if cv := math.Sqrt(squaredCV); math.Abs(cv/chance.CV-1) > .05 {
			t.Errorf("%d on %d: CV %.4f, foretold %.4f", tt.n, tt.k, cv, chance.CV)
		}
		if math.Abs(jain-chance.Jain) > .01 {
			t.Errorf("%d on %d: Jain %.4f, foretold %.4f", tt.n, tt.k, jain, chance.Jain)
		}
		// An upper bound, and not more than twice too far from 1.
		if over := (chance.MaxOverMean - 1) / (maxOverMean - 1); over < 1 || over > 2 {
			t.Errorf("%d on %d: max/mean %.3f, foretold %.3f", tt.n, tt.k, maxOverMean, chance.MaxOverMean)
		}
	}
}
