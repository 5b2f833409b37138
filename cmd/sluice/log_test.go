package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"sluice/cmd/internal/config"
)

func TestLogFormatsAndLevels(t *testing.T) {
	for _, row := range []struct{ format, want string }{
		{"json", `"level":"INFO","msg":"now"`}, {"auto", `"level":"INFO","msg":"now"`}, {"text", "level=INFO msg=now"},
	} {
		var out bytes.Buffer
		log := newLogger(&out, config.Log{Level: "warn", Format: row.format})
		log.Info("before")
		log.level.Set(slog.LevelInfo)
		log.Info("now")
		log.close()
		if got := out.String(); !strings.Contains(got, row.want) || strings.Contains(got, "before") {
			t.Errorf("%s: %q", row.format, got)
		}
	}
}

// Lost lines are reported in the log's own format, whatever its level.
func TestLostLinesAreTold(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if err := r.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	log := newLogger(w, config.Log{Level: "error", Format: "json"})
	for range 20_000 { // nothing is read yet
		log.Error(strings.Repeat("x", 100))
	}
	lost := log.ring.Dropped()
	if lost == 0 {
		t.Fatal("nothing was lost")
	}
	for dec := json.NewDecoder(r); ; {
		var line struct {
			Level, Msg string
			Lines      uint64
		}
		if err := dec.Decode(&line); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(line.Msg, " lines were lost") {
			if line.Lines != lost || line.Level != "WARN" {
				t.Errorf("%+v, want %d lines", line, lost)
			}
			break
		}
	}
	log.close()
}
