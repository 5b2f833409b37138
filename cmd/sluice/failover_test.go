package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sluice/metrics"
)

// realServer is a program that can be killed and started again, twice: a primary and a backup.
type realServer struct {
	health []string // lines of its check, the first its name
	ask    string   // what a client sends
	marks  [2]string
	addrs  [2]string
	start  func(which int) *exec.Cmd
	kill   syscall.Signal
}

// A real primary is killed under load: its backup takes over within the time that checks would
// need, no session waits in vain, and none is lost that began after the primary was dead. It
// comes back with a share that grows evenly.
func TestRealServersFailOver(t *testing.T) {
	takesLong(t)
	if testing.Short() {
		t.Skip("-short: it waits for a ramp")
	}
	t.Parallel()
	for name, prepare := range map[string]func(*testing.T) *realServer{"redis": twoRedis, "postgresql": twoPostgres, "nginx": twoNginx} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := prepare(t)
			modes(t, r.failOver)
		})
	}
}

const (
	failOverFall     = 3
	failOverInterval = 250 * time.Millisecond
	failOverRamp     = 2 * time.Second
)

func (r *realServer) failOver(t *testing.T, mode string) {
	primary, backup := r.run(t, 0), r.run(t, 1)
	defer func() { primary.end(t); backup.end(t) }()
	text := func(backup string) string {
		return acceptorsTable(2, "auto") + listenerAt("main", "127.0.0.1:0", "app") +
			poolOf("app", []string{r.addrs[0], r.addrs[1] + backup}, fmt.Sprintf("slow_start = %q", failOverRamp), "[pool.app.ejection]", `time = "100ms"`, `max_time = "200ms"`) +
			fmt.Sprintf("[pool.app.health]\ninterval = %q\nfall = %d\nrise = 1\n%s\n", failOverInterval, failOverFall, strings.Join(r.health, "\n"))
	}
	s := startChanging(t, mode, text(" backup"))
	s.awaitState(r.addrs[0], metrics.TargetUp)
	l := r.visitors(s.addr(), 6)
	defer l.stop()
	held := dial(t, s.addr())
	if who, err := r.visit(held); who != 0 {
		t.Fatalf("the backup serves while the primary lives: %v", err)
	}
	eventually(t, patience, "sessions run", func() bool { return l.count() > 50 })

	killed := time.Now()
	primary.signal(t, r.kill)
	s.awaitState(r.addrs[0], metrics.TargetDown)
	down := time.Now()
	from := l.count()
	eventually(t, patience, "sessions go on", func() bool { return l.count() > from+50 })
	if _, err := io.Copy(io.Discard, held); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("a session on the primary that was killed is stuck")
	}
	held.Close()
	takenOver, lost, late := time.Duration(math.MaxInt64), 0, 0
	for _, v := range l.since(killed.Add(-time.Minute)) {
		switch {
		case v.err != nil && v.began.After(primary.died()):
			t.Errorf("a session is lost that began %v after the primary was dead: %v", v.began.Sub(primary.died()), v.err)
		case v.err != nil && v.ended.Sub(primary.died()) > failOverFall*failOverInterval:
			t.Errorf("a session was stuck for %v: %v", v.ended.Sub(v.began), v.err)
		case v.err != nil && v.began.After(killed):
			late++ // taken by a server that was dying
		case v.err != nil:
			lost++
		case v.who == 1 && v.began.After(killed):
			takenOver = min(takenOver, v.ended.Sub(primary.died()))
		}
	}
	t.Logf("killed, dead after %v; %v after that the backup serves, %v after it checks say so; %d sessions of 6 clients are lost, and %d while it died",
		primary.died().Sub(killed), takenOver, down.Sub(primary.died()), lost, late)
	if takenOver > failOverFall*failOverInterval {
		t.Errorf("the backup serves after %v only", takenOver)
	}
	if lost > 6 { // one of each client
		t.Errorf("%d sessions are lost", lost)
	}

	s.reload(text("")) // else one that is back has all
	primary = r.run(t, 0)
	s.awaitState(r.addrs[0], metrics.TargetWarming)
	warms := s.target(r.addrs[0]).Since
	s.awaitState(r.addrs[0], metrics.TargetUp)
	l.ramp(t, warms)
	for _, v := range l.since(down) {
		if v.err != nil {
			t.Errorf("a session is lost while the primary comes back: %v", v.err)
		}
	}
	l.stop()
	s.awaitIdle()
}

// visited is a session of a load.
type visited struct {
	began, ended time.Time
	who          int
	err          error
}

// visitors are clients that have one short session after the other.
type visitors struct {
	over atomic.Bool
	all  sync.WaitGroup
	mu   sync.Mutex
	list []visited
}

func (r *realServer) visitors(addr string, clients int) *visitors {
	l := &visitors{}
	for range clients {
		l.all.Go(func() {
			for !l.over.Load() {
				v := visited{began: time.Now()}
				c, err := net.DialTimeout("tcp", addr, patience)
				if v.err = err; err == nil {
					v.who, v.err = r.visit(c.(*net.TCPConn))
					c.Close()
				}
				v.ended = time.Now()
				l.mu.Lock()
				l.list = append(l.list, v)
				l.mu.Unlock()
				time.Sleep(2 * time.Millisecond)
			}
		})
	}
	return l
}

func (l *visitors) stop() {
	l.over.Store(true)
	l.all.Wait()
}

func (l *visitors) since(at time.Time) (some []visited) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, v := range l.list {
		if v.began.After(at) {
			some = append(some, v)
		}
	}
	return some
}

func (l *visitors) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.list)
}

// ramp draws the share of one of two servers, whose weight grows from 0 to that of the other,
// and compares.
func (l *visitors) ramp(t *testing.T, from time.Time) {
	t.Helper()
	const slots = 8
	var all, own [slots]int
	for _, v := range l.since(from) {
		if at := int(v.began.Sub(from) * slots / failOverRamp); at < slots {
			all[at]++
			own[at] += 1 - v.who
		}
	}
	for i := range slots {
		if all[i] == 0 {
			t.Logf("no session in part %d of %d of the ramp", i+1, slots) // the machine has no time
			continue
		}
		grown := (float64(i) + 0.5) / slots
		got, want := float64(own[i])/float64(all[i]), grown/(1+grown)
		t.Logf("%5.2fs %5.3f of %4d, want %5.3f |%s", grown*failOverRamp.Seconds(), got, all[i], want, strings.Repeat("#", int(got*80)))
		noise := 3 * math.Sqrt(want*(1-want)/float64(all[i]))
		if got > want+0.05+noise || i > 1 && got < want-0.05-noise { // until a probe has found it, it is picked last
			t.Errorf("part %d of the ramp is off", i+1)
		}
	}
}

// visit asks which of the two serves: its number.
func (r *realServer) visit(c *net.TCPConn) (who int, err error) {
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write([]byte(r.ask)); err != nil {
		return -1, err
	}
	answer, buffer := "", make([]byte, 4096)
	for {
		n, err := c.Read(buffer)
		answer += string(buffer[:n])
		for i, mark := range r.marks {
			if strings.Contains(answer, mark) {
				return i, nil
			}
		}
		if err != nil {
			return -1, fmt.Errorf("after %q: %w", answer, err)
		}
	}
}

// running is a server that runs.
type running struct {
	cmd *exec.Cmd
	out *output
	at  atomic.Pointer[time.Time] // when it ended
}

func (r *realServer) run(t *testing.T, which int) *running {
	t.Helper()
	p := &running{cmd: r.start(which)}
	p.out = server(t, p.cmd)
	awaitServer(t, r.addrs[which])
	eventually(t, startWithin, "it serves", func() bool {
		c, err := net.DialTimeout("tcp", r.addrs[which], patience)
		if err != nil {
			return false
		}
		defer c.Close()
		_, err = r.visit(c.(*net.TCPConn))
		return err == nil
	})
	return p
}

// signal has it ended, and waits for that.
func (p *running) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	kill(t, p.cmd.Process.Pid, sig)
	select {
	case <-p.out.ended:
	case <-time.After(stopWithin):
		t.Fatalf("%s does not end", p.cmd)
	}
	now := time.Now()
	p.at.Store(&now)
}

func (p *running) died() time.Time { return *p.at.Load() }

func (p *running) end(t *testing.T) {
	if p.at.Load() == nil {
		p.signal(t, syscall.SIGQUIT) // of the three none takes its time then
	}
}

func twoRedis(t *testing.T) *realServer {
	r := &realServer{health: []string{`check = "redis"`}, ask: "CONFIG GET port\r\n", kill: syscall.SIGKILL}
	ports := [2]int{freePort(t), freePort(t)}
	for i, port := range ports {
		r.addrs[i], r.marks[i] = local(port), fmt.Sprintf("\r\n%d\r\n", port)
	}
	r.start = func(which int) *exec.Cmd { return redisAt(t, ports[which]) }
	return r
}

func twoNginx(t *testing.T) *realServer {
	r := &realServer{health: []string{`check = "http"`, `path = "/who"`}, ask: "GET /who HTTP/1.1\r\nHost: a\r\n\r\n", kill: syscall.SIGKILL}
	for i := range r.addrs {
		r.addrs[i], r.marks[i] = local(freePort(t)), fmt.Sprintf("Content-Length: %d\r\n", i+1)
	}
	r.start = func(which int) *exec.Cmd { return nginxAt(t, r.addrs[which], map[string]int{"who": which + 1}) }
	return r
}

func twoPostgres(t *testing.T) *realServer {
	// A start-up message, and a query at once: the server reads one after the other.
	startUp := "\x00\x03\x00\x00user\x00postgres\x00\x00"
	query := "SELECT current_setting('port')\x00"
	logIn := binary.BigEndian.AppendUint32(nil, uint32(4+len(startUp)))
	logIn = append(logIn, startUp...)
	ask := append(slices.Clip(logIn), 'Q')
	ask = append(binary.BigEndian.AppendUint32(ask, uint32(4+len(query))), query...)
	// It takes connections while it starts, and serves none: so the check begins to log in.
	checks := []string{`check = "postgres"`, `user = "postgres"`}
	r := &realServer{health: checks, ask: string(ask), kill: syscall.SIGQUIT} // to the first process: all end at once
	one := newPostgres(t, nil)
	dirs := [2]postgres{one, one.another(t)}
	for i := range dirs {
		r.addrs[i], r.marks[i] = local(dirs[i].port), fmt.Sprint(dirs[i].port)
	}
	r.start = func(which int) *exec.Cmd { return dirs[which].command() }
	return r
}
