package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// throng is clients or backends of so many sessions that they take several processes: each
// may have as many descriptors as sluice itself, whose sessions have two. One is told what
// to do by lines on its stdin, and answers each with a line of JSON.
//
//	clients    "hold"   so many connect, and each exchanges a byte    {"held": 15000}
//	           "talk"   each exchanges another                        {"held": 15000}
//	backends   "count"                                                {"held": 15000, "from": {"127.0.9.1": 5000, ...}}
type throng struct {
	Clients int    // 0 = these are backends, with a listener as descriptor 3
	Source  string // of clients
	To      string
}

type throngSays struct {
	Held  int            `json:"held"`
	From  map[string]int `json:"from,omitempty"`
	Error string         `json:"error,omitempty"`
}

// throngVariable has this test binary be a throng: see TestMain.
const throngVariable = "TEST_SLUICE_THRONG"

// be serves until stdin ends.
func (c throng) be() {
	answer := c.lead
	if c.Clients == 0 {
		answer = awaitThrong()
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		if json.NewEncoder(os.Stdout).Encode(answer(lines.Text())) != nil {
			return
		}
	}
}

var held []net.Conn // of a throng of clients

// lead is what clients do.
func (c throng) lead(order string) (said throngSays) {
	const together = 50
	var mu sync.Mutex
	var all sync.WaitGroup
	next := make(chan int)
	if order == "hold" {
		held = make([]net.Conn, c.Clients)
	}
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(c.Source)}, Timeout: patience, Control: func(_, _ string, raw syscall.RawConn) (err error) {
		const bindAddressNoPort = 24 // IP_BIND_ADDRESS_NO_PORT
		if failed := raw.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_IP, bindAddressNoPort, 1) }); failed != nil {
			return failed
		}
		return err
	}}
	for range together {
		all.Go(func() {
			for i := range next {
				var err error
				if held[i] == nil {
					held[i], err = d.Dial("tcp", c.To)
				}
				if err == nil {
					_ = held[i].SetDeadline(time.Now().Add(patience))
					err = exchangeByte(held[i])
				}
				mu.Lock()
				if err != nil {
					said.Error = fmt.Sprintf("client %d: %v", i, err)
				} else {
					said.Held++
				}
				mu.Unlock()
			}
		})
	}
	for i := range held {
		next <- i
	}
	close(next)
	all.Wait()
	return said
}

// awaitThrong is what backends do: each byte is sent back.
func awaitThrong() func(string) throngSays {
	ln, err := net.FileListener(os.NewFile(3, "listener"))
	said := throngSays{From: map[string]int{}}
	if err != nil {
		said.Error = err.Error()
	}
	var mu sync.Mutex
	go func() {
		for err == nil {
			c, failed := ln.Accept()
			mu.Lock()
			if failed != nil {
				said.Error = failed.Error()
				mu.Unlock()
				return
			}
			said.Held++
			said.From[c.RemoteAddr().(*net.TCPAddr).IP.String()]++
			mu.Unlock()
			go func() {
				b := make([]byte, 1)
				for {
					if _, err := io.ReadFull(c, b); err != nil {
						c.Close()
						return
					}
					_, _ = c.Write(b)
				}
			}()
		}
	}()
	return func(string) throngSays {
		mu.Lock()
		defer mu.Unlock()
		return said
	}
}

// company is a running throng.
type company struct {
	orders  io.WriteCloser
	answers *json.Decoder
}

func (c throng) start(t *testing.T, ln *net.TCPListener) company {
	t.Helper()
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), throngVariable+"="+string(text))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	if ln != nil {
		f, err := ln.File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		cmd.ExtraFiles = []*os.File{f}
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return company{in, json.NewDecoder(out)}
}

// order tells all companies the same, and returns what they say together.
func order(t *testing.T, companies []company, what string) (sum throngSays) {
	t.Helper()
	sum.From = map[string]int{}
	for _, c := range companies {
		if _, err := fmt.Fprintln(c.orders, what); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range companies {
		var said throngSays
		if err := c.answers.Decode(&said); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if said.Error != "" {
			t.Errorf("%s: %s", what, said.Error)
		}
		sum.Held += said.Held
		for source, n := range said.From {
			sum.From[source] += n
		}
	}
	return sum
}

// A backend address takes more sessions at once than it has ports, where three sources have
// the ports for them, of which two would not be enough. These are 12,000;
// TEST_SLUICE_SESSIONS=60000 makes them more, which takes minutes. Where one process may not
// open so many files, as in goroutine mode with fewer than 121,000, they are as many as it may.
func TestThrong(t *testing.T) {
	takesLong(t)
	if raced() {
		t.Skip("-race: takes too long")
	}
	inOwnNetwork(t, func(t *testing.T) {
		const (
			sources = 3
			setting = "/proc/sys/net/ipv4/ip_local_port_range"
		)
		most := 12_000
		if text := os.Getenv("TEST_SLUICE_SESSIONS"); text != "" {
			var err error
			if most, err = strconv.Atoi(text); err != nil {
				t.Fatal(err)
			}
		}
		var l syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
			t.Fatal(err)
		}
		one := (int(l.Max) - 1000) / 2 // sessions of one process
		modes(t, func(t *testing.T, mode string) {
			acceptors, room := 2, one
			if mode == "process" {
				acceptors = max(2, most/one+1)
				room = acceptors * one
			}
			n := min(most, room)
			n -= n % (sources * 4)
			ports := n / sources * 21 / 20
			t.Logf("%d sessions, %d ports, %d acceptors, %d open files for a process", n, ports, acceptors, l.Max)
			ln := listenSpeaking(t, "127.0.9.9:0", false)
			s := startChanging(t, mode, acceptorsTable(acceptors, "auto")+listenerAt("main", "127.0.0.1:0", "app", `keepalive = "0s"`)+
				poolOf("app", []string{ln.Addr().String()}, `source = ["127.0.9.1", "127.0.9.2", "127.0.9.3"]`, `connect_timeout = "20s"`))
			if err := os.WriteFile(setting, fmt.Appendf(nil, "%d %d", 10_000, 10_000+ports-1), 0); err != nil {
				unable(t, "%v", err)
			}
			var clients, backends []company
			for range 1 + n/one {
				backends = append(backends, throng{}.start(t, ln))
			}
			ln.Close()
			companies := 1 + n/min(one, ports)
			for i := range companies {
				share := n / companies
				if i == 0 {
					share += n % companies
				}
				clients = append(clients, throng{Clients: share, Source: fmt.Sprintf("127.0.8.%d", i+1), To: s.addr()}.start(t, nil))
			}
			begin := time.Now()
			if said := order(t, clients, "hold"); said.Held != n {
				t.Fatalf("%d of %d clients are served", said.Held, n)
			}
			t.Logf("all are there after %v", time.Since(begin).Round(time.Millisecond))
			if got := s.sessions(); got != n {
				t.Errorf("sluice holds %d sessions", got)
			}
			said := order(t, backends, "count")
			t.Logf("the backend has sessions from %v", said.From)
			for source, m := range said.From {
				if m > ports || !strings.HasPrefix(source, "127.0.9.") {
					t.Errorf("%d come from %s", m, source)
				}
			}
			if len(said.From) != sources || said.Held != n {
				t.Errorf("the backend has %d sessions, from %d addresses", said.Held, len(said.From))
			}
			if got := order(t, clients, "talk").Held; got != n {
				t.Errorf("%d of %d still talk", got, n)
			}
			if got := s.metric("sluice_backend_connect_errors_total"); got != 0 {
				t.Errorf("%v connects failed", got)
			}
			for _, c := range clients {
				c.orders.Close()
			}
			eventually(t, 6*patience, "all have gone", func() bool { return s.sessions() == 0 })
			s.awaitIdle()
			t.Logf("all have gone after %v", time.Since(begin).Round(time.Millisecond))
		})
	})
}

// exchangeByte sends a byte and waits for it to come back.
func exchangeByte(c net.Conn) error {
	b := []byte{'x'}
	if _, err := c.Write(b); err != nil {
		return err
	}
	_, err := io.ReadFull(c, b)
	return err
}
