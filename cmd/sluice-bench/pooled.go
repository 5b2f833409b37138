package main

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// pooled is what a case says of the pool behind the proxy. The zero one is one backend, which is not
// checked.
type pooled struct {
	processes int      // so many backends, each a process of its own
	addresses int      // or so many addresses of one
	fewest    bool     // the backend with the fewest sessions is given the next one; else each in turn
	sick      sickness // what becomes of the last process, in the middle of the measurement

	// Checks, as HAProxy words them: inter, fastinter, timeout check.
	every, inDoubt, within time.Duration
	asks                   bool // a check makes a small request and wants its answer; else a connection is all
}

// What each proxy that can is told as well.
const (
	connectTimeout = time.Second
	retries        = 2
	rise, fall     = 2, 3
	early          = time.Second // sluice: a backend that ends sessions sooner, without a word, is taken out
)

// checkRequest is what a check asks, and checkAnswer what it wants.
func checkRequest() []byte { return request{Down: tailSize}.head() }
func checkAnswer() []byte  { return patternAt(0, tailSize) }

// backends are those of the pool.
func (s setting) backends() []netip.AddrPort {
	if len(s.pool) == 0 {
		return []netip.AddrPort{s.back}
	}
	return s.pool
}

// aliases are so many addresses of this machine, with one port.
func aliases(n int, port uint16) []netip.AddrPort {
	var all []netip.AddrPort
	for i := range n {
		all = append(all, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)}), port))
	}
	return all
}

func (s setting) sluicePool() string {
	var b strings.Builder
	b.WriteString("[pool.main]\nbackends = [\n")
	for _, at := range s.backends() {
		fmt.Fprintf(&b, "\t\"%v\",\n", at)
	}
	b.WriteString("]\n")
	if s.pool == nil {
		return b.String()
	}
	p := s.pooled
	if p.fewest {
		b.WriteString("pick = \"least_sessions\"\n")
	}
	fmt.Fprintf(&b, `connect_timeout = "%v"
retries = %d
[pool.main.ejection]
early = "%v"
[pool.main.health]
check = "tcp"
interval = "%v"
fast_interval = "%v"
timeout = "%v"
rise = %d
fall = %d
`, connectTimeout, retries, early, p.every, p.inDoubt, p.within, rise, fall)
	if p.asks {
		fmt.Fprintf(&b, "send = \"hex:%x\"\nexpect = \"hex:%x\"\n", checkRequest(), checkAnswer())
	}
	return b.String()
}

// haproxyServers: an error of a session counts at once, as it does with sluice.
func (s setting) haproxyServers() string {
	var b strings.Builder
	if s.pool != nil {
		p, balance := s.pooled, "roundrobin"
		if p.fewest {
			balance = "leastconn"
		}
		fmt.Fprintf(&b, `    balance %s
    timeout connect %v
    timeout check %v
    retries %d
    option redispatch 1
    option tcp-check
`, balance, connectTimeout, p.within, retries)
		if p.asks {
			fmt.Fprintf(&b, "    tcp-check connect\n    tcp-check send-binary %x\n    tcp-check expect binary %x\n", checkRequest(), checkAnswer())
		}
		fmt.Fprintf(&b, "    default-server check inter %v fastinter %v rise %d fall %d observe layer4 error-limit 1 on-error mark-down\n", p.every, p.inDoubt, rise, fall)
	}
	for i, at := range s.backends() {
		fmt.Fprintf(&b, "    server b%d %v\n", i, at)
	}
	return b.String()
}

// nginxTarget is what proxy_pass names, and the upstream that it may name. nginx has no checks: a server that fails a session is
// left out for 10 s, its own default.
func (s setting) nginxTarget() (name, upstream string) {
	if s.pool == nil {
		return s.back.String(), ""
	}
	var b strings.Builder
	b.WriteString("    upstream pool {\n        zone pool 1m;\n")
	if s.pooled.fewest {
		b.WriteString("        least_conn;\n")
	}
	for _, at := range s.pool {
		fmt.Fprintf(&b, "        server %v;\n", at)
	}
	return "pool", fmt.Sprintf("%s    }\n    proxy_connect_timeout %v;\n", b.String(), connectTimeout)
}
