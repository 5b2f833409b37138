package main

import (
	"net"
	"strings"
	"testing"
)

// Sessions of a pool that is down are tried again for a share of them only, and end as they
// would; a reload without the budget tries all again.
func TestRetryBudget(t *testing.T) {
	t.Parallel()
	modesTogether(t, func(t *testing.T, mode string) {
		const acceptors, sessions = 2, 120
		text := acceptorsTable(acceptors, "auto") + listenerAt("web", "127.0.0.1:0", "app") +
			poolOf("app", refusingOnes(t, 3), "retries = 2", "retry_budget = BUDGET", "[pool.app.ejection]", `time = "1h"`, `max_time = "1h"`)
		c := startChanging(t, mode, strings.Replace(text, "BUDGET", "0.1", 1))
		fail := func() (retries float64) {
			before := c.metric("sluice_pool_retries_total")
			for range sessions {
				conn, err := net.DialTimeout("tcp", c.addrs["web"], patience)
				if err == nil {
					_, _ = conn.Read(make([]byte, 1))
					conn.Close()
				}
			}
			return c.metric("sluice_pool_retries_total") - before
		}
		fail() // what is there at the start, and finding out
		refused := c.metric("sluice_pool_retries_refused_total")
		if refused == 0 {
			t.Error("none is refused")
		}
		bound := 0.1*sessions + 2*acceptors // and one each second
		begin := c.status().Time
		retries := fail()
		bound += acceptors * (c.status().Time.Sub(begin).Seconds() + 1)
		if retries > bound {
			t.Errorf("%v retries in %d sessions, want %v at most", retries, sessions, bound)
		}
		if n := c.metric("sluice_listener_closed_connections_total", `reason="connect_failed"`); n != 2*sessions {
			t.Errorf("%v sessions ended as they should, want %d", n, 2*sessions)
		}
		c.write(strings.Replace(text, "BUDGET", "0", 1))
		if status, _, faults := c.ask(); status != exitOK {
			t.Fatal(faults)
		}
		if retries := fail(); retries != 2*sessions {
			t.Errorf("%v retries in %d sessions without a budget", retries, sessions)
		}
	})
}
