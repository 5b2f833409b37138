package accesslog

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// message takes RFC 5424's header off.
func message(t *testing.T, m string) string {
	t.Helper()
	head, rest, ok := strings.Cut(m, " access - ")
	f := strings.Fields(head)
	if !ok || len(f) != 5 || f[0] != "<30>1" || f[3] != "sluice" || f[4] != strconv.Itoa(os.Getpid()) {
		t.Fatalf("no header: %q", m)
	}
	if _, err := time.Parse(time.RFC3339, f[1]); err != nil {
		t.Fatal(err)
	}
	return rest + "\n"
}

func TestSyslogDatagrams(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	for network, addr := range map[string]string{"udp": "127.0.0.1:0", "unixgram": path} {
		t.Run(network, func(t *testing.T) {
			conn, err := net.ListenPacket(network, addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			g := newRig(t, nil)
			place := "syslog:unix:" + addr
			if network == "udp" {
				place = "syslog:udp:" + conn.LocalAddr().String()
			}
			g.to(place)
			g.write(20)
			var out strings.Builder
			b := make([]byte, 2048)
			conn.SetReadDeadline(time.Now().Add(within))
			for range 20 {
				n, _, err := conn.ReadFrom(b)
				if err != nil {
					t.Fatal(err)
				}
				out.WriteString(message(t, string(b[:n])))
			}
			read(out.String()).all(t, 0, 20)
		})
	}
}

// A server that goes away and comes back: lines wait for it. Its connection's last ones may
// be lost without anything to show it.
func TestSyslogStream(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	g := newRig(t, nil)
	g.to("syslog:tcp:" + ln.Addr().String())
	// take is a server that leaves when it has the record with number last.
	take := func(last uint64) (got told) {
		t.Helper()
		ln.(*net.TCPListener).SetDeadline(time.Now().Add(within))
		conn, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetReadDeadline(time.Now().Add(within))
		in := bufio.NewReader(conn)
		for lines := ""; got.records[last] == 0; got = read(lines) {
			var size int
			if _, err := fmt.Fscanf(in, "%d", &size); err != nil {
				t.Fatal(err)
			}
			m := make([]byte, 1+size)
			if _, err := io.ReadFull(in, m); err != nil {
				t.Fatal(err)
			}
			lines += message(t, string(m[1:]))
		}
		return got
	}
	g.write(50)
	take(g.n-1).all(t, 0, g.n)
	eventually(t, "it finds the server gone", func() bool {
		g.write(1)
		s := g.current.sink.place.(*syslog)
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.conn == nil
	})
	from := g.n
	g.write(30)
	take(g.n-1).all(t, from-1, g.n) // the line that found it is sent again
	if g.unwritten() != 0 {
		t.Errorf("%d lost", g.unwritten())
	}
}

// No server answers: the end is not held up, and all is counted.
func TestSyslogNobody(t *testing.T) {
	g := newRig(t, nil)
	g.to("syslog:unix:" + filepath.Join(t.TempDir(), "nobody"))
	g.write(1000)
	g.end()
	if g.unwritten() != 1000 {
		t.Errorf("%d lost of 1000", g.unwritten())
	}
}
