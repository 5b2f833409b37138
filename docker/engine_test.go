package docker

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/metrics"
)

// engine is a private Docker engine with the image in it.
type engine struct {
	client string // the program
	socket string
}

// Where the containers of an engine have their networks.
const (
	hostNetwork = "--mount"       // they share the test's, are alone, or share each other's
	ownNetwork  = "--mount --net" // the engine makes bridges, in a network namespace of its own
)

// startEngine starts one that ends with the test, and builds the image in it. It
// runs in the namespaces that unshare makes, so that no mount and no interface is
// left behind.
func startEngine(t *testing.T, unshare string) engine {
	t.Helper()
	long(t)
	if os.Getuid() != 0 {
		missing(t, "only root can start a Docker engine")
	}
	dockerd := tool(t, "dockerd", "docker.io")
	dir, err := os.MkdirTemp("", "sluice") // not t.TempDir: a socket's path has 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	e := engine{tool(t, "docker", "docker.io"), "unix://" + filepath.Join(dir, "socket")}
	args := append(strings.Fields(unshare), "sh", "-c", `ip link set lo up && exec "$@"`, "sh",
		dockerd, "--iptables=false", "--log-level=warn", "--group=root", "--host="+e.socket,
		"--data-root="+filepath.Join(dir, "data"), "--exec-root="+filepath.Join(dir, "exec"), "--pidfile="+filepath.Join(dir, "pid"))
	if unshare == hostNetwork {
		args = append(args, "--bridge=none")
	}
	background(t, func(string) {}, tool(t, "unshare", "util-linux"), args...)
	eventually(t, time.Minute, "the engine answers", func() bool {
		return exec.Command(e.client, "--host="+e.socket, "version").Run() == nil
	})
	if err := os.MkdirAll(filepath.Join(dir, "dist", "run"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(build(t), filepath.Join(dir, "dist", "sluice")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, ".dockerignore"), "*\n!dist\n")
	e.docker(t, "build", "-f", "Dockerfile.scratch", "-t", "sluice:local", dir)
	return e
}

// docker runs a command of the client and returns what it printed.
func (e engine) docker(t *testing.T, args ...string) string {
	t.Helper()
	return strings.TrimSpace(run(t, e.client, append([]string{"--host=" + e.socket}, args...)...))
}

// inspect returns one field of a container or an image.
func (e engine) inspect(t *testing.T, what, field string) string {
	t.Helper()
	return e.docker(t, "inspect", "--format={{"+field+"}}", what)
}

// container is a running sluice.
type container struct {
	engine
	name  string
	addr  string // of its listener
	admin string
}

// start runs one, on free ports of loopback, with further options for "docker run".
// It is removed with the test.
func (e engine) start(t *testing.T, name, backend string, options ...string) container {
	t.Helper()
	c := container{engine: e, name: name}
	args := append([]string{"run", "--detach", "--name=" + name,
		"--env=SLUICE_LISTEN=127.0.0.1:0", "--env=SLUICE_BACKEND=" + backend, "--env=SLUICE_LOG_FORMAT=json"}, options...)
	e.docker(t, append(args, "sluice:local")...)
	t.Cleanup(func() { e.remove(t, name) })
	eventually(t, 20*time.Second, name+" is ready", func() bool {
		for line := range strings.Lines(e.docker(t, "logs", name)) {
			var entry struct{ Msg, Address, Admin string }
			unmarshal(t, line, &entry)
			switch entry.Msg {
			case "listening":
				c.addr = entry.Address
			case "ready":
				c.admin = entry.Admin
			}
		}
		return c.admin != ""
	})
	return c
}

// remove ends a container; its log is shown if the test failed. The test's own
// context has ended by then.
func (e engine) remove(t *testing.T, name string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	host := "--host=" + e.socket
	if t.Failed() {
		out, _ := exec.CommandContext(ctx, e.client, host, "logs", name).CombinedOutput()
		t.Logf("log of %s:\n%s", name, out)
	}
	if out, err := exec.CommandContext(ctx, e.client, host, "rm", "--force", name).CombinedOutput(); err != nil {
		t.Errorf("remove %s: %v: %s", name, err, out)
	}
}

// status is /status.json of a container in the host's network.
func (c container) status(t *testing.T) (s metrics.Snapshot) {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second}
	r, err := client.Get(fmt.Sprintf("http://%s/status.json", c.admin))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if err := json.NewDecoder(r.Body).Decode(&s); err != nil {
		t.Fatal(err)
	}
	return s
}
