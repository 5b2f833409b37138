package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// measureScale measures the start, the memory and a scrape of a proxy with a long configuration.
func measureScale(r *rig, c *benchCase) (figures, error) {
	if c.proxy.config == nil {
		return nil, errNotMeasurable{"it has one listener and one backend"}
	}
	last := r.setting.front
	if n := len(r.setting.more); n > 0 && c.backends == 0 { // else the last one has backends that do not exist
		last = r.setting.more[n-1]
	}
	if err := r.await(func() error { return exchange(last) }); err != nil {
		return nil, err
	}
	f := figures{"start": time.Since(r.started).Seconds()}
	if c.proxy.scrapes {
		// What a first scrape makes, later ones use: it does not count.
		var series int
		var took []float64
		for range 1 + scrapes {
			n, t, err := scrape(r.setting.admin)
			if err != nil {
				return nil, err
			}
			series, took = n, append(took, t.Seconds())
		}
		typical := median(took[1:])
		f["scrape"], f["series"], f["each"] = typical, float64(series), typical/float64(series)
	}
	memory, err := r.readMemory()
	if err != nil {
		return nil, err
	}
	f["memory"] = float64(memory)
	return f, nil
}

// scrape asks for the metrics as Prometheus does, and counts their series. It keeps nothing
// of them: to make room for 45 MB takes longer than to write them.
func scrape(at netip.AddrPort) (series int, took time.Duration, err error) {
	began := time.Now()
	body, err := openMetrics(at)
	if err != nil {
		return 0, 0, err
	}
	defer body.Close()
	for r := bufio.NewReaderSize(body, readAtOnce); ; {
		switch line, err := r.ReadSlice('\n'); {
		case err == io.EOF && series == 0:
			return 0, 0, errors.New("a scrape without a series")
		case err == io.EOF:
			return series, time.Since(began), nil
		case err != nil:
			return 0, 0, fmt.Errorf("read the metrics: %w", err)
		case line[0] != '#':
			series++
		}
	}
}

// scrapes are made, of which the median counts.
const scrapes = 5

// readAtOnce is what is read of the metrics by one call: more than a line and less than a cache.
const readAtOnce = 256 << 10

// metricsOf reads /metrics.
func metricsOf(at netip.AddrPort) ([]byte, error) {
	body, err := openMetrics(at)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	text, err := io.ReadAll(body)
	if err != nil {
		return nil, fmt.Errorf("read the metrics: %w", err)
	}
	return text, nil
}

// openMetrics asks for /metrics. It is not by an http.Client, whose goroutines are not in our
// network.
func openMetrics(at netip.AddrPort) (io.ReadCloser, error) {
	req, err := http.NewRequest(http.MethodGet, "http://"+at.String()+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	c, err := net.Dial("tcp", req.URL.Host)
	if err != nil {
		return nil, err
	}
	if err := req.Write(c); err != nil {
		c.Close()
		return nil, fmt.Errorf("ask for the metrics: %w", err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), req)
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("ask for the metrics: %w", err)
	}
	return struct {
		io.Reader
		io.Closer
	}{resp.Body, c}, nil
}

const (
	stalledReaders = 50
	stalledAsk     = 1 << 30 // more than fits anywhere
	smallWindow    = 4096    // of the clients, so that what is measured lies before them
)

// measureStalled measures the memory that the kernel has in TCP sockets for each client that does not read what it asked for.
func measureStalled(r *rig, c *benchCase) (figures, error) {
	before, err := tcpMemory()
	if err != nil {
		return nil, err
	}
	small := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) {
			failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, smallWindow)
		})
		return errors.Join(err, failed)
	}}
	for range stalledReaders {
		conn, err := small.Dial("tcp", r.setting.front.String())
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		if _, err := conn.Write(request{Down: stalledAsk}.head()); err != nil {
			return nil, err
		}
	}
	// It grows for some seconds, in steps, as the kernel widens windows.
	var seen []int64
	for range 40 {
		time.Sleep(250 * time.Millisecond)
		now, err := tcpMemory()
		if err != nil {
			return nil, err
		}
		seen = append(seen, now)
		if n := len(seen); n >= 12 && now <= seen[n-8] {
			break
		}
	}
	return figures{"kernel": float64(slices.Max(seen)-before) / stalledReaders}, nil
}

// tcpMemory is what all TCP sockets of the machine hold, in bytes. A page in a pipe is not in it.
func tcpMemory() (int64, error) {
	text, err := os.ReadFile("/proc/net/sockstat")
	if err != nil {
		return 0, err
	}
	return parseSockstat(string(text))
}

func parseSockstat(text string) (int64, error) {
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if i := slices.Index(words, "mem"); i >= 0 && i+1 < len(words) && words[0] == "TCP:" {
			pages, err := strconv.ParseInt(words[i+1], 10, 64)
			return pages * int64(os.Getpagesize()), err
		}
	}
	return 0, errors.New("/proc/net/sockstat: no memory of TCP")
}

// spareBackends are addresses at which nothing listens.
func (s setting) spareBackends(text func(at netip.AddrPort) string) string {
	var b strings.Builder
	for i := range s.spare {
		b.WriteString(text(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, byte(100 + i>>16), byte(i >> 8), byte(i)}), 9)))
	}
	return b.String()
}

// scaled says that there are more listeners than one.
func (s setting) scaled() bool { return len(s.more) > 0 }

// needsFile says that the setting needs more than sluice's flags can say.
func (s setting) needsFile() bool { return s.scaled() || s.pool != nil }

// moreListeners writes what text gives for each listener after the first. spare: its pool is that of the spare backends.
func (s setting) moreListeners(text func(i int, at netip.AddrPort, spare bool) string) string {
	var b strings.Builder
	for i, at := range s.more {
		b.WriteString(text(i, at, s.spare > 0))
	}
	return b.String()
}
