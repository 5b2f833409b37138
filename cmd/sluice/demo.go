package main

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"sluice/cmd/internal/config"
	"sluice/cmd/internal/control"
)

// demo is the first look: two small HTTP backends that say which one
// answers, four acceptors on one port, and the commands to try.
func demo(e env, args []string) int {
	fs := flag.NewFlagSet("sluice demo", flag.ContinueOnError)
	listen := fs.String("listen", "127.0.0.1:8080", "`ADDRESS` to listen on")
	admin := fs.String("admin", "127.0.0.1:9095", "`ADDRESS` of the admin endpoint")
	acceptors := fs.Int("acceptors", 4, "`NUMBER` of acceptors")
	if status := parse(e, fs, args); status >= 0 {
		return status
	}
	var who atomic.Pointer[control.Finder]
	var addrs []string
	for _, name := range []string{"a", "b"} {
		ln, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			fmt.Fprintln(e.stderr, "sluice demo:", err)
			return exitFault
		}
		srv := &http.Server{Handler: whoAnswers(name, &who), ReadHeaderTimeout: 5 * time.Second}
		defer srv.Close()
		go srv.Serve(ln)
		addrs = append(addrs, ln.Addr().String())
	}
	c := config.Default()
	c.Acceptors.Count = config.Auto(*acceptors)
	c.Admin.Listen = *admin
	c.Log.Level, c.Log.Format = "warn", "text"
	c.Limits.DrainTimeout = 2 * time.Second
	l := config.DefaultListener("demo")
	l.Bind, l.Pool = *listen, "demo"
	p := config.DefaultPool("demo")
	for _, addr := range addrs {
		p.Backends = append(p.Backends, config.Backend{Address: addr, Weight: 1})
	}
	c.Listeners, c.Pools = []config.Listener{l}, []config.Pool{p}
	return serve(e, control.Options{Config: c, Read: builtIn, Started: func(at control.Addresses, find control.Finder) {
		who.Store(&find)
		invite(e, *acceptors, at)
	}})
}

// builtIn is what a reload of the demo is told.
func builtIn() (config.Config, string, error) {
	return config.Config{}, "", errors.New("the demo's configuration is built in")
}

// invite prints what to try.
func invite(e env, acceptors int, at control.Addresses) {
	addr := at.Listeners["demo"]
	fmt.Fprintf(e.stdout, `sluice demo: %d acceptors share %s in front of 2 backends. Try, in another terminal:

  curl -s %s                                        who answers: backend, acceptor, process
  for i in $(seq 20); do curl -s %s; done           watch backends take turns and acceptors share
  curl -s %s/metrics | grep '^sluice_acceptor_accepted'    how evenly they share

Ctrl-C ends it.
`, acceptors, addr, addr, addr, at.Admin)
}

// whoAnswers is a backend. It knows itself; which acceptor relays to it is known to
// the service, by the source address that the acceptor connected from.
func whoAnswers(name string, who *atomic.Pointer[control.Finder]) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		acceptor := "unknown"
		from, err := netip.ParseAddrPort(r.RemoteAddr)
		if find := who.Load(); err == nil && find != nil {
			if n, ok := (*find)(from); ok {
				acceptor = fmt.Sprint(n)
			}
		}
		fmt.Fprintf(w, "backend %s, through acceptor %s, pid %d\n", name, acceptor, os.Getpid())
	}
}
