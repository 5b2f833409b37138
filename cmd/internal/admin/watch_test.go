package admin

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"sluice/metrics"
)

// stream is one that watches: it has read its head.
func (r *running) stream(query string) *client {
	r.t.Helper()
	c := r.dial()
	c.send(request("/events" + query))
	a, err := http.ReadResponse(c.r, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	if a.StatusCode != 200 || a.Header.Get("Content-Type") != "text/event-stream" {
		r.t.Fatalf("%s, %v", a.Status, a.Header)
	}
	c.r = bufio.NewReader(a.Body)
	return c
}

// event reads the next event of a name.
func (c *client) event(name string, to any) {
	c.t.Helper()
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			c.t.Fatalf("waiting for %s: %v", name, err)
		}
		if line != "event: "+name+"\n" {
			continue
		}
		data, err := c.r.ReadString('\n')
		if err == nil {
			err = json.Unmarshal([]byte(strings.TrimPrefix(data, "data: ")), to)
		}
		if err != nil {
			c.t.Fatal(err)
		}
		return
	}
}

// A viewer gets the figures, the history of what it asked for, and sessions that have
// ended; then what is new.
func TestEvents(t *testing.T) {
	s := usual(t)
	r := start(t, s.options(), nil)
	c := r.stream("?listener=web")
	var v view
	c.event("status", &v)
	if v.Page != edition || len(v.Listeners) != 2 || len(v.Pools[0].Backends) != 8 || v.Listeners[0].Closed["client_eof"] == 0 {
		t.Errorf("%+v", v)
	}
	var h metrics.Charts
	c.event("history", &h)
	if h.Listener != "web" || len(h.Ticks) != metrics.HistoryTicks {
		t.Errorf("%d ticks of %q", len(h.Ticks), h.Listener)
	}
	var e Ended
	c.event("ended", &e)
	if len(e.Sessions) != 60 || e.Last != 60 {
		t.Errorf("%d sessions, last %d", len(e.Sessions), e.Last)
	}
	s.step(5 * time.Second)
	s.end(2)
	c.event("history", &h)
	if len(h.Ticks) != 1 {
		t.Errorf("%d new ticks", len(h.Ticks))
	}
	c.event("ended", &e)
	if len(e.Sessions) != 2 || e.Last != 62 {
		t.Errorf("%d new sessions, last %d", len(e.Sessions), e.Last)
	}
}

// No look is taken while there are no viewers, and Watched is called for the first and the last
// one.
func TestWatched(t *testing.T) {
	looks, watched := make(chan bool, 1000), make(chan bool, 10)
	r := start(t, Options{Watched: func(is bool) { watched <- is }, Snapshot: func() metrics.Snapshot {
		looks <- true
		return metrics.Snapshot{}
	}}, nil)
	r.well()
	if len(looks) > 0 {
		t.Error("somebody looked")
	}
	var v view
	one, two := r.stream(""), r.stream("")
	one.event("status", &v)
	two.event("status", &v)
	one.Close()
	two.event("status", &v)
	two.Close()
	for _, want := range []bool{true, false} {
		select {
		case is := <-watched:
			if is != want {
				t.Errorf("watched %v, want %v", is, want)
			}
		case <-time.After(within):
			t.Fatalf("nobody is told: watched %v", want)
		}
	}
	if len(watched) > 0 {
		t.Error("it is told too often")
	}
	r.watch.mu.Lock()
	defer r.watch.mu.Unlock()
	if r.watch.looking || r.watch.frame != nil {
		t.Error("it looks on")
	}
}

// There are as many viewers as there may be; one more is refused while all of them read.
func TestManyViewers(t *testing.T) {
	r := start(t, Options{}, nil)
	var v view
	for range maxViewers {
		r.stream("").event("status", &v)
	}
	c := r.dial()
	c.send(request("/events"))
	if status, body := c.answer(); status != 503 || !strings.Contains(body, "open already") {
		t.Errorf("%d %q", status, body)
	}
	r.well()
}

// Viewers that do not read are dropped for others, hold one look each, and keep no client
// from scraping.
func TestSilentViewers(t *testing.T) {
	r := start(t, Options{Snapshot: large}, nil)
	for range 3 * maxViewers {
		r.silent("/events")
	}
	var c *client
	var answer *http.Response
	eventually(t, "another takes the place of one that is behind", func() bool {
		r.watch.mu.Lock()
		n := len(r.watch.viewers)
		r.watch.mu.Unlock()
		if n > maxViewers {
			t.Fatalf("%d viewers", n)
		}
		c = r.dial()
		c.send(request("/events"))
		var err error
		if answer, err = http.ReadResponse(c.r, nil); err != nil {
			t.Fatal(err)
		}
		if answer.StatusCode != 200 {
			c.Close() // it is refused, and asks again
		}
		return answer.StatusCode == 200
	})
	c.r = bufio.NewReader(answer.Body)
	var v view
	c.event("status", &v)
	if len(v.Workers) != 30_000 {
		t.Errorf("%d workers", len(v.Workers))
	}
	r.well()
	ready := r.dial()
	ready.send(request("/readyz", "Connection: close"))
	if status, _ := ready.answer(); status != 200 {
		t.Errorf("status %d", status)
	}
}

// The page is for browsers, and a list for terminals. No other page may show it.
func TestPageFiles(t *testing.T) {
	r := start(t, Options{Config: func() string { return "instance = \"\"\n" }}, nil)
	get := func(path string, headers ...string) (*http.Response, string) {
		t.Helper()
		q, _ := http.NewRequest("GET", "http://"+r.addr+path, nil)
		for _, h := range headers {
			name, value, _ := strings.Cut(h, ": ")
			q.Header.Set(name, value)
		}
		q.Close = true
		a, err := http.DefaultClient.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Body.Close()
		text, err := io.ReadAll(a.Body)
		if err != nil {
			t.Fatal(err)
		}
		return a, string(text)
	}
	if a, text := get("/"); !strings.HasPrefix(text, "sluice\n") || a.Header.Get("Vary") != "Accept" {
		t.Errorf("a terminal gets %q", text)
	}
	a, text := get("/", "Accept: text/html,*/*;q=0.8")
	if !strings.HasPrefix(text, "<!doctype html>") || a.Header.Get("Content-Security-Policy") != pagePolicy {
		t.Errorf("a browser gets %.40q, %v", text, a.Header)
	}
	if a, _ := get("/page/main.js", "If-None-Match: "+a.Header.Get("ETag")); a.StatusCode != 304 {
		t.Errorf("a file that has not changed: %s", a.Status)
	}
	for path, want := range map[string]string{"/page/page.css": "text/css; charset=utf-8", "/page/main.js": "text/javascript; charset=utf-8"} {
		if a, _ := get(path); a.Header.Get("Content-Type") != want || a.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", path, a.Header)
		}
	}
	for _, path := range []string{"/page/", "/page/none.js", "/page/..%2fpage.go", "/page/%2e%2e/admin.go"} {
		if a, _ := get(path); a.StatusCode != 404 {
			t.Errorf("%s: %s", path, a.Status)
		}
	}
	if _, text := get("/config"); text != "instance = \"\"\n\n" {
		t.Errorf("configuration: %q", text)
	}
}
