package config

import (
	"os"
	"path/filepath"
	"testing"
)

func TestUnknownVariables(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sluice.toml")
	if err := os.WriteFile(path, []byte("instance = \"${SLUICE_POD:-x}\"\n"+smallFile), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, value string
		want        string // "" = no fault
	}{
		{"SLUICE_ADMN", ":1", `SLUICE_ADMN: unknown variable, did you mean SLUICE_ADMIN?`},
		{"SLUICE_ADMN", "", `SLUICE_ADMN: unknown variable, did you mean SLUICE_ADMIN?`},
		{"SLUICE_ACCEPTOR", "1", `SLUICE_ACCEPTOR: unknown variable, did you mean SLUICE_ACCEPTORS?`},
		{"SLUICE_LOGLEVEL", "debug", `SLUICE_LOGLEVEL: unknown variable, did you mean SLUICE_LOG_LEVEL?`},
		{"SLUICE_CONFG", "x", `SLUICE_CONFG: unknown variable, did you mean SLUICE_CONFIG?`},
		{"SLUICE_COLOUR", "red", `SLUICE_COLOUR: unknown variable; "sluice run -h" lists the known ones`},
		{"SLUICE_IDLE_TIMEOUTS_PORT", "80", `SLUICE_IDLE_TIMEOUTS_PORT: unknown variable; "sluice run -h" lists the known ones`},
		{"SLUICE_LOG_LEVEL", "debug", ""},
		{"SLUICE_LOG_LEVEL", "", ""},
		{"SLUICE_POD", "a", ""}, // the file asks for it
		{"sluice_mode", "x", ""},
		{"MY_SLUICE_MODE", "x", ""},
		// What Kubernetes sets for Services "sluice" and "sluice-metrics".
		{"SLUICE_SERVICE_HOST", "10.0.0.1", ""},
		{"SLUICE_SERVICE_PORT", "80", ""},
		{"SLUICE_METRICS_SERVICE_PORT_HTTP", "9095", ""},
		{"SLUICE_PORT", "tcp://10.0.0.1:80", ""},
		{"SLUICE_PORT_80_TCP", "tcp://10.0.0.1:80", ""},
		{"SLUICE_METRICS_PORT_9095_TCP_ADDR", "10.0.0.1", ""},
	} {
		_, err := fromArgs(t, Environment{test.name: test.value}, "-c", path)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%s=%q:\ngot  %s\nwant %s", test.name, test.value, got, test.want)
		}
	}
}

// An empty variable says something only where empty is a value.
func TestEmptyVariables(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sluice.toml")
	text := "instance = \"a\"\nadmin.listen = \":1\"\nadmin.socket = \"/a\"\n" + smallFile
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	vars := NewEnvironment([]string{"SLUICE_ADMIN=", "SLUICE_ADMIN_SOCKET=", "SLUICE_INSTANCE=", "SLUICE_MODE=", "SLUICE_LISTEN=", "SLUICE_BACKEND=", "SLUICE_CONFIG=", "A"})
	c, err := fromArgs(t, vars, "-c", path)
	if err != nil {
		t.Fatal(err)
	}
	if c.Admin != (Admin{Metrics: MetricsFull, AddressSeries: 256, Ready: ReadyListening}) || c.Instance != "" {
		t.Errorf("admin %+v, instance %q: the variables turn them off", c.Admin, c.Instance)
	}
	if c.Acceptors.Mode != ModeProcess || c.Listeners[0].Bind != ":8080" {
		t.Errorf("mode %s, bind %s: an empty variable leaves the file's", c.Acceptors.Mode, c.Listeners[0].Bind)
	}
}
