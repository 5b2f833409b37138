package docker

import (
	"errors"
	"net"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// unprivileged is how the image is meant to run.
var unprivileged = []string{"--network=host", "--read-only", "--tmpfs=/run/sluice:uid=65532,mode=0700", "--cap-drop=ALL", "--security-opt=no-new-privileges"}

// TestImage builds the image and runs it. The engine is started once for all parts.
func TestImage(t *testing.T) {
	e := startEngine(t, hostNetwork)
	t.Run("is small and runs as nobody", func(t *testing.T) {
		size, err := strconv.Atoi(e.inspect(t, "sluice:local", ".Size"))
		if err != nil || size > 16e6 {
			t.Errorf("%d bytes, %v; want at most 16 MB", size, err)
		}
		if user := e.inspect(t, "sluice:local", ".Config.User"); user != "65532:65532" {
			t.Errorf("user %s", user)
		}
	})
	t.Run("serves and becomes healthy", e.testHealthy)
	t.Run("is unhealthy when its admin endpoint does not answer", e.testUnhealthy)
	t.Run("is unhealthy without an admin endpoint", e.testNoAdmin)
	t.Run("takes a changed configuration", e.testReload)
	t.Run("has a socket without further options", e.testSocket)
	t.Run("stops under load and loses nothing", e.testStop)
	t.Run("is a sidecar", e.testSidecar)
	t.Run("holds clients until the application listens", e.testWait)
	t.Run("has as many acceptors as CPUs", e.testCPUs)
	t.Run("steers by what it may do", e.testSteering)
}

func (e engine) testHealthy(t *testing.T) {
	c := e.start(t, "healthy", startEcho(t), append(unprivileged, "--env=SLUICE_ADMIN="+freeAddress(t))...)
	if err := talk(c.addr); err != nil {
		t.Error(err)
	}
	pid := e.inspect(t, c.name, ".State.Pid")
	proc := read(t, "/proc/"+pid+"/status")
	for _, want := range []string{"Uid:\t65532\t", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"} {
		if !strings.Contains(proc, want) {
			t.Errorf("its process has no %q:\n%s", want, proc)
		}
	}
	eventually(t, time.Minute, "it is healthy", func() bool { return e.inspect(t, c.name, ".State.Health.Status") == "healthy" })
}

func (e engine) testUnhealthy(t *testing.T) {
	// Its admin endpoint is on a port that its HEALTHCHECK cannot know.
	c := e.start(t, "unhealthy", startEcho(t), append(unprivileged, "--env=SLUICE_ADMIN=127.0.0.1:0",
		"--health-interval=500ms", "--health-start-period=0s", "--health-retries=2")...)
	eventually(t, time.Minute, "it is unhealthy", func() bool { return e.inspect(t, c.name, ".State.Health.Status") == "unhealthy" })
}

// testStop ends a container while clients come and go, and one stays.
func (e engine) testStop(t *testing.T) {
	c := e.start(t, "stopped", startEcho(t), append(unprivileged, "--env=SLUICE_ADMIN=127.0.0.1:0")...)
	held, err := net.DialTimeout("tcp", c.addr, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if err := echoOn(held); err != nil {
		t.Fatal(err)
	}
	var served atomic.Int64
	var clients sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				switch err := talk(c.addr); {
				case err == nil:
					served.Add(1)
				case errors.Is(err, errNotTaken): // it is leaving
					return
				default:
					t.Errorf("a client that was taken: %v", err)
					return
				}
			}
		})
	}
	eventually(t, 20*time.Second, "there is load", func() bool { return served.Load() > 200 })
	stopped := make(chan error, 1)
	go func() { stopped <- exec.Command(e.client, "--host="+e.socket, "stop", "--time=30", c.name).Run() }()
	clients.Wait()
	close(stop)
	if err := echoOn(held); err != nil {
		t.Errorf("the session that was held: %v", err)
	}
	held.Close()
	select {
	case err := <-stopped:
		if err != nil {
			t.Errorf("docker stop: %v", err)
		}
	case <-time.After(40 * time.Second):
		t.Fatal("it does not stop")
	}
	if code := e.inspect(t, c.name, ".State.ExitCode"); code != "0" {
		t.Errorf("exit status %s", code)
	}
}

// testSidecar runs sluice in the network namespace of an application that only
// listens on loopback.
func (e engine) testSidecar(t *testing.T) {
	e.docker(t, "run", "--detach", "--name=app", "--network=none", "sluice:local", "demo", "-listen", "127.0.0.1:8000", "-admin", "127.0.0.1:9195")
	t.Cleanup(func() { e.remove(t, "app") })
	c := e.start(t, "sidecar", "127.0.0.1:8000", "--network=container:app", "--read-only", "--cap-drop=ALL", "--env=SLUICE_LISTEN=127.0.0.1:8080")
	// The application answers HTTP, and so the health check can be its client.
	if said := e.docker(t, "exec", c.name, "/sluice", "healthcheck", "-admin", "127.0.0.1:8080"); !strings.Contains(said, "through acceptor") {
		t.Errorf("through the sidecar: %s", said)
	}
	if said := e.docker(t, "exec", c.name, "/sluice", "healthcheck", "-ready"); said != "ready" {
		t.Errorf("the sidecar says: %s", said)
	}
	e.docker(t, "stop", c.name)
	if code := e.inspect(t, c.name, ".State.ExitCode"); code != "0" {
		t.Errorf("exit status %s", code)
	}
}

// testWait starts the application after the sidecar, and after its first client.
func (e engine) testWait(t *testing.T) {
	c := e.start(t, "early", "127.0.0.1:8000", "--network=none", "--read-only", "--cap-drop=ALL",
		"--env=SLUICE_LISTEN=127.0.0.1:8080", "--env=SLUICE_WAIT_FOR_BACKEND=1m")
	type answer struct {
		said []byte
		err  error
	}
	answered := make(chan answer, 1)
	go func() {
		said, err := exec.CommandContext(t.Context(), e.client, "--host="+e.socket, "exec", c.name,
			"/sluice", "healthcheck", "-admin", "127.0.0.1:8080", "-timeout", "1m").CombinedOutput()
		answered <- answer{said, err}
	}()
	eventually(t, 20*time.Second, "it has tried", func() bool {
		return strings.Contains(e.docker(t, "logs", c.name), "backend does not take connections")
	})
	e.docker(t, "run", "--detach", "--name=late", "--network=container:"+c.name, "sluice:local", "demo", "-listen", "127.0.0.1:8000", "-admin", "127.0.0.1:9195")
	t.Cleanup(func() { e.remove(t, "late") })
	if a := <-answered; a.err != nil || !strings.Contains(string(a.said), "through acceptor") {
		t.Errorf("the client that came first: %v: %s", a.err, a.said)
	}
}

// testCPUs limits CPUs by quota and by set.
func (e engine) testCPUs(t *testing.T) {
	two := min(2, runtime.NumCPU())
	tests := []struct {
		name, option string
		want         int
	}{
		{"quota of half a CPU", "--cpus=0.5", 1},
		{"quota of two CPUs", "--cpus=" + strconv.Itoa(two), two},
		{"set of one CPU", "--cpuset-cpus=0", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := e.start(t, "cpus", startEcho(t), append(unprivileged, "--env=SLUICE_ADMIN=127.0.0.1:0", tt.option)...)
			if n := len(c.status(t).Acceptors); n != tt.want {
				t.Errorf("%d acceptors, want %d", n, tt.want)
			}
		})
	}
}

// testSteering reads which steering is in force with and without BPF.
func (e engine) testSteering(t *testing.T) {
	tests := []struct {
		name              string
		options           []string
		effective, reason string
	}{
		{"without BPF", unprivileged, "hand_off", "not_permitted"},
		{"with BPF", []string{"--network=host", "--read-only", "--user=0", "--cap-drop=ALL", "--cap-add=" + e.capabilityForBPF(t)}, "least", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := e.start(t, "steering", startEcho(t), append(tt.options, "--env=SLUICE_ADMIN=127.0.0.1:0")...)
			if err := talk(c.addr); err != nil {
				t.Error(err)
			}
			for _, l := range c.status(t).Listeners {
				if st := l.Steering; st.Requested != "auto" || st.Effective != tt.effective || st.Reason != tt.reason {
					t.Errorf("steering %+v, want %s %s", st, tt.effective, tt.reason)
				}
			}
		})
	}
}

// capabilityForBPF is BPF, or SYS_ADMIN, which contains it, with an engine that is
// too old to know BPF (20.10 of Debian 12).
func (e engine) capabilityForBPF(t *testing.T) string {
	version := e.docker(t, "version", "--format={{.Server.Version}}")
	if strings.HasPrefix(version, "20.10.") {
		return "SYS_ADMIN"
	}
	return "BPF"
}

// TestDockerfilesMakeTheSameImage compares their last stages, all but where the
// binary comes from.
func TestDockerfilesMakeTheSameImage(t *testing.T) {
	last := func(file string) string {
		_, stage, found := strings.Cut(read(t, file), "\nFROM scratch\n")
		if !found {
			t.Fatalf("%s does not start from scratch", file)
		}
		_, stage, _ = strings.Cut(stage, " /sluice\n")
		return stage
	}
	if a, b := last("Dockerfile"), last("Dockerfile.scratch"); a != b || a == "" {
		t.Errorf("Dockerfile:\n%s\nDockerfile.scratch:\n%s", a, b)
	}
}
