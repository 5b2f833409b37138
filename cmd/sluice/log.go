package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"sluice/cmd/internal/config"
	"sluice/cmd/internal/logring"
)

// logger is the log of a service. Logging never waits for the log's reader.
type logger struct {
	*slog.Logger
	level *slog.LevelVar // may be changed at any time
	ring  *logring.Ring
}

// closeWithin bounds what a stuck reader may delay the end: time to write 1 MiB to a
// terminal, and too short for an operator to mind.
const closeWithin = time.Second

// newLogger writes to w at c's level: text for a terminal, JSON for everything else,
// unless c says which. close ends it.
func newLogger(w io.Writer, c config.Log) *logger {
	l := &logger{level: new(slog.LevelVar)}
	_ = l.level.UnmarshalText([]byte(c.Level)) // config has checked it
	handler := func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: l.level}) }
	if c.Format == "text" || c.Format == "auto" && isTerminal(w) {
		handler = func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, &slog.HandlerOptions{Level: l.level}) }
	}
	l.ring = logring.New(w, logring.Options{Lost: func(w io.Writer, n uint64) {
		r := slog.NewRecord(time.Now(), slog.LevelWarn, fmt.Sprintf("%d lines were lost", n), 0)
		r.AddAttrs(slog.Uint64("lines", n))
		_ = handler(w).Handle(context.Background(), r) // whatever the level: a gap must show
	}})
	l.Logger = slog.New(handler(l.ring))
	return l
}

// close writes what is still to be written, unless the reader is stuck.
func (l *logger) close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	_ = l.ring.Close(ctx) // there is no one left to tell
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
