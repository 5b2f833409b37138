package metrics

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// readme is the text of this package, and that of the repository.
func readme(t *testing.T) (text string) {
	t.Helper()
	for _, path := range []string{"README.md", "../README.md"} {
		b, err := os.ReadFile(path)
		if err != nil && path != "README.md" {
			t.Fatal(err)
		}
		text += string(b)
	}
	return text
}

// The README's table of metrics has one row for each family, with its labels and its
// help, and names no other.
func TestReadmeNamesEveryMetric(t *testing.T) {
	readme := readme(t)
	known := map[string]bool{}
	for _, f := range catalog {
		known[f.name] = true
		row := fmt.Sprintf("| `%s` | %s | %s |\n", f.name, strings.Join(f.labels, ", "), f.help)
		if !strings.Contains(readme, row) {
			t.Errorf("README.md lacks the row\n%s", row)
		}
	}
	for _, name := range regexp.MustCompile(`\bsluice_[a-z0-9_]+`).FindAllString(readme, -1) {
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			name = strings.TrimSuffix(name, suffix)
		}
		if !known[name] {
			t.Errorf("README.md names %s, which does not exist", name)
		}
	}
}

// The same holds for its tables of close reasons and of the other words that are labels.
func TestReadmeNamesEveryReason(t *testing.T) {
	b := readme(t)
	for _, word := range reasonNames {
		if !strings.Contains(b, "\n| `"+word+"` | ") {
			t.Errorf("README.md has no row for close reason %s", word)
		}
	}
	for _, words := range [][]string{rejectNames[:], acceptErrorNames[:], connectErrorNames[:], pathNames[:], waitEndNames[:], checkFailureNames[:], ejectReasonNames[:]} {
		for _, word := range words {
			if !strings.Contains(b, "`"+word+"`") {
				t.Errorf("README.md does not name the label value %s", word)
			}
		}
	}
}
