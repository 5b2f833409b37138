package discovery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// asker asks servers. It is plain data, made for one lookup: what changes meanwhile holds
// for the next.
//
//	for each attempt, for each server:  UDP ─► truncated? ─► TCP ─► it says something of the name: done
//	                                     └ silent, refuses, fails: the next
//
// So a lookup takes servers x timeout x attempts at most, and has one descriptor at a time.
type asker struct {
	servers  []netip.AddrPort
	timeout  time.Duration // of one try
	attempts int
	heard    func(server netip.AddrPort, silent bool)
}

// udpSize is what fits in one packet of most networks: the flag day's figure of 2020.
const udpSize = 1232

// ask puts one question.
func (a asker) ask(ctx context.Context, name string, qtype uint16) answer {
	ctx, cancel := context.WithTimeout(ctx, a.budget())
	defer cancel()
	failed := answer{result: Silent, err: errors.New("there is no name server")}
	var cut *dns.Msg // the best there is if TCP gives nothing
	refused := false
	for range a.attempts {
		for _, server := range a.servers {
			m, partial, err := a.exchange(ctx, server, name, qtype)
			switch {
			case ctx.Err() != nil:
				return failed
			case err == nil:
				a.heard(server, false)
				return read(m, name, qtype)
			}
			silent := errors.Is(err, os.ErrDeadlineExceeded)
			a.heard(server, silent)
			refused = refused || !silent
			failed.err = err
			if partial != nil {
				cut = partial
			}
		}
	}
	if cut != nil {
		return read(cut, name, qtype)
	}
	if refused {
		failed.result = Failed
	}
	return failed
}

// budget bounds a question, TCP included.
func (a asker) budget() time.Duration {
	return time.Duration(len(a.servers)*a.attempts) * a.timeout
}

// exchange asks one server. It returns an error unless the server says something of the
// name, and with it what was cut off, if TCP did not give the whole.
func (a asker) exchange(ctx context.Context, server netip.AddrPort, name string, qtype uint16) (m, cut *dns.Msg, err error) {
	m, err = a.over(ctx, "udp", server, name, qtype, true)
	if err == nil && (m.Rcode == dns.RcodeFormatError || m.Rcode == dns.RcodeNotImplemented) { // it may be too old for EDNS
		m, err = a.over(ctx, "udp", server, name, qtype, false)
	}
	if err == nil && m.Truncated {
		cut = m
		m, err = a.over(ctx, "tcp", server, name, qtype, true)
	}
	if err != nil {
		return nil, cut, err
	}
	if m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
		return nil, cut, refusal(server, m.Rcode)
	}
	return m, nil, nil
}

// over sends a question and waits for its answer, on a connection of its own: its port
// is as hard to guess as the number of the question.
func (a asker) over(ctx context.Context, network string, server netip.AddrPort, name string, qtype uint16, edns bool) (*dns.Msg, error) {
	dialer := net.Dialer{Timeout: a.timeout}
	conn, err := dialer.DialContext(ctx, network, server.String())
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", server, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	_ = conn.SetDeadline(time.Now().Add(a.timeout))
	if ctx.Err() != nil { // the deadline of the one may have come before that of the other
		return nil, ctx.Err()
	}
	question := new(dns.Msg).SetQuestion(name, qtype)
	if edns {
		question.SetEdns0(udpSize, false)
	}
	c := &dns.Conn{Conn: conn, UDPSize: udpSize}
	if err := c.WriteMsg(question); err != nil {
		return nil, fmt.Errorf("ask %s: %w", server, err)
	}
	for {
		m, err := c.ReadMsg()
		var broken net.Error
		switch {
		case err == nil && answers(m, question):
			return m, nil
		case errors.As(err, &broken), err != nil && network == "tcp":
			return nil, fmt.Errorf("ask %s: %w", server, err)
		} // else it is late, forged or garbled: the right one may still come
	}
}

// answers says whether m is meant for the question.
func answers(m, question *dns.Msg) bool {
	if !m.Response || m.Id != question.Id {
		return false
	}
	if len(m.Question) == 0 { // some say so when they refuse
		return m.Rcode != dns.RcodeSuccess
	}
	q, asked := m.Question[0], question.Question[0]
	return q.Qtype == asked.Qtype && strings.EqualFold(q.Name, asked.Name)
}

// silentFor is how long a server that did not answer is asked last.
const silentFor = 30 * time.Second

// quietServers remembers which servers did not answer.
type quietServers map[netip.AddrPort]time.Time

// inOrder has the silent ones last, and all else as configured.
func (q quietServers) inOrder(servers []netip.AddrPort, now time.Time) []netip.AddrPort {
	ordered := slices.Clone(servers)
	slices.SortStableFunc(ordered, func(a, b netip.AddrPort) int {
		switch quietA, quietB := now.Before(q[a]), now.Before(q[b]); {
		case quietA == quietB:
			return 0
		case quietA:
			return 1
		}
		return -1
	})
	return ordered
}

func (q quietServers) heard(server netip.AddrPort, silent bool, now time.Time) {
	if !silent {
		delete(q, server)
		return
	}
	if len(q) >= 64 { // of configurations that are gone
		clear(q)
	}
	q[server] = now.Add(silentFor)
}
