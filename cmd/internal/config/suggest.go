package config

import (
	"fmt"
	"strings"
)

// DidYouMean completes a message: `, did you mean "bind"?`, or nothing.
func DidYouMean(word string, legal []string) string {
	if near := nearest(word, legal); near != "" {
		return fmt.Sprintf(", did you mean %q?", near)
	}
	return ""
}

// nearest is the legal word that was probably meant, "" if none is near: at most
// two slips away, and no more than one in two letters.
func nearest(word string, legal []string) string {
	best, at := "", min(2, len(word)/2)+1
	for _, l := range legal {
		if d := slips(strings.ToLower(word), l); d < at {
			best, at = l, d
		}
	}
	return best
}

// slips is the Damerau-Levenshtein distance (optimal string alignment): letters
// inserted, left out, exchanged, or swapped with their neighbour.
func slips(a, b string) int {
	row := func() []int { return make([]int, len(b)+1) }
	before, last, now := row(), row(), row()
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		now[0] = i
		for j := 1; j <= len(b); j++ {
			exchanged := last[j-1]
			if a[i-1] != b[j-1] {
				exchanged++
			}
			now[j] = min(exchanged, last[j]+1, now[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				now[j] = min(now[j], before[j-2]+1)
			}
		}
		before, last, now = last, now, before
	}
	return last[len(b)]
}
