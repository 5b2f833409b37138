package discovery

import (
	"cmp"
	"fmt"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

// Result is how a lookup ended. It is a label of a metric.
type Result string

// The results. Empty and Missing are answers, and are believed; Failed and Silent say
// nothing of the name.
const (
	Found   Result = "found"
	Empty   Result = "empty"    // the name is there, without what was asked for
	Missing Result = "nxdomain" // there is no such name
	Failed  Result = "failure"  // servers could not or would not say
	Silent  Result = "timeout"  // no server answered
)

// Results are all of them.
var Results = []Result{Found, Empty, Missing, Failed, Silent}

// says is true of an answer that says something of the name.
func (r Result) says() bool { return r == Found || r == Empty || r == Missing }

// answer is what one lookup of one type brought.
type answer struct {
	result  Result
	addrs   []ranked      // of A and AAAA
	records []record      // of SRV
	ttl     time.Duration // for how long it holds, by the server; less than 0 = it did not say
	err     error         // of Failed and Silent
}

// record is one of SRV: a lower priority comes first, weights share among equals.
type record struct {
	host             string // fully qualified
	port             uint16
	priority, weight uint16
}

func (r record) compare(s record) int {
	return cmp.Or(cmp.Compare(r.priority, s.priority), cmp.Compare(r.host, s.host), cmp.Compare(r.port, s.port), cmp.Compare(r.weight, s.weight))
}

// maxChain bounds how many aliases (CNAME) are followed in an answer.
const maxChain = 16

// read makes an answer of a message that says something of the name.
func read(m *dns.Msg, name string, qtype uint16) answer {
	if m.Rcode == dns.RcodeNameError {
		return answer{result: Missing, ttl: negativeTTL(m)}
	}
	owner, ttl := dns.CanonicalName(name), uint32(1<<31)
	for range maxChain { // aliases may stand in any order
		next := ""
		for _, rr := range m.Answer {
			if c, is := rr.(*dns.CNAME); is && dns.CanonicalName(c.Hdr.Name) == owner {
				next, ttl = dns.CanonicalName(c.Target), min(ttl, c.Hdr.Ttl)
			}
		}
		if next == "" {
			break
		}
		owner = next
	}
	a := answer{result: Empty}
	seen := map[netip.Addr]bool{}
	for _, rr := range m.Answer {
		if rr.Header().Rrtype != qtype || dns.CanonicalName(rr.Header().Name) != owner {
			continue
		}
		ttl = min(ttl, rr.Header().Ttl)
		var addr netip.Addr
		switch rr := rr.(type) {
		case *dns.A:
			addr, _ = netip.AddrFromSlice(rr.A.To4())
		case *dns.AAAA:
			addr, _ = netip.AddrFromSlice(rr.AAAA)
			addr = addr.Unmap()
		case *dns.SRV:
			if rr.Target != "." { // "decidedly not available", RFC 2782
				a.records = append(a.records, record{dns.CanonicalName(rr.Target), rr.Port, rr.Priority, rr.Weight})
			}
		}
		// 0.0.0.0 is how filters say that there is nothing; connecting there finds this machine.
		if addr.IsValid() && !addr.IsUnspecified() && !addr.IsMulticast() && !seen[addr] {
			seen[addr] = true
			a.addrs = append(a.addrs, ranked{addr: addr})
		}
	}
	if len(a.addrs) == 0 && len(a.records) == 0 {
		a.ttl = negativeTTL(m)
		return a
	}
	a.result, a.ttl = Found, time.Duration(ttl)*time.Second
	return a
}

// negativeTTL is for how long a denial holds: RFC 2308. Less than 0 = it is not said.
func negativeTTL(m *dns.Msg) time.Duration {
	for _, rr := range m.Ns {
		if soa, is := rr.(*dns.SOA); is {
			return time.Duration(min(soa.Minttl, soa.Hdr.Ttl)) * time.Second
		}
	}
	return -1
}

// refusal is the error of a server that says nothing of the name.
func refusal(server netip.AddrPort, rcode int) error {
	return fmt.Errorf("%s says %s", server, dns.RcodeToString[rcode])
}
