package config

import (
	"fmt"
	"strconv"
	"strings"
)

// Backend is one address sessions are relayed to.
type Backend struct {
	Address     string // HOST:PORT as written; the host is a name or an IP address. Or srv:NAME, unix:PATH, unix:@NAME
	Weight      int    // 1..256: its share among the pool's backends. 1 with srv:, whose records have weights
	Backup      bool   // picked only when no other may be
	MaxSessions int    // at a time of each of its addresses; 0 = as the pool says

	FromFile bool // it stands in the pool's BackendsFile and not in the configuration
}

// maxWeight bounds weight: shares finer than 1 in 256 can't be seen.
const maxWeight = 256

// ServicePrefix stands before a name whose SRV records are the backends.
const ServicePrefix = "srv:"

// String writes the backend the way a file does.
func (b Backend) String() string {
	text := b.Address
	if b.Weight != 1 {
		text += " weight=" + strconv.Itoa(b.Weight)
	}
	if b.MaxSessions > 0 {
		text += " max_sessions=" + strconv.Itoa(b.MaxSessions)
	}
	if b.Backup {
		text += " backup"
	}
	return text
}

// parseBackend reads "HOST:PORT [weight=N] [max_sessions=N] [backup]", or "srv:NAME [max_sessions=N] [backup]".
func parseBackend(text string) (Backend, error) {
	words := strings.Fields(text)
	if len(words) == 0 {
		return Backend{}, fmt.Errorf(`must be HOST:PORT, such as "10.0.0.1:8080"; got ""`)
	}
	b := Backend{Address: words[0], Weight: 1}
	host, port, err := splitPort(b.Address)
	service, isService := strings.CutPrefix(b.Address, ServicePrefix)
	switch {
	case isService && !serviceOK(service):
		return Backend{}, fmt.Errorf(`%s must be followed by the name of SRV records, which say the port, such as "srv:_pg._tcp.example.com"; got %q`, ServicePrefix, service)
	case isService:
	case strings.HasPrefix(b.Address, UnixPrefix):
		if path, _ := b.UnixPath(); !unixPathOK(path) {
			return Backend{}, fmt.Errorf(`%s must be followed by an absolute path, or @ and the name of an abstract socket, of %d bytes at most; got %q`, UnixPrefix, maxSocketPath, b.Address)
		}
	case err != nil || port == 0:
		return Backend{}, fmt.Errorf(`must begin with HOST:PORT, port 1 to 65535, such as "10.0.0.1:8080"; got %q`, b.Address)
	case !hostOK(host):
		return Backend{}, fmt.Errorf("%q is neither an IP address nor a host name", host)
	}
	for _, word := range words[1:] {
		name, value, hasValue := strings.Cut(word, "=")
		switch {
		case word == "backup":
			b.Backup = true
		case name == "weight" && isService:
			return Backend{}, fmt.Errorf("%s takes no weight: its SRV records have weights", ServicePrefix)
		case name == "weight" && hasValue:
			if b.Weight, err = strconv.Atoi(value); err != nil || b.Weight < 1 || b.Weight > maxWeight {
				return Backend{}, fmt.Errorf("weight must be a whole number from 1 to %d; got %q", maxWeight, value)
			}
		case name == "max_sessions" && hasValue:
			if b.MaxSessions, err = strconv.Atoi(value); err != nil || b.MaxSessions < 1 || b.MaxSessions > maxSessions {
				return Backend{}, fmt.Errorf("max_sessions must be a whole number from 1 to %d; got %q", maxSessions, value)
			}
		default:
			return Backend{}, fmt.Errorf("unknown word %q%s (weight=N, max_sessions=N and backup may follow HOST:PORT)",
				word, DidYouMean(name, []string{"weight", "max_sessions", "backup"}))
		}
	}
	return b, nil
}

// serviceOK tells names of services from typing errors. One without the labels of RFC 2782
// is as good: Consul has such.
func serviceOK(name string) bool { return len(name) < 254 && hostOK(name) && !isIP(name) }

func isIP(text string) bool {
	_, err := parseIP(text)
	return err == nil
}

// hostOK tells host names and IP addresses from typing errors such as "http://x"
// or "10.0.0.300". Underscores are no part of host names, but Docker's have them.
func hostOK(host string) bool {
	if _, err := parseIP(host); err == nil {
		return true
	}
	labels := strings.Split(strings.TrimSuffix(host, "."), ".")
	for _, l := range labels {
		if !nameRule.MatchString(l) {
			return false
		}
	}
	// A name whose last label is a number is a mistyped IPv4 address.
	_, err := strconv.Atoi(labels[len(labels)-1])
	return err != nil
}

// setBackends fills a pool from texts, of which at[i] says where each stands.
func (b *builder) setBackends(p *Pool, texts []string, at []Fault) {
	seen := make(map[string]bool)
	backups := 0
	for i, text := range texts {
		backend, err := parseBackend(text)
		if err != nil {
			b.fault(at[i], "%v", err)
			continue
		}
		name := strings.ToLower(backend.Address)
		if _, isUnix := backend.UnixPath(); isUnix {
			name = backend.Address
		}
		if seen[name] {
			b.fault(at[i], "%s is there twice; weight=2 gives it a double share", backend.Address)
		} else {
			seen[name] = true
		}
		if backend.Backup {
			backups++
		}
		p.Backends = append(p.Backends, backend)
	}
	if backups > 0 && backups == len(texts) {
		b.fault(at[0], "every backend of the pool is a backup; at least one must not be")
	}
}
