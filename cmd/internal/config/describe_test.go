package config

import (
	"bytes"
	"testing"
)

func TestDescribe(t *testing.T) {
	c, err := Parse("describe.toml", []byte(`
acceptors.count = 4
limits.max_sessions = 20000
[listener.web]
bind = ":8080"
pool = "web"
[listener.pg]
bind = "[::1]:5432"
pool = "web"
relay = "splice"
idle_timeout = "0s"
ipv6_only = true
max_sessions = 100
wait_for_backend = "30s"
[pool.web]
backends = ["10.0.0.1:8080", "10.0.0.2:8080 weight=2", "10.0.0.3:8080 backup"]
panic_below = 0.5
slow_start = "30s"
leave = "cut"
rebalance = {per_second = 20, share = 0.25}
[pool.web.health]
check = "http"
path = "/health"
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := c.Describe(&b, "much"); err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/describe.txt", b.String())
}
