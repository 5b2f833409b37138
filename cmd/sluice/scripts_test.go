package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A script is what both ends of a session do. It follows from the session's number,
// which the client sends first, so that the backend knows its part, too.
type script [2]part // the client's and the backend's

// part is what one end does.
type part struct {
	data     []byte // what it sends, before its ending
	planned  int    // what it would have sent if it did not break off; what the other expects
	chunk    int    // most bytes of a write
	gulp     int    // most bytes of a read
	pauses   int    // of 1 ms, between writes
	slow     bool   // 1 ms between reads
	afterEOF bool   // sends only after the other's EOF
	ending   ending
}

type ending uint8

const (
	endFIN   ending = iota // SHUT_WR, reads to the EOF, then closes
	endRST                 // closes with SO_LINGER 0, reading until then
	endLeave               // closes without having read a byte
)

const (
	scriptSeed   = 20
	longestPart  = 1 << 20
	sessionTakes = 20 * time.Second // deadline; the longest script needs under a second
	atATime      = 200
)

// payload is random bytes. Each end of each session sends a window of it of its own,
// so bytes of another session, another end or another place are wrong bytes.
var payload = sync.OnceValue(func() []byte {
	b := make([]byte, 8*longestPart)
	rand.NewChaCha8([32]byte{scriptSeed}).Read(b)
	return b
})

func newScript(number int) (s script) {
	r := rand.New(rand.NewPCG(scriptSeed, uint64(number)))
	logUniform := func(most int) int { return int(math.Exp(r.Float64()*math.Log(float64(most)+1))) - 1 }
	chance := func(percent int) bool { return r.IntN(100) < percent }
	for i := range s {
		p := &s[i]
		most := 100 << 10
		if chance(3) {
			most = longestPart
		}
		p.planned = logUniform(most)
		start := r.IntN(len(payload()) - longestPart)
		p.data = payload()[start : start+p.planned]
		p.chunk = max(logUniform(64<<10), p.planned/200, 1)
		if chance(25) {
			p.pauses = r.IntN(8)
		}
		p.slow = chance(10)
	}
	for i := range s { // at most about 200 reads, too
		s[i].gulp = max(logUniform(64<<10), s[i^1].planned/200, 1)
	}
	if chance(20) {
		s[r.IntN(2)].afterEOF = true
	}
	// At most one end breaks off: of two that do, neither can be asked what it saw.
	if chance(30) {
		p := &s[r.IntN(2)]
		p.ending = endRST
		if chance(50) {
			p.ending, p.afterEOF = endLeave, false
		}
		p.data = p.data[:r.IntN(len(p.data)+1)]
		if p.ending == endLeave {
			p.planned = len(p.data) // its close is all there is to see
		}
	}
	return s
}

// view is what one end saw of the other.
type view struct {
	got      int   // bytes that came
	wrong    bool  // and were not the other's
	readErr  error // nil = EOF
	writeErr error
}

func (v view) hung() bool {
	return errors.Is(v.readErr, os.ErrDeadlineExceeded) || errors.Is(v.writeErr, os.ErrDeadlineExceeded)
}

// play does one end's part and closes c.
func (p *part) play(c *net.TCPConn, other *part) (v view) {
	defer c.Close()
	var eof chan struct{}
	var reading sync.WaitGroup
	if p.ending != endLeave {
		eof = make(chan struct{})
		reading.Go(func() { v.got, v.wrong, v.readErr = p.read(c, other); close(eof) })
	}
	if p.afterEOF {
		<-eof
	}
	v.writeErr = p.write(c)
	if p.ending == endRST {
		c.SetLinger(0)
		c.Close()
	}
	if p.ending == endFIN && v.writeErr == nil {
		v.writeErr = c.CloseWrite()
	}
	reading.Wait()
	return v
}

func (p *part) write(c *net.TCPConn) error {
	pauses := p.pauses
	for b := p.data; len(b) > 0; {
		n := min(p.chunk, len(b))
		if _, err := c.Write(b[:n]); err != nil {
			return err
		}
		if b = b[n:]; pauses > 0 {
			pauses--
			time.Sleep(time.Millisecond)
		}
	}
	return nil
}

// read compares what comes until the EOF (nil) or an error.
func (p *part) read(c *net.TCPConn, other *part) (got int, wrong bool, err error) {
	b := make([]byte, p.gulp)
	for {
		n, err := c.Read(b)
		if got+n > len(other.data) || !bytes.Equal(b[:n], other.data[got:got+n]) {
			return got + n, true, err
		}
		got += n
		if err == io.EOF {
			return got, false, nil
		}
		if err != nil {
			return got, false, err
		}
		if p.slow {
			time.Sleep(time.Millisecond)
		}
	}
}

// stage is where scripts are played: clients that go to addrs in turn, and a backend.
type stage struct {
	addrs    []string
	backend  *net.TCPListener
	accepted atomic.Int64
	playing  sync.WaitGroup
	views    [][2]*view // by session; an end that never came into play has none
}

// perform plays sessions 0..n-1.
func (g *stage) perform(t *testing.T, n int) {
	g.views = make([][2]*view, n)
	go g.serve()
	var clients sync.WaitGroup
	var next atomic.Int64
	for range atATime {
		clients.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := g.client(i); err != nil {
					t.Errorf("session %d: %v", i, err)
				}
			}
		})
	}
	clients.Wait()
}

func (g *stage) client(i int) error {
	conn, err := net.DialTimeout("tcp", g.addrs[i%len(g.addrs)], sessionTakes)
	if err != nil {
		return err
	}
	c := conn.(*net.TCPConn)
	c.SetDeadline(time.Now().Add(sessionTakes))
	if _, err := c.Write(binary.BigEndian.AppendUint64(nil, uint64(i))); err != nil {
		return err
	}
	s := newScript(i)
	v := s[0].play(c, &s[1])
	g.views[i][0] = &v
	return nil
}

func (g *stage) serve() {
	for {
		c, err := g.backend.AcceptTCP()
		if err != nil {
			return
		}
		g.playing.Go(func() {
			defer c.Close()
			c.SetDeadline(time.Now().Add(sessionTakes))
			var number [8]byte
			if _, err := io.ReadFull(c, number[:]); err != nil {
				return // its client was gone before it could say anything
			}
			i := binary.BigEndian.Uint64(number[:])
			if i >= uint64(len(g.views)) {
				return // its session will miss a view
			}
			s := newScript(int(i))
			v := s[1].play(c, &s[0])
			g.views[i][1] = &v
		})
		g.accepted.Add(1)
	}
}

// end waits until the backend has had its connections and played them to the end.
func (g *stage) end(t *testing.T, connections int64) {
	t.Helper()
	eventually(t, sessionTakes, "the backend got every connection", func() bool { return g.accepted.Load() >= connections })
	g.backend.Close()
	g.playing.Wait()
}

// The outcomes of a session.
const (
	complete   = "both ended by FIN, every byte came"
	lost       = "both ended by FIN, bytes missing or a reset"
	wrong      = "wrong bytes"
	hung       = "hung"
	seenError  = "one broke off, the other saw a reset"
	seenAll    = "one broke off, the other had all before"
	seenEOF    = "one broke off, the other read a clean end with bytes missing"
	seenWrite  = "one broke off, the other read a clean end with bytes missing after a failed write"
	seenNobody = "one broke off before the other end was there"
)

var outcomes = []string{complete, lost, wrong, hung, seenError, seenAll, seenWrite, seenEOF, seenNobody}

// outcome judges a session by what both ends saw.
func outcome(s script, views [2]*view) string {
	breaker := -1
	for i, p := range s {
		if p.ending != endFIN {
			breaker = i
		}
	}
	for i, v := range views {
		switch {
		case v == nil && breaker >= 0:
			return seenNobody
		case v == nil:
			return lost
		case v.wrong:
			return wrong
		case v.hung() && breaker != i:
			return hung
		}
	}
	if breaker < 0 {
		for i, v := range views {
			if v.readErr != nil || v.writeErr != nil || v.got != len(s[i^1].data) {
				return lost
			}
		}
		return complete
	}
	switch v := views[breaker^1]; {
	case v.readErr != nil:
		return seenError
	case v.got < s[breaker].planned && v.writeErr != nil:
		return seenWrite
	case v.got < s[breaker].planned:
		return seenEOF
	}
	return seenAll
}

// tally counts outcomes and names the first sessions of each that must not be.
func (g *stage) tally() (count map[string]int, bad []string) {
	count = map[string]int{}
	for i, views := range g.views {
		s := newScript(i)
		o := outcome(s, views)
		if count[o]++; (o == lost || o == wrong || o == hung) && count[o] < 4 {
			line := fmt.Sprintf("session %d: %s:", i, o)
			for side, v := range views {
				p := s[side]
				line += fmt.Sprintf("\n  %s (sends %d of %d, afterEOF %t, ending %d) ", [2]string{"client ", "backend"}[side], len(p.data), p.planned, p.afterEOF, p.ending)
				if v != nil {
					line += fmt.Sprintf("got %d, read %v, write %v", v.got, v.readErr, v.writeErr)
				}
			}
			bad = append(bad, line)
		}
	}
	return count, bad
}

// Twenty thousand sessions do all that TCP allows, in every way of relaying, and
// both ends look at every byte. The same scripts without a proxy say what the ends
// can see at best.
func TestScripts(t *testing.T) {
	n := 20000
	if testing.Short() || raced() {
		n = 2000
	}
	table := map[string]map[string]int{}
	direct := &stage{backend: listen(t)}
	direct.addrs = []string{direct.backend.Addr().String()}
	direct.perform(t, n)
	direct.end(t, int64(n))
	var bad []string
	if table["direct"], bad = direct.tally(); bad != nil {
		t.Fatalf("without a proxy:\n%s", strings.Join(bad, "\n"))
	}
	columns := []string{"direct"}
	modes(t, func(t *testing.T, mode string) {
		g := &stage{backend: listen(t)}
		s := scripted(t, mode, g)
		pipes := s.metric("sluice_acceptor_pipes")
		descriptors := s.descriptors()
		g.perform(t, n)
		s.awaitIdle()
		g.end(t, int64(s.metric("sluice_backend_connections_total")))
		if accepted := s.metric("sluice_acceptor_accepted_connections_total"); accepted != float64(n) {
			t.Errorf("%.0f connections accepted of %d", accepted, n)
		}
		eventually(t, stopWithin, "descriptors are back where they were", func() bool {
			grown := 2 * int(s.metric("sluice_acceptor_pipes")-pipes) // a few empty ones are kept
			return s.descriptors() == descriptors+grown
		})

		columns = append(columns, mode)
		count, bad := g.tally()
		table[mode] = count
		if bad != nil {
			t.Errorf("%d lost, %d wrong, %d hung:\n%s", count[lost], count[wrong], count[hung], strings.Join(bad, "\n"))
		}
		// A direct connection never ends cleanly for an end whose calls all succeeded
		// while the other broke off, so nor may one through a proxy, and no margin is
		// needed. (After a failed write the error is spent and a read gives EOF: that end
		// knows; how often it happens is chance on either.)
		if at := table["direct"][seenEOF]; count[seenEOF] > at {
			t.Errorf("%d aborts were seen as a clean end, %d on direct connections", count[seenEOF], at)
		}
	})
	t.Log(outcomeTable(columns, table))
}

// scripted starts a sluice with a listener for each way of relaying.
func scripted(t *testing.T, mode string, g *stage) *instance {
	t.Helper()
	config := fmt.Sprintf("[acceptors]\nmode = %q\n[admin]\nlisten = \"127.0.0.1:0\"\n[log]\nformat = \"json\"\n[pool.main]\nbackends = [%q]\n",
		mode, g.backend.Addr())
	ways := []string{"copy", "splice", "auto"}
	for _, relay := range ways {
		config += fmt.Sprintf("[listener.%s]\nbind = \"127.0.0.1:0\"\npool = \"main\"\nrelay = %[1]q\n", relay)
	}
	path := filepath.Join(t.TempDir(), "sluice.toml")
	write(t, path, config)
	s := launch(t, nil, "run", "-c", path)
	s.awaitReady()
	for _, relay := range ways {
		g.addrs = append(g.addrs, s.addrs[relay])
	}
	return s
}

func outcomeTable(columns []string, table map[string]map[string]int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%-84s", "outcome")
	for _, c := range columns {
		fmt.Fprintf(&b, "%12s", c)
	}
	for _, o := range outcomes {
		fmt.Fprintf(&b, "\n%-84s", o)
		for _, c := range columns {
			fmt.Fprintf(&b, "%12d", table[c][o])
		}
	}
	return b.String()
}
