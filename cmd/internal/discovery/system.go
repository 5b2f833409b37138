package discovery

import (
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// system is how this machine resolves names: /etc/resolv.conf and /etc/hosts, read again
// when they change. It holds no descriptor: a look is a stat(2) for each lookup.
type system struct {
	resolvPath, hostsPath string

	mu     sync.Mutex
	resolv resolvConf
	hosts  map[string][]netip.Addr // by name in lower case
	seen   [2]sight                // of the two files
	read   bool
}

// resolvConf is what resolv.conf says; resolv.conf(5).
type resolvConf struct {
	servers  []netip.AddrPort
	search   []string // domains, fully qualified
	ndots    int
	timeout  time.Duration
	attempts int
}

// What holds where resolv.conf says nothing, as in libc.
const (
	defaultTimeout  = 5 * time.Second
	defaultAttempts = 2
	dnsPort         = 53
)

// configured is resolv.conf as it is now.
func (s *system) configured() resolvConf {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refreshLocked()
	return s.resolv
}

// inHosts are the addresses of a name in /etc/hosts, and of localhost wherever that is not there.
func (s *system) inHosts(name string) []netip.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refreshLocked()
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if addrs, is := s.hosts[name]; is {
		return addrs
	}
	if name == "localhost" || strings.HasSuffix(name, ".localhost") { // RFC 6761: no server is asked
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	}
	return nil
}

func (s *system) refreshLocked() {
	for i, path := range []string{s.resolvPath, s.hostsPath} {
		now := sight{}
		if info, err := os.Stat(path); err == nil {
			now = sightOf(info)
		}
		if s.read && now == s.seen[i] {
			continue
		}
		s.seen[i] = now
		if i == 0 {
			s.resolv = readResolv(path)
		} else {
			s.hosts = readHosts(path)
		}
	}
	s.read = true
}

// readResolv takes a file that is not there for one that says nothing: this machine is
// asked then.
func readResolv(path string) resolvConf {
	r := resolvConf{ndots: 1, timeout: defaultTimeout, attempts: defaultAttempts}
	if c, err := dns.ClientConfigFromFile(path); err == nil {
		for _, s := range c.Servers {
			if a, err := netip.ParseAddr(s); err == nil {
				r.servers = append(r.servers, netip.AddrPortFrom(a, dnsPort))
			}
		}
		r.search, r.ndots, r.timeout, r.attempts = c.Search, c.Ndots, time.Duration(c.Timeout)*time.Second, c.Attempts
	}
	if len(r.servers) == 0 {
		r.servers = []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), dnsPort), netip.AddrPortFrom(netip.IPv6Loopback(), dnsPort)}
	}
	return r
}

// readHosts reads a file of hosts(5). Lines that are none are passed over.
func readHosts(path string) map[string][]netip.Addr {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	hosts := map[string][]netip.Addr{}
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		addr, err := netip.ParseAddr(words[0])
		if err != nil {
			continue
		}
		for _, name := range words[1:] {
			name = strings.ToLower(strings.TrimSuffix(name, "."))
			hosts[name] = append(hosts[name], addr.Unmap())
		}
	}
	return hosts
}
