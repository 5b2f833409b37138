package admin

import "testing"

func TestHost(t *testing.T) {
	r := start(t, Options{}, nil)
	browser := "User-Agent: Mozilla/5.0 (X11; Linux x86_64)"
	for _, row := range []struct {
		host, header string
		status       int
	}{
		{"evil.example:9095", browser, 421},
		{"evil.example", "Origin: http://evil.example", 421},
		{"evil.example", "Sec-Fetch-Site: same-origin", 421},
		{"evil.example", "Accept-Language: *", 421},
		{"evil.example", "Referer: http://evil.example/", 421},
		{"127.0.0.1.evil.example", browser, 421},
		{"evil.example.", browser, 421},
		{"evil.example:9095", "User-Agent: Prometheus/3.0", 200},
		{"sluice.default.svc:9095", "X: y", 200},
		{"sluice:9095", browser, 200},
		{"127.0.0.1:9095", browser, 200},
		{"10.0.0.1", browser, 200},
		{"[::1]:9095", browser, 200},
		{"[::1]", browser, 200},
		{"LOCALHOST:9095", browser, 200},
		{"a.localhost", browser, 200},
		{"", browser, 200},
	} {
		c := r.dial()
		c.send("GET /livez HTTP/1.1\r\nHost: " + row.host + "\r\n" + row.header + "\r\n\r\n")
		if status, _ := c.answer(); status != row.status {
			t.Errorf("Host %q, %s: %d, want %d", row.host, row.header, status, row.status)
		}
	}
	c := r.dial()
	c.send("GET /livez HTTP/1.0\r\n\r\n") // without a Host
	if status, _ := c.answer(); status != 200 {
		t.Errorf("HTTP/1.0: %d", status)
	}
}
