package docker

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestComposeRuns brings up what needs no image but our own: sluice with the
// backends of compose.yaml, and all of compose.sidecar.yaml.
func TestComposeRuns(t *testing.T) {
	e := startEngine(t, ownNetwork)
	program := tool(t, "docker-compose", "docker-compose")
	t.Run("compose.yaml", func(t *testing.T) {
		p := project{e, program, "compose.yaml"}
		p.up(t, "sluice")
		p.expectAnswer(t)
	})
	t.Run("compose.sidecar.yaml", func(t *testing.T) {
		e.buildPause(t)
		p := project{e, program, "compose.sidecar.yaml"}
		p.up(t)
		p.expectAnswer(t)
		for _, part := range []string{"sluice", "app"} {
			e.docker(t, "restart", p.container(t, part))
			p.expectAnswer(t)
		}
		// A sluice whose namespace has gone ends, and comes back in the new one. The
		// application of this file can't tell.
		sidecar := p.container(t, "sluice")
		restarts := e.inspect(t, sidecar, ".RestartCount")
		e.docker(t, "restart", p.container(t, "net"))
		eventually(t, time.Minute, "the sidecar has ended and come back", func() bool { return e.inspect(t, sidecar, ".RestartCount") != restarts })
		if log := e.docker(t, "logs", sidecar); !strings.Contains(log, "the network namespace has lost its interfaces") {
			t.Errorf("the sidecar does not say why it ended:\n%s", log)
		}
		e.docker(t, "restart", p.container(t, "app"))
		p.expectAnswer(t)
		p.compose(t, "stop")
		for _, service := range []string{"sluice", "app"} {
			if code := e.inspect(t, p.container(t, service), ".State.ExitCode"); code != "0" {
				t.Errorf("%s: exit status %s", service, code)
			}
		}
		if sidecar, app := p.finished(t, "sluice"), p.finished(t, "app"); !sidecar.Before(app) {
			t.Errorf("the sidecar ended at %v, its application at %v", sidecar, app)
		}
	})
}

// buildPause has an image take the place of one that the test does not fetch.
func (e engine) buildPause(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "Dockerfile"), "FROM sluice:local\nENTRYPOINT [\"/sluice\", \"demo\", \"-listen\", \"127.0.0.1:7999\", \"-admin\", \"127.0.0.1:7998\"]\nCMD []\nHEALTHCHECK NONE\n")
	e.docker(t, "build", "-t", "registry.k8s.io/pause:3.10", dir)
}

// project is a Compose file that runs in an engine.
type project struct {
	engine
	program string
	file    string
}

func (p project) args(args ...string) []string {
	return append([]string{"--host", p.socket, "--project-name=sluice", "--file", p.file}, args...)
}

func (p project) compose(t *testing.T, args ...string) string {
	t.Helper()
	return strings.TrimSpace(run(t, p.program, p.args(args...)...))
}

// up starts services, or all, until the end of the test.
func (p project) up(t *testing.T, services ...string) {
	t.Helper()
	t.Cleanup(func() {
		if out, err := exec.Command(p.program, p.args("down")...).CombinedOutput(); err != nil {
			t.Errorf("down: %v\n%s", err, out)
		}
	})
	p.compose(t, append([]string{"up", "--detach", "--no-build"}, services...)...)
}

// expectAnswer asks a backend through sluice, in its container. Backends answer
// HTTP, and so the health check can be their client.
func (p project) expectAnswer(t *testing.T) {
	t.Helper()
	id := p.container(t, "sluice")
	eventually(t, time.Minute, "sluice is healthy", func() bool { return p.inspect(t, id, ".State.Health.Status") == "healthy" })
	said := p.docker(t, "exec", id, "/sluice", "healthcheck", "-admin", "127.0.0.1:8080")
	if !strings.Contains(said, "through acceptor") {
		t.Errorf("through sluice: %s", said)
	}
}

// container is the id of a service's.
func (p project) container(t *testing.T, service string) string {
	t.Helper()
	return p.compose(t, "ps", "--all", "--quiet", service)
}

// finished is when a service's container ended.
func (p project) finished(t *testing.T, service string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339Nano, p.inspect(t, p.container(t, service), ".State.FinishedAt"))
	if err != nil {
		t.Fatal(err)
	}
	return at
}
