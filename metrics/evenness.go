package metrics

import "math"

// Evenness is a Balance in a word, for people: the figures stand beside it.
//
//	nothing counted ─────────────────────────────────────────────► none
//	within one of each other, or none 5 % above the mean, or
//	evener than 99 of 100 fair hashes ───────────────────────────► even
//	as 999 of 1,000 fair hashes are ─────────────────────────────► chance
//	else ────────────────────────────────────────────────────────► skewed
type Evenness string

// The words.
const (
	EvennessNone   Evenness = "none"
	EvennessEven   Evenness = "even"
	EvennessChance Evenness = "chance"
	EvennessSkewed Evenness = "skewed"
)

// evenEnough is the max/mean up to which nothing need be done, however many were
// counted: of a million connections a hash that is off by 1 % is no chance, and no
// harm.
const evenEnough = 1.05

// Normal deviates of the two lines between the words. A page that shows 4 listeners,
// judged anew each 5 s, calls a fair hash skewed once in 20 minutes at one in 1,000:
// for the moment that a minute's window takes to move on.
const (
	evenerDeviates = -2.326 // 1 % of fair hashes are evener
	skewedDeviates = 3.090  // 0.1 % are more skewed
)

// evenness judges a Balance whose other figures are there.
func (b *Balance) evenness() Evenness {
	df := float64(len(b.Shares) - 1)
	switch {
	case b.Total == 0:
		return EvennessNone
	case b.Spread <= 1, b.MaxOverMean <= evenEnough, b.ChiSquare < chiSquareAt(evenerDeviates, df):
		return EvennessEven
	case b.ChiSquare <= chiSquareAt(skewedDeviates, df):
		return EvennessChance
	}
	return EvennessSkewed
}

// chiSquareAt is the chi-square per degree of freedom that lies a number of normal
// deviates from the middle: E. Wilson, M. Hilferty, "The Distribution of Chi-Square",
// PNAS 17, 1931. It is within 10 % from one degree on, and within 1 % from 5 on.
func chiSquareAt(deviates, df float64) float64 {
	v := 2 / (9 * df)
	return math.Pow(max(0, 1-v+deviates*math.Sqrt(v)), 3)
}
