package metrics

import "math"

// Balance says how evenly a total is shared by acceptors, and how evenly chance
// would share it: a fair hash of few connections is uneven too, so only a
// figure that is far from Chance's is a defect. Total 0 means that there is no
// data: all figures are 0 then. None is ever NaN or infinite.
type Balance struct {
	Total float64 `json:"total"`
	// Shares are each acceptor's part of the total; they add up to 1.
	Shares []float64 `json:"shares"`
	// Jain is (sum x)^2 / (n sum x^2), from 1/n (one has all) to 1 (all have the
	// same): R. Jain, D. Chiu, W. Hawe, "A Quantitative Measure of Fairness and
	// Discrimination", DEC-TR-301, 1984. It equals 1 / (1 + CV^2).
	Jain float64 `json:"jain"`
	// CV is the coefficient of variation: population standard deviation / mean.
	CV float64 `json:"cv"`
	// MaxOverMean is how much more than its due the busiest has, 1 to n.
	MaxOverMean float64 `json:"max_over_mean"`
	// Spread is max - min, in what was counted.
	Spread float64 `json:"spread"`
	// ChiSquare is Pearson's chi-square against equal shares, per degree of
	// freedom: sum (x-mean)^2 / mean / (n-1). About 1 is what a fair hash gives,
	// whatever the total; well above is skew; below is evener than chance.
	// 0 for a single acceptor.
	ChiSquare float64 `json:"chi_square_per_df"`
	// Chance is what a fair hash would give.
	Chance Chance `json:"chance"`
	// Evenness is all of that in a word.
	Evenness Evenness `json:"evenness"`
}

// Chance is what balance to expect when each of a total of connections goes to
// one of k acceptors at random.
type Chance struct {
	CV          float64 `json:"cv"`
	Jain        float64 `json:"jain"`
	MaxOverMean float64 `json:"max_over_mean"`
}

// BalanceOf measures counts, one per acceptor, none negative.
func BalanceOf(counts []float64) Balance {
	k := float64(len(counts))
	b := Balance{Shares: make([]float64, len(counts)), Evenness: EvennessNone}
	lowest, highest := math.Inf(1), 0.0
	for _, x := range counts {
		b.Total += x
		lowest, highest = min(lowest, x), max(highest, x)
	}
	if b.Total == 0 {
		return b
	}
	mean := b.Total / k
	var squares, variations float64 // of the counts, and of their distances from the mean
	for i, x := range counts {
		b.Shares[i] = x / b.Total
		squares += x * x
		variations += (x - mean) * (x - mean)
	}
	b.CV = math.Sqrt(variations/k) / mean
	b.Jain = b.Total * b.Total / (k * squares)
	b.MaxOverMean = highest / mean
	b.Spread = highest - lowest
	if k > 1 {
		b.ChiSquare = variations / mean / (k - 1)
	}
	b.Chance = ChanceOf(b.Total, len(counts))
	b.Evenness = b.evenness()
	return b
}

// ChanceOf says what balance a fair hash of total connections over k acceptors
// gives on average; total and k are above 0.
//
// The counts are multinomial, so each has mean N/k and variance N/k (1 - 1/k),
// which makes CV = sqrt((k-1)/N). Jain follows from it. The highest of k
// nearly normal values lies about sqrt(2 ln k) deviations above the mean: an upper
// bound for their expected maximum, close for large k and not far off for small.
func ChanceOf(total float64, k int) Chance {
	cv := math.Sqrt(float64(k-1) / total)
	return Chance{
		CV:          cv,
		Jain:        1 / (1 + cv*cv),
		MaxOverMean: 1 + cv*math.Sqrt(2*math.Log(float64(k))),
	}
}
