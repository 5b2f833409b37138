package main

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sluice/cmd/internal/config"
)

// checkHealth runs the command in this process.
func checkHealth(vars config.Environment, args ...string) (status int, said string) {
	var out bytes.Buffer
	status = healthcheck(env{stdout: &out, stderr: &out, vars: vars}, args)
	return status, out.String()
}

func TestHealthcheckFindsTheAddress(t *testing.T) {
	s := sluice(t, "goroutine", "--listen", "127.0.0.1:0", "--backend", echoing(t).addr)
	_, port, err := net.SplitHostPort(s.admin)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "sluice.toml")
	write := func(listen string) {
		t.Helper()
		text := "admin.listen = \"" + listen + "\"\nlistener.a = {bind = \":1\", pool = \"a\"}\npool.a = {backends = [\"127.0.0.1:2\"]}\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(s.admin)
	free := unusedAddress(t)
	tests := []struct {
		name   string
		vars   config.Environment
		args   []string
		status int
		says   string
	}{
		{"flag", nil, []string{"-admin", s.admin}, exitOK, "alive"},
		{"ready", nil, []string{"-admin", s.admin, "-ready"}, exitOK, "ready"},
		{"port of this machine", nil, []string{"-admin", ":" + port}, exitOK, "alive"},
		{"any address", nil, []string{"-admin", "0.0.0.0:" + port}, exitOK, "alive"},
		{"variable", config.Environment{"SLUICE_ADMIN": s.admin}, nil, exitOK, "alive"},
		{"file", nil, []string{"-c", file}, exitOK, "alive"},
		{"file by variable", config.Environment{"SLUICE_CONFIG": file}, nil, exitOK, "alive"},
		{"variable before file", config.Environment{"SLUICE_CONFIG": file, "SLUICE_ADMIN": free}, nil, exitFault, "connection refused"},
		{"turned off by variable", config.Environment{"SLUICE_CONFIG": file, "SLUICE_ADMIN": ""}, nil, exitFault, "nothing to ask"},
		{"no such file", nil, []string{"-c", file + "x"}, exitFault, "no such file"},
		{"unknown flag", nil, []string{"-x"}, exitUsage, "-x"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, said := checkHealth(tt.vars, tt.args...)
			if status != tt.status || !strings.Contains(said, tt.says) {
				t.Errorf("status %d, %q; want %d and %q", status, said, tt.status, tt.says)
			}
		})
	}
	write("")
	if status, said := checkHealth(nil, "-c", file); status != exitFault || !strings.Contains(said, "nothing to ask") {
		t.Errorf("with admin off: status %d, %q", status, said)
	}
}

// unusedAddress is a loopback address where nothing listens.
func unusedAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	return ln.Addr().String()
}

func TestHealthcheckWhileDraining(t *testing.T) {
	s := sluice(t, "goroutine", "--listen", "127.0.0.1:0", "--backend", echoing(t).addr, "--drain-timeout", "1m")
	c := dial(t, s.addr())
	send(t, c, "hello")
	expect(t, c, "hello")
	s.signal(syscall.SIGTERM)
	eventually(t, patience, "draining", func() bool { return s.status().Draining })
	if status, said := checkHealth(nil, "-admin", s.admin); status != exitOK {
		t.Errorf("status %d, %q: a draining sluice is alive", status, said)
	}
	if status, said := checkHealth(nil, "-admin", s.admin, "-ready"); status != exitFault || !strings.Contains(said, "503 Service Unavailable: draining") {
		t.Errorf("status %d, %q: a draining sluice is not ready", status, said)
	}
	c.Close()
	if status := s.wait(stopWithin); status != exitOK {
		t.Errorf("exit status %d", status)
	}
}

// TestHealthcheckDoesNotWaitForEver asks a listener that takes the connection and
// says nothing.
func TestHealthcheckDoesNotWaitForEver(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	status, said := checkHealth(nil, "-admin", ln.Addr().String(), "-timeout", "50ms")
	if status != exitFault || !strings.Contains(said, "Timeout") {
		t.Errorf("status %d, %q", status, said)
	}
}
