package main

import (
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
)

// countingPeer notes which clients connect.
type countingPeer struct {
	*peer
	mu   sync.Mutex
	from map[string]int // by address
}

func startCounting(t *testing.T, addr string) *countingPeer {
	p := &countingPeer{from: map[string]int{}}
	p.peer = startPeer(t, addr, func(c *net.TCPConn) {
		host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
		p.mu.Lock()
		p.from[host]++
		p.mu.Unlock()
		sendBack(c)
	})
	return p
}

func (p *countingPeer) seen(host string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.from[host]
}

// Where an address has few ports, three have three times as many: each is used up to the
// last, and one more waits until a session has ended.
func TestSourcesTakeOverFromEachOther(t *testing.T) {
	inOwnNetwork(t, func(t *testing.T) {
		const ports = 20
		const setting = "/proc/sys/net/ipv4/ip_local_port_range"
		if err := os.WriteFile(setting, []byte("1024 65535"), 0); err != nil {
			unable(t, "%v", err)
		}
		port := 10000
		modes(t, func(t *testing.T, mode string) {
			p := startCounting(t, "10.77.0.1:81")
			sources := []string{"127.0.9.1", "127.0.9.2", "127.0.9.3"}
			p2 := startCounting(t, "127.0.9.9:80")
			s := startChanging(t, mode, acceptorsTable(2, "auto")+listenerAt("main", "10.77.0.1:8080", "app")+listenerAt("other", "10.77.0.1:8081", "ranged")+
				poolOf("app", []string{p2.addr}, "source = "+quoted(sources), `connect_timeout = "60s"`)+
				poolOf("ranged", []string{p.addr}, `source = "10.77.0.1"`, `source_ports = "3000-3019"`, `connect_timeout = "60s"`))
			// The clients' ports are others, at an address of their own: the kernel gives no port away that a socket is bound
			// to.
			if err := os.WriteFile(setting, []byte(fmt.Sprintf("%d %d", 2000, 2000+ports-1)), 0); err != nil {
				t.Fatal(err)
			}
			defer os.WriteFile(setting, []byte("1024 65535"), 0)
			client := func(listener string) *net.TCPConn {
				port++
				return dialBy(t, net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 8, 1), Port: port}}, s.addrs[listener])
			}
			var held []*net.TCPConn
			for i := range 3 * ports {
				c := client("main")
				if !talks(c) {
					t.Fatalf("session %d does not work", i)
				}
				held = append(held, c)
			}
			for _, source := range sources {
				if n := p2.seen(source); n != ports {
					t.Errorf("%d came from %s, want %d", n, source, ports)
				}
			}
			late := client("main")
			send(t, late, "x")
			eventually(t, patience, "a lack of ports is told", func() bool { return strings.Contains(s.logged(), "no source port left") })
			held[0].Close()
			expect(t, late, "x")

			for i := range 20 {
				if c := client("other"); !talks(c) {
					t.Fatalf("session %d of the range does not work", i)
				}
			}
			if n := p.seen("10.77.0.1"); n != 20 {
				t.Errorf("%d of 20 came from the range", n)
			}
		})
	})
}
