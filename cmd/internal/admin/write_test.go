package admin

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const goodToken = "0123456789abcdef"

// tokened is a server with verbs over TCP whose token is at a place, and how often its verb
// was done.
func tokened(t *testing.T, place string) (r *running, done *int) {
	done = new(int)
	r = start(t, Options{
		TokenPlace: func() string { return place },
		LogLevel:   func(slog.Level) Verdict { *done++; return Verdict{OK: true, Text: "done"} },
		Sessions:   func(SessionQuery, SessionOrder) (SessionList, error) { return SessionList{}, nil },
	}, nil)
	return r, done
}

// Each guard of a verb over TCP holds by itself, and reads need no token.
func TestVerbsOverTCP(t *testing.T) {
	t.Setenv("TEST_TOKEN", goodToken)
	r, done := tokened(t, "env:TEST_TOKEN")
	bearer := "Authorization: Bearer " + goodToken
	const verb = "POST /log/level?level=info"
	for _, row := range []struct {
		request, host, headers string
		status                 int
	}{
		{verb, "127.0.0.1:9095", bearer, 200},
		{verb, "sluice.default.svc", bearer, 200}, // a machine, under any name
		{verb, "127.0.0.1:9095", "authorization: bearer  " + goodToken + " ", 200},
		{verb, "127.0.0.1:9095", bearer + "\r\nOrigin: http://127.0.0.1:9095\r\nSec-Fetch-Site: same-origin", 200},
		{verb, "127.0.0.1:9095", "X: y", 401},
		{verb, "127.0.0.1:9095", "Authorization: Basic " + goodToken, 401},
		{verb, "127.0.0.1:9095", "Authorization: " + goodToken, 401},
		{verb, "127.0.0.1:9095", "Authorization: Bearer", 401},
		{verb, "127.0.0.1:9095", bearer + "0", 401},
		{verb, "127.0.0.1:9095", "Authorization: Bearer 0123456789abcdeF", 401},
		{verb, "127.0.0.1:9095", bearer + "\r\n" + bearer, 401},
		{verb, "127.0.0.1:9095", "Cookie: token=" + goodToken, 401},
		{verb + "&token=" + goodToken, "127.0.0.1:9095", "X: y", 401},
		{verb, "evil.example", bearer + "\r\nOrigin: http://evil.example", 421},
		{verb, "evil.example", bearer + "\r\nUser-Agent: Mozilla/5.0", 421},
		{verb, "127.0.0.1:9095", bearer + "\r\nOrigin: http://evil.example", 403},
		{verb, "127.0.0.1:9095", bearer + "\r\nOrigin: null", 403},
		{verb, "127.0.0.1:9095", bearer + "\r\nOrigin: http://127.0.0.1:8080", 403},
		{verb, "127.0.0.1:9095", bearer + "\r\nOrigin: http://127.0.0.1:9095\r\nOrigin: http://evil.example", 403},
		{verb, "127.0.0.1:9095", bearer + "\r\nSec-Fetch-Site: cross-site", 403},
		{verb, "127.0.0.1:9095", bearer + "\r\nSec-Fetch-Site: same-site", 403},
		{"OPTIONS /log/level", "127.0.0.1:9095", "Access-Control-Request-Method: POST", 404},
		{"GET /log/level?level=info", "127.0.0.1:9095", bearer, 404},
		{"GET /sessions", "127.0.0.1:9095", "X: y", 401},
		{"GET /sessions", "127.0.0.1:9095", bearer, 200},
		{"GET /livez", "127.0.0.1:9095", "X: y", 200},
		{"GET /livez", "127.0.0.1:9095", "Origin: http://127.0.0.1:9095", 200},
		{"GET /livez", "127.0.0.1:9095", "Origin: http://evil.example", 403},
		{"GET /livez", "127.0.0.1:9095", "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate", 200}, // a link to the page
		{"POST /nothing", "127.0.0.1:9095", "X: y", 404},
	} {
		before := *done
		c := r.dial()
		c.send(row.request + " HTTP/1.1\r\nHost: " + row.host + "\r\n" + row.headers + "\r\nContent-Length: 0\r\n\r\n")
		status, body := c.answer()
		if status != row.status {
			t.Errorf("%s to %s, %q: %d, want %d: %s", row.request, row.host, row.headers, status, row.status, body)
		}
		if did := *done - before; did != 0 && (status != 200 || did != 1) || did == 0 && status == 200 && row.request == verb {
			t.Errorf("%s to %s, %q: done %d times", row.request, row.host, row.headers, did)
		}
	}
	text := r.log.String()
	if !strings.Contains(text, `msg="log level was asked for" to=info who=token ok=true generation=0 from=127.0.0.1`) {
		t.Errorf("logged %s", text)
	}
	if n := strings.Count(text, "a verb was refused"); n == 0 || n > 10 || strings.Contains(text, goodToken) {
		t.Errorf("%d refusals logged: %s", n, text)
	}
}

// A token is read anew for each verb; without a good one nothing is done.
func TestToken(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "token")
	r, done := tokened(t, "file:"+path)
	ask := func(token string) int {
		c := r.dial()
		c.send("POST /log/level?level=info HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + token + "\r\n\r\n")
		status, _ := c.answer()
		return status
	}
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := ask(""); got != 401 && got != 503 {
		t.Errorf("without a file: %d", got)
	}
	for _, text := range []string{"", "\n", "short", "two words of a length", strings.Repeat("x", MinToken-1)} {
		put(text)
		if got := ask(strings.TrimSpace(text)); got != 503 && got != 401 || *done != 0 {
			t.Errorf("%q: %d", text, got)
		}
	}
	put(" " + goodToken + "\r\n")
	if got := ask(goodToken); got != 200 {
		t.Errorf("%d", got)
	}
	put(strings.Repeat("y", MinToken))
	if got := ask(goodToken); got != 401 {
		t.Errorf("the old one: %d", got)
	}
	os.Remove(path)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := ask(goodToken); got != 503 { // and it does not block
		t.Errorf("a pipe: %d", got)
	}
	if *done != 1 || !strings.Contains(r.log.String(), "error=") {
		t.Errorf("done %d times; %s", *done, r.log)
	}
}

// Without a place there are no verbs over TCP, whatever is sent along.
func TestNoVerbsWithoutToken(t *testing.T) {
	r, done := tokened(t, "")
	for _, request := range []string{"POST /log/level?level=info", "GET /sessions"} {
		c := r.dial()
		c.send(request + " HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + goodToken + "\r\nContent-Length: 0\r\n\r\n")
		if status, _ := c.answer(); status != 404 || *done != 0 {
			t.Errorf("%s: %d", request, status)
		}
	}
}
