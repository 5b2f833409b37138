package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// clientWithin bounds one run of a load program.
const clientWithin = time.Minute

func TestNginx(t *testing.T) {
	takesLong(t)
	wrk := need(t, "wrk", "wrk")
	const small, large = 1000, 1 << 20
	addr := startNginx(t, map[string]int{"small": small, "large": large})
	relaysServer(t, addr, func(t *testing.T, s *instance) {
		for _, load := range []struct {
			file            string
			size            int
			enough, clients int
			header          string
			connectionEach  bool
		}{
			{"small", small, 10000, 16, "Accept: */*", false},
			{"small", small, 2000, 16, "Connection: close", true},
			{"large", large, 100, 4, "Accept: */*", false},
		} {
			accepted, sent := s.metric("sluice_acceptor_accepted_connections_total"), s.metric("sluice_listener_sent_bytes_total")
			requests := 0
			for deadline := time.Now().Add(clientWithin); requests < load.enough; {
				if time.Now().After(deadline) {
					t.Fatalf("%s: %d requests within %v", load.file, requests, clientWithin)
				}
				out := finish(t, clientWithin, wrk, "-t1", "-c", strconv.Itoa(load.clients), "-d1s", "-H", load.header,
					fmt.Sprintf("http://%s/%s", s.addr(), load.file))
				// wrk names socket errors and other answers than 200 only if there were any.
				if strings.Contains(out, "errors") || strings.Contains(out, "Non-2xx") {
					t.Fatal(out)
				}
				requests += number(t, out, `(\d+) requests in`)
			}
			s.awaitIdle()
			accepted = s.metric("sluice_acceptor_accepted_connections_total") - accepted
			sent = s.metric("sluice_listener_sent_bytes_total") - sent
			if load.connectionEach && accepted < float64(requests) || accepted < float64(load.clients) {
				t.Errorf("%s: %.0f connections counted for %d requests of %d clients", load.file, accepted, requests, load.clients)
			}
			if sent < float64(requests)*float64(load.size) {
				t.Errorf("%s: %.0f bytes counted for %d answers of %d bytes", load.file, sent, requests, load.size)
			}
		}
	})
}

// startNginx serves files of the given sizes.
func startNginx(t *testing.T, files map[string]int) (addr string) {
	addr = local(freePort(t))
	server(t, nginxAt(t, addr, files))
	awaitServer(t, addr)
	return addr
}

func nginxAt(t *testing.T, addr string, files map[string]int) *exec.Cmd {
	nginx := need(t, "nginx", "nginx")
	dir := t.TempDir()
	for name, size := range files {
		write(t, filepath.Join(dir, name), string(make([]byte, size)))
	}
	temp := ""
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		temp += fmt.Sprintf("%s_temp_path %s/%s; ", kind, dir, kind)
	}
	config := filepath.Join(dir, "nginx.conf")
	write(t, config, fmt.Sprintf(`
daemon off; master_process off; pid %[1]s/pid; error_log stderr;
events { worker_connections 1024; }
http { access_log off; keepalive_requests 1000000; %[2]s server { listen %[3]s; root %[1]s; } }`, dir, temp, addr))
	return exec.Command(nginx, "-c", config, "-p", dir, "-e", "stderr")
}

func TestRedis(t *testing.T) {
	takesLong(t)
	benchmark := need(t, "redis-benchmark", "redis-tools")
	addr := startRedis(t)
	relaysServer(t, addr, func(t *testing.T, s *instance) {
		host, port, _ := net.SplitHostPort(s.addr())
		for _, load := range []struct {
			requests int
			args     []string
		}{
			{5000, []string{"-t", "set,get,lrange_100"}},
			{100000, []string{"-t", "set,get", "-P", "32"}},
			{300, []string{"-t", "set,get", "-d", "300000"}},
		} {
			before := commandsOf(t, addr)
			out := finish(t, clientWithin, benchmark, append([]string{"-h", host, "-p", port, "-q", "-c", "20", "-n", strconv.Itoa(load.requests)}, load.args...)...)
			if strings.Contains(strings.ToLower(out), "err") {
				t.Fatal(out)
			}
			if n := commandsOf(t, addr) - before; n < 2*load.requests {
				t.Errorf("the server saw %d commands of 2 x %d", n, load.requests)
			}
		}
	})
}

func startRedis(t *testing.T) (addr string) {
	port := freePort(t)
	server(t, redisAt(t, port))
	awaitServer(t, local(port))
	return local(port)
}

func redisAt(t *testing.T, port int) *exec.Cmd {
	redis := need(t, "redis-server", "redis-server")
	return exec.Command(redis, "--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--dir", t.TempDir(), "--save", "", "--appendonly", "no")
}

// commandsOf asks a redis how many commands it has had.
func commandsOf(t *testing.T, addr string) int {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	fmt.Fprint(c, "INFO stats\r\n")
	for lines := bufio.NewScanner(c); lines.Scan(); {
		if n, ok := strings.CutPrefix(lines.Text(), "total_commands_processed:"); ok {
			return number(t, n, `(\d+)`)
		}
	}
	t.Fatal("redis does not say how many commands it has had")
	return 0
}

func TestPostgreSQL(t *testing.T) {
	takesLong(t)
	pgbench := need(t, "pgbench", "postgresql")
	addr := startPostgres(t, nil)
	relaysServer(t, addr, func(t *testing.T, s *instance) {
		host, port, _ := net.SplitHostPort(s.addr())
		bench := func(args ...string) string {
			return finish(t, clientWithin, pgbench, append([]string{"-h", host, "-p", port, "-U", "postgres"}, append(args, "postgres")...)...)
		}
		bench("-i", "-q", "-s", "1") // COPY of 100,000 rows: a stream
		for _, load := range []struct {
			transactions, clients int
			args                  []string
		}{
			{150, 4, nil},
			{15, 4, []string{"-C", "-S"}}, // the server takes 70 ms for each connection
		} {
			accepted := s.metric("sluice_acceptor_accepted_connections_total")
			out := bench(append(load.args, "-n", "-c", strconv.Itoa(load.clients), "-t", strconv.Itoa(load.transactions))...)
			all := load.transactions * load.clients
			if done := number(t, out, `actually processed: (\d+)/`); done != all || number(t, out, `failed transactions: (\d+)`) != 0 {
				t.Errorf("pgbench %v: %s", load.args, out)
			}
			sessions := load.clients
			if load.args != nil {
				sessions = all
			}
			if n := s.metric("sluice_acceptor_accepted_connections_total") - accepted; n < float64(sessions) {
				t.Errorf("pgbench %v: %.0f sessions counted, at least %d expected", load.args, n, sessions)
			}
		}
	})
}

// startPostgres runs a database with one user, postgres, and files in its directory, by
// name.
func startPostgres(t *testing.T, files map[string]string, args ...string) (addr string) {
	p := newPostgres(t, files)
	server(t, p.command(args...))
	awaitServer(t, local(p.port))
	return local(p.port)
}

// postgres is a database that may be run.
type postgres struct {
	program, dir string
	as           *syscall.SysProcAttr
	port         int
}

// newPostgres makes one. It refuses to run as root.
func newPostgres(t *testing.T, files map[string]string) postgres {
	initdb, program := need(t, "initdb", "postgresql"), need(t, "postgres", "postgresql")
	dir, err := os.MkdirTemp("", "sluice-postgres-") // t.TempDir is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	as := &syscall.SysProcAttr{}
	owner := struct{ uid, gid int }{-1, -1}
	if os.Getuid() == 0 {
		nobody, err := user.Lookup("nobody")
		if err != nil {
			t.Fatal(err)
		}
		owner.uid, _ = strconv.Atoi(nobody.Uid)
		owner.gid, _ = strconv.Atoi(nobody.Gid)
		if err := os.Chown(dir, owner.uid, owner.gid); err != nil {
			t.Fatal(err)
		}
		as.Credential = &syscall.Credential{Uid: uint32(owner.uid), Gid: uint32(owner.gid)}
	}
	make := exec.Command(initdb, "-D", dir, "-U", "postgres", "-A", "trust", "--no-sync", "--no-instructions")
	make.SysProcAttr, make.Dir = as, dir
	if out, err := make.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chown(path, owner.uid, owner.gid)); err != nil {
			t.Fatal(err)
		}
	}
	return postgres{program, dir, as, freePort(t)}
}

// another is a copy of one that does not run: that takes a tenth of the time.
func (p postgres) another(t *testing.T) postgres {
	dir := p.dir + "-copy"
	t.Cleanup(func() { os.RemoveAll(dir) })
	finish(t, clientWithin, "cp", "-a", p.dir, dir)
	p.dir, p.port = dir, freePort(t)
	return p
}

func (p postgres) command(args ...string) *exec.Cmd {
	run := exec.Command(p.program, append([]string{"-D", p.dir, "-h", "127.0.0.1", "-p", strconv.Itoa(p.port), "-F",
		"-c", "unix_socket_directories=", "-c", "log_min_messages=fatal", "-c", "max_connections=50"}, args...)...)
	run.SysProcAttr, run.Dir = p.as, p.dir
	return run
}

func TestIperf(t *testing.T) {
	iperf := need(t, "iperf3", "iperf3")
	const bytes = 256 << 20
	port := freePort(t)
	relaysServer(t, local(port), func(t *testing.T, s *instance) {
		host, through, _ := net.SplitHostPort(s.addr())
		for _, direction := range [][]string{nil, {"-R"}} {
			// One server a run: one that still ends the last run would refuse the next.
			out := server(t, exec.Command(iperf, "-s", "-1", "--forceflush", "-B", "127.0.0.1", "-p", strconv.Itoa(port)))
			eventually(t, startWithin, "iperf3 listens", func() bool { return strings.Contains(out.String(), "Server listening") })
			report := finish(t, clientWithin, iperf, append([]string{"-c", host, "-p", through, "-J", "-n", strconv.Itoa(bytes)}, direction...)...)
			select {
			case <-out.ended: // and the port is free again
			case <-time.After(stopWithin):
				t.Fatalf("the server of iperf3 %v does not end", direction)
			}
			var sums struct {
				End struct {
					Received struct{ Bytes float64 } `json:"sum_received"`
				}
			}
			if err := json.Unmarshal([]byte(report), &sums); err != nil {
				t.Fatalf("iperf3 %v: %v\n%s", direction, err, report)
			}
			// The sender stops at the count, and what then lies in socket buffers
			// (up to 32 MiB each as shipped) is not waited for.
			if got := sums.End.Received.Bytes; got < bytes/2 {
				t.Errorf("iperf3 %v: received %.0f bytes of %d", direction, got, bytes)
			}
		}
	})
}

func TestSSH(t *testing.T) {
	takesLong(t)
	program := need(t, "ssh", "openssh-client")
	me, err := user.Current()
	if err != nil {
		unable(t, "ssh takes nobody without an account: %v", err)
	}
	addr, key := startSSH(t)
	ssh := func(addr, command string) *exec.Cmd {
		host, port, _ := net.SplitHostPort(addr)
		return exec.CommandContext(t.Context(), program, "-F", "none", "-i", key, "-p", port, "-l", me.Username,
			"-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
			"-o", "IdentitiesOnly=yes", "-o", "ConnectTimeout=10", host, command)
	}
	if said, err := ssh(addr, "true").CombinedOutput(); err != nil {
		unable(t, "sshd lets %s not in, without sluice either: %v\n%s", me.Username, err, said) // its account may be locked
	}
	relaysServer(t, addr, func(t *testing.T, s *instance) {
		// The server speaks first, to a client that only listens.
		c, err := net.DialTimeout("tcp", s.addr(), 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		if banner, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.HasPrefix(banner, "SSH-2.0-") {
			t.Fatalf("banner %q: %v", banner, err)
		}
		c.Close()

		// A command that gets 4 MiB on its input and gives them back.
		random := make([]byte, 4<<20)
		rand.NewChaCha8([32]byte{1}).Read(random)
		var out, diagnosis bytes.Buffer
		cmd := ssh(s.addr(), "cat && echo 'the end'")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(random), &out, &diagnosis
		if err := cmd.Run(); err != nil {
			t.Fatalf("ssh: %v\n%s", err, diagnosis.String())
		}
		if sha256.Sum256(out.Bytes()) != sha256.Sum256(append(random, "the end\n"...)) {
			t.Errorf("%d bytes came back, and not those that were sent", out.Len())
		}
	})
}

// startSSH runs an sshd that lets the owner of key in as the user of the test.
func startSSH(t *testing.T) (addr, key string) {
	sshd, keygen := need(t, "sshd", "openssh-server"), need(t, "ssh-keygen", "openssh-client")
	if os.Getuid() == 0 {
		// sshd wants this empty directory, which its package makes at boot.
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	hostKey, key := filepath.Join(dir, "host"), filepath.Join(dir, "key")
	for _, file := range []string{hostKey, key} {
		finish(t, clientWithin, keygen, "-q", "-t", "ed25519", "-N", "", "-f", file)
	}
	config := filepath.Join(dir, "config")
	write(t, config, fmt.Sprintf(`
HostKey %s
AuthorizedKeysFile %s.pub
PidFile none
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication no
`, hostKey, key))
	port := freePort(t)
	server(t, exec.Command(sshd, "-D", "-e", "-f", config, "-p", strconv.Itoa(port), "-o", "ListenAddress=127.0.0.1"))
	awaitServer(t, local(port))
	return local(port), key
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// number finds the first group of a pattern in what a program printed.
func number(t *testing.T, out, pattern string) int {
	t.Helper()
	found := regexp.MustCompile(pattern).FindStringSubmatch(out)
	if found == nil {
		t.Fatalf("no %q in:\n%s", pattern, out)
	}
	n, err := strconv.Atoi(found[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}
