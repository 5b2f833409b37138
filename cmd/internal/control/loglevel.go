package control

import (
	"fmt"
	"log/slog"
	"strings"

	"sluice/cmd/internal/admin"
)

// logLevel has the log show what has this level, until a reload changes something or
// another call does. It may be called by any goroutine.
func (s *service) logLevel(level slog.Level) admin.Verdict {
	before := s.Level.Level()
	s.Level.Set(level)
	return s.verdict(true, fmt.Sprintf("the log's level was %s and is %s until the next reload that changes anything", word(before), word(level)), nil)
}

func word(level slog.Level) string { return strings.ToLower(level.String()) }
