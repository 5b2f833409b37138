package main

import (
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// migrated is a proxy for which docker/migration has the service.
type migrated struct {
	name    string
	debian  string // the package; "" = CI has none, and it is tested where it is there
	files   []string
	listens string // how its file says where to listen
	becomes string // and how it says PORT of loopback alone
	args    func(dir string) []string
	single  bool // it has one backend
	tries   bool // a session tries a second backend
	bounded bool // it bounds the sessions of a backend
}

var migratedProxies = []migrated{
	{name: "haproxy", debian: "haproxy", files: []string{"haproxy.cfg"}, listens: "bind :7000", becomes: "bind 127.0.0.1:PORT", tries: true, bounded: true,
		args: func(dir string) []string { return []string{"-db", "-f", dir + "/haproxy.cfg"} }},
	{name: "nginx", debian: "nginx", files: []string{"nginx.conf"}, listens: "listen 7000", becomes: "listen 127.0.0.1:PORT", tries: true, bounded: true,
		args: func(dir string) []string {
			return []string{"-p", dir, "-c", dir + "/nginx.conf", "-e", "stderr", "-g", "daemon off; pid " + dir + "/pid; error_log stderr;"}
		}},
	{name: "traefik", files: []string{"traefik.yml", "traefik.services.yml"}, listens: `":7000"`, becomes: `"127.0.0.1:PORT"`,
		args: func(dir string) []string { return []string{"--configFile=" + dir + "/traefik.yml"} }},
	{name: "gobetween", files: []string{"gobetween.toml"}, listens: `":7000"`, becomes: `"127.0.0.1:PORT"`,
		args: func(dir string) []string { return []string{"from-file", dir + "/gobetween.toml"} }},
	{name: "socat", debian: "socat", files: []string{"socat.sh"}, listens: "TCP-LISTEN:7000", becomes: "TCP-LISTEN:PORT,bind=127.0.0.1", single: true,
		args: func(dir string) []string { return []string{dir + "/socat.sh"} }},
	{name: "sluice", files: []string{"sluice.toml"}, listens: `":7000"`, becomes: `"127.0.0.1:PORT"`, tries: true, bounded: true},
}

// The service of docker/migration does the same for clients behind each proxy.
func TestMigration(t *testing.T) {
	for _, m := range migratedProxies {
		if _, err := exec.LookPath(m.name); err != nil && m.debian == "" && m.name != "sluice" {
			continue // its file is not tested here
		}
		t.Run(m.name, func(t *testing.T) {
			if m.name != "sluice" {
				program := need(t, m.name, m.debian)
				if m.single {
					program = "/bin/sh"
				}
				m.test(t, func(dir string) { server(t, exec.Command(program, m.args(dir)...)) })
				return
			}
			modes(t, func(t *testing.T, mode string) {
				m.test(t, func(dir string) {
					launch(t, nil, "run", "--mode", mode, "--admin", "127.0.0.1:0", "--log-format", "json", "-c", dir+"/sluice.toml").awaitReady()
				})
			})
		})
	}
}

// test starts the proxy with its files, and looks at it as clients do.
func (m migrated) test(t *testing.T, start func(dir string)) {
	t.Parallel()
	const limit = 100 // of the sessions of a backend, in the files
	dir, front := t.TempDir(), freePort(t)
	var open atomic.Int32 // sessions that the backends have
	serve := func(name byte) func(*net.TCPConn) {
		return func(c *net.TCPConn) {
			open.Add(1)
			defer open.Add(-1)
			defer c.Close()
			if _, err := c.Write([]byte{name}); err == nil {
				_, _ = io.Copy(io.Discard, c)
			}
		}
	}
	a, b := startPeer(t, local(freePort(t)), serve('a')), startPeer(t, "", serve('b'))
	for _, name := range m.files {
		text, err := os.ReadFile(filepath.Join("..", "..", "docker", "migration", name))
		if err != nil {
			t.Fatal(err)
		}
		port := strings.TrimPrefix(local(front), "127.0.0.1:")
		write(t, filepath.Join(dir, name), strings.NewReplacer("10.0.0.1:7001", a.addr, "10.0.0.2:7002", b.addr, "/etc/traefik", dir,
			m.listens, strings.ReplaceAll(m.becomes, "PORT", port)).Replace(string(text)))
	}
	start(dir)
	at := local(front)
	eventually(t, startWithin, "it serves", func() bool { answer, _ := firstByte(t, at); return answer == 'a' })
	if m.single {
		return
	}
	eventually(t, patience, "both backends are used", func() bool { answer, _ := firstByte(t, at); return answer == 'b' })

	// Two to one.
	shares := map[byte]int{}
	for range 30 {
		answer, _ := firstByte(t, at)
		shares[answer]++
	}
	if shares['a'] < 17 || shares['a'] > 23 || shares[0] > 0 {
		t.Errorf("of 30 sessions a has %d, b %d, and %d have no answer", shares['a'], shares['b'], shares[0])
	}

	// One goes down: the other takes all, and no client sees it where sessions try again.
	a.kill()
	if !m.tries {
		eventually(t, patience, "a is down", func() bool { answer, _ := firstByte(t, at); return answer == 'b' })
	}
	for range 20 {
		if answer, err := firstByte(t, at); answer != 'b' && m.tries {
			t.Errorf("while a is down: %q, %v", answer, err)
		}
	}

	// It comes back.
	startPeer(t, a.addr, serve('a'))
	eventually(t, patience, "a is back", func() bool { answer, _ := firstByte(t, at); return answer == 'a' })
	if !m.bounded {
		return
	}

	// Both are full: one more gets no answer, until a place is free.
	var held []net.Conn
	clear(shares)
	eventually(t, patience, "earlier sessions have ended", func() bool { return open.Load() == 0 })
	for range 2 * limit {
		c := dial(t, at)
		shares[askName(t, c)]++
		held = append(held, c)
	}
	if shares['a'] != limit || shares['b'] != limit {
		t.Errorf("of %d sessions a has %d, b %d", 2*limit, shares['a'], shares['b'])
	}
	if answer, err := firstByte(t, at); answer != 0 || err == nil {
		t.Errorf("while both are full: %q, %v", answer, err)
	}
	for _, c := range held {
		c.Close()
	}
	eventually(t, patience, "there are places again", func() bool { answer, _ := firstByte(t, at); return answer != 0 })
}

// firstByte is one session: the name that the backend says; 0 = none came within the time that a
// queue or a connect may take.
func firstByte(t *testing.T, addr string) (byte, error) {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	var answer [1]byte
	if _, err := io.ReadFull(c, answer[:]); err != nil {
		return 0, err
	}
	return answer[0], nil
}
