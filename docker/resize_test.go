package docker

import (
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestSumsOverAcceptorsSurviveResizing changes acceptors.count of a sluice of each mode
// from 4 to 2, 6 and 1 under a stream of clients, and asks a Prometheus that scrapes
// both what it has seen:
//
//	acceptors 0 1 2 3 ─► 0 1 (2 3 leave, and hold sessions) ─► 0 1 2 3 4 5 ─► 0
//	                                                               └ numbers of acceptors that were there before
//
// Series of acceptors end and begin again with it. Rates over them must show what
// clients did all the same, and totals of the listener may never fall.
func TestSumsOverAcceptorsSurviveResizing(t *testing.T) {
	long(t)
	program := tool(t, "prometheus", "prometheus")
	binary := build(t)
	var services []*resized
	var admins []string
	for _, mode := range []string{"goroutine", "process"} {
		s := startResized(t, binary, mode)
		services, admins = append(services, s), append(admins, s.admin)
	}
	prometheus := startPrometheus(t, program, scrapeEvery, admins...)
	for _, s := range services {
		s.prometheus = prometheus
		t.Run(s.mode, func(t *testing.T) {
			t.Parallel()
			s.test(t)
		})
	}
}

// scrapeEvery is short, for increase() is no count: it misses what an acceptor accepted
// before its first scrape, and adds about half an interval to each series. Over the
// 8 seconds or more that the test takes these are some hundredths. A series that were
// taken for one that began again would add all it ever counted, a tenth or more.
const scrapeEvery = "250ms"

// resized is a sluice with a file to change.
type resized struct {
	mode, binary         string
	config, socket       string
	addr, admin, backend string
	prometheus           api
}

func startResized(t *testing.T, binary, mode string) *resized {
	t.Helper()
	dir := t.TempDir()
	s := &resized{mode: mode, binary: binary, config: filepath.Join(dir, "sluice.toml"), socket: filepath.Join(dir, "socket"), backend: startEcho(t)}
	s.write(t, 4)
	s.addr, s.admin = serve(t, binary, "run", "-c", s.config)
	return s
}

func (s *resized) write(t *testing.T, count int) {
	t.Helper()
	write(t, s.config, fmt.Sprintf(`
[acceptors]
mode = %q
count = %d
[admin]
listen = "127.0.0.1:0"
socket = %q
[log]
format = "json"
[listener.web]
bind = "127.0.0.1:0"
pool = "web"
[pool.web]
backends = [%q]
`, s.mode, count, s.socket, s.backend))
}

func (s *resized) resize(t *testing.T, count int) {
	t.Helper()
	s.write(t, count)
	run(t, s.binary, "reload", "-socket", s.socket)
}

func (s *resized) test(t *testing.T) {
	const (
		accepted = `sluice_acceptor_accepted_connections_total{}`
		closed   = `sluice_listener_closed_connections_total{}`
		sockets  = `sluice_acceptor_queue_length{}`
	)
	s.await(t, 0, `sum(`+accepted+`)`) // all series begin before the first client
	const held = 16                    // over 4 acceptors: none of those that leave is without
	release := hold(t, s.addr, held)
	stop := stream(t, s.addr, 10*time.Millisecond)

	s.resize(t, 2)
	s.await(t, 2, `count(`+accepted+`) - count(`+sockets+`)`) // they have sessions left, and no socket
	s.await(t, 2, `sum(sluice_acceptor_leaving{})`)
	release()
	s.await(t, 2, `count(`+accepted+`)`)
	s.resize(t, 6)
	s.await(t, 6, `count(`+accepted+` > 0)`)
	s.resize(t, 1)
	s.await(t, 1, `count(`+accepted+`)`)
	total := held + stop()

	s.await(t, total, `sum(`+closed+`)`)
	if increase := s.ask(t, `sum(increase(`+accepted+`[5m]))`); math.Abs(increase/float64(total)-1) > 0.1 {
		t.Errorf("Prometheus sees %.0f connections accepted, clients made %d", increase, total)
	}
	s.checkTotalRises(t, closed+`[5m]`)
}

// checkTotalRises adds up what each scrape found in the series of a selector.
func (s *resized) checkTotalRises(t *testing.T, selector string) {
	t.Helper()
	sums := map[float64]float64{} // by time
	for _, one := range s.query(t, selector) {
		for _, v := range one.Values {
			sums[v.time] += number(t, v)
		}
	}
	if len(sums) < 10 {
		t.Errorf("only %d scrapes", len(sums))
	}
	before := 0.0
	for _, at := range slices.Sorted(maps.Keys(sums)) {
		if sums[at] < before {
			t.Errorf("%s fell from %.0f to %.0f", selector, before, sums[at])
		}
		before = sums[at]
	}
}

// await waits until Prometheus answers a query about this sluice by a number.
func (s *resized) await(t *testing.T, want int, query string) {
	t.Helper()
	eventually(t, 20*time.Second, fmt.Sprintf("%s is %d", query, want), func() bool { return s.ask(t, query) == float64(want) })
}

// ask is Prometheus' answer to a query about this sluice, -1 if it has none.
func (s *resized) ask(t *testing.T, query string) float64 {
	t.Helper()
	if answer := s.query(t, query); len(answer) > 0 {
		return number(t, answer[0].Value)
	}
	return -1
}

// query puts this sluice where a selector's braces are empty.
func (s *resized) query(t *testing.T, query string) []series {
	t.Helper()
	return s.prometheus.query(t, strings.ReplaceAll(query, "{}", fmt.Sprintf("{instance=%q}", s.admin)))
}

func number(t *testing.T, s sample) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(s.text, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
