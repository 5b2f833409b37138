package main

import (
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
)

// proxy is one of those that are compared. A new one joins by an entry in proxies.
type proxy struct {
	name  string
	about string
	flag  string // the command-line flag that gives its path, "" for what is built in
	peer  bool   // ratios are taken to the best of the peers
	files int    // descriptors that a session takes
	extra bool   // runs only in the cases that want it, or when named by -proxies
	batch bool   // a peer once more, in batch scheduling: shows what that alone gives, and no ratio is taken to it

	command func(s setting) program
	config  func(s setting) string // contents of setting.config, nil: it needs none
	version func(path string) string
	spread  func(r *rig) (perAcceptor []int, err error) // sessions that each acceptor holds, nil: cannot be had
	scrapes bool                                        // it has metrics for Prometheus
	workers bool                                        // its acceptors are processes, which can be stopped one by one
	checks  bool                                        // it asks backends whether they are well
}

// setting is what one run gives a proxy.
type setting struct {
	path      string // of the program
	acceptors int
	front     netip.AddrPort   // where it listens
	back      netip.AddrPort   // the backend
	admin     netip.AddrPort   // metrics; zero unless the case looks at them
	more      []netip.AddrPort // where it listens, too
	pool      []netip.AddrPort // the backends of front's pool, where there is more to it than back
	pooled    pooled           // the same
	spare     int              // backends of the pool of those; 0 = they have the one backend
	files     int              // descriptors that a process may have, as far as they are used
	config    string           // path of its configuration file, in a directory of its own
}

// direct is the row without a proxy: what the load generator and the backend can do by themselves.
const direct = "direct"

var proxies = []proxy{
	{name: direct, about: "no proxy: the load generator talks to the backend"},
	{
		name: "sluice", about: "this repository", flag: "sluice", files: 2,
		command: sluiceCommand(), config: sluiceConfig, version: sluiceVersion, spread: sluiceSpread, scrapes: true, checks: true,
	},
	{
		name: "sluice-process", about: "sluice, each acceptor a process", flag: "sluice", files: 2, extra: true, workers: true,
		command: sluiceCommand("--mode", "process"), config: sluiceConfig, version: sluiceVersion, spread: sluiceSpread, scrapes: true, checks: true,
	}, {
		name: "sluice-access-log", about: "sluice with a line for each session, to /dev/null", flag: "sluice", files: 2, extra: true,
		command: sluiceCommand("--access-log", "all", "--access-log-to", "/dev/null"), version: sluiceVersion, spread: sluiceSpread,
	},
	haproxy,
	nginx,
	inBatches(haproxy),
	inBatches(nginx),
	{
		name: "go", about: "two goroutines with io.Copy for each session", files: 6, // two sockets, and a pipe for each half
		command: func(s setting) program {
			return program{path: s.path, args: []string{"_goproxy", s.front.String(), s.back.String()},
				env: []string{"GOMAXPROCS=" + strconv.Itoa(s.acceptors)}}
		},
		version: func(string) string { return runtime.Version() },
	},
}

var haproxy = proxy{
	name: "haproxy", about: "HAProxy, shards by-thread, splice-auto", flag: "haproxy", files: 2, peer: true,
	command: func(s setting) program { return program{path: s.path, args: []string{"-db", "-f", s.config}} },
	config:  haproxyConfig, version: func(path string) string { return firstMatch(`\d[^ ]+`, path, "-v") }, spread: haproxySpread, scrapes: true, checks: true,
}

var nginx = proxy{
	name: "nginx", about: "nginx stream, reuseport", flag: "nginx", files: 2, peer: true, workers: true,
	command: func(s setting) program {
		return program{path: s.path, args: []string{"-e", "stderr", "-p", filepath.Dir(s.config), "-c", s.config}, gentle: true}
	},
	config: nginxConfig, version: func(path string) string { return firstMatch(`\d[^ \n]+`, path, "-v") }, spread: nginxSpread,
}

// chrt, of util-linux, starts a program with another scheduling policy, which its threads and children inherit.
const chrt = "chrt"

// inBatches is a peer under SCHED_BATCH, which sluice gives itself while it is busy.
func inBatches(p proxy) proxy {
	command := p.command
	p.name, p.about = p.name+"-batch", p.name+" under "+chrt+" -b 0"
	p.peer, p.extra, p.batch = false, true, true
	p.command = func(s setting) program {
		c := command(s)
		c.args = append([]string{"-b", "0", c.path}, c.args...)
		c.path = chrt
		return c
	}
	return p
}

func proxyNamed(name string) *proxy {
	for i := range proxies {
		if proxies[i].name == name {
			return &proxies[i]
		}
	}
	return nil
}

func sluiceCommand(more ...string) func(setting) program {
	return func(s setting) program {
		admin := ""
		if s.admin.IsValid() {
			admin = s.admin.String()
		}
		args := []string{"run", "--listen", s.front.String(), "--backend", s.back.String()}
		if s.needsFile() {
			args = []string{"run", "-c", s.config}
		}
		args = append(args, "--acceptors", strconv.Itoa(s.acceptors), "--admin", admin, "--log-level", "error")
		return program{path: s.path, args: append(args, more...), gentle: true}
	}
}

// sluiceConfig is for what flags cannot say.
func sluiceConfig(s setting) string {
	if !s.needsFile() {
		return ""
	}
	return fmt.Sprintf(`[listener.main]
bind = "%v"
pool = "main"
`, s.front) + s.sluicePool() + s.moreListeners(func(i int, at netip.AddrPort, spare bool) string {
		pool := "main"
		if spare {
			pool = "spare"
		}
		return fmt.Sprintf("[listener.more%d]\nbind = \"%v\"\npool = %q\n", i, at, pool)
	}) + inside("[pool.spare]\nbackends = [\n", s.spareBackends(func(at netip.AddrPort) string { return fmt.Sprintf("\t\"%v\",\n", at) }), "]\n")
}

// inside is text in its brackets, and nothing without a text.
func inside(open, text, end string) string {
	if text == "" {
		return ""
	}
	return open + text + end
}

func sluiceVersion(path string) string { return firstMatch(`\S*\d\S*|\(devel\)`, path, "version") }

// mostFiles is how many descriptors a proxy is configured for: enough for the 9,000 sessions of the largest case.
const mostFiles = 20000

// haproxyConfig: two descriptors for each of maxconn and of maxpipes, and some for the rest, make up its files.
func haproxyConfig(s setting) string {
	return fmt.Sprintf(`global
    nbthread %d
    maxconn %d
    maxpipes 400
    stats socket %s mode 600 level admin

defaults
    mode tcp
    option splice-auto
    timeout connect 5s
    timeout client 10m
    timeout server 10m

listen bench
    bind %v shards by-thread
%s`, s.acceptors, (s.files-1400)/2-len(s.more)*s.acceptors, haproxySocket(s), s.front, s.haproxyServers()) + haproxyMetrics(s) + s.moreListeners(func(i int, at netip.AddrPort, spare bool) string {
		servers := fmt.Sprintf("    server backend %v\n", s.back)
		if spare {
			servers = s.spareBackends(func(at netip.AddrPort) string {
				a := at.Addr().As4()
				return fmt.Sprintf("    server b%d-%d-%d %v\n", a[1], a[2], a[3], at)
			})
		}
		return fmt.Sprintf("\nlisten more%d\n    bind %v shards by-thread\n%s", i, at, servers)
	})
}

// haproxyMetrics is its exporter for Prometheus.
func haproxyMetrics(s setting) string {
	if !s.scaled() {
		return ""
	}
	return fmt.Sprintf(`
frontend metrics
    mode http
    bind %v
    http-request use-service prometheus-exporter if { path /metrics }
`, s.admin)
}

func haproxySocket(s setting) string { return filepath.Join(filepath.Dir(s.config), "stats") }

// nginxConfig: worker_connections counts both sides of a session; a worker must be able to hold all sessions of a case.
// Half-close is left as it comes, off.
func nginxConfig(s setting) string {
	module := ""
	if path := nginxStreamModule(s.path); path != "" {
		module = "load_module " + path + ";\n"
	}
	target, upstream := s.nginxTarget()
	return fmt.Sprintf(`%sdaemon off;
worker_processes %d;
worker_rlimit_nofile %d;
pid nginx.pid;
error_log stderr error;

events {
    worker_connections %d;
}

stream {
    access_log off;
    server {
        listen %v reuseport;
        proxy_pass %s;
    }
%s}
`, module, s.acceptors, s.files, s.files-1000, s.front, target, upstream+inside("    upstream spare {\n", s.spareBackends(func(at netip.AddrPort) string {
		return fmt.Sprintf("        server %v;\n", at)
	}), "    }\n")+s.moreListeners(func(_ int, at netip.AddrPort, spare bool) string {
		to := s.back.String()
		if spare {
			to = "spare"
		}
		return fmt.Sprintf("    server {\n        listen %v reuseport;\n        proxy_pass %s;\n    }\n", at, to)
	}))
}

// nginxStreamModule returns the path of the stream module, "" where it is compiled in.
func nginxStreamModule(nginx string) string {
	out, err := exec.Command(nginx, "-V").CombinedOutput()
	dir := regexp.MustCompile(`--modules-path=(\S+)`).FindSubmatch(out)
	if err != nil || dir == nil || !strings.Contains(string(out), "--with-stream=dynamic") {
		return ""
	}
	return filepath.Join(string(dir[1]), "ngx_stream_module.so")
}
