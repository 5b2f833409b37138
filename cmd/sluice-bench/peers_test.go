package main

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// Each peer that is installed must run a case of each family in a smoke, every byte compared.
func TestPeers(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: takes a minute")
	}
	for _, name := range []string{"haproxy", "nginx", "go"} {
		t.Run(name, func(t *testing.T) {
			deadline(t, 3*time.Minute)
			if p := proxyNamed(name); p.flag != "" {
				if _, err := lookForProgram(p.flag); err != nil {
					if os.Getenv("CI") == "true" {
						t.Fatalf("%s is not installed, and CI must have it: %v", name, err)
					}
					t.Skipf("%s is not installed: %v", name, err)
				}
			}
			var out, said bytes.Buffer
			args := []string{"-smoke", "-host-network", "-proxies", name, "-cases", "kept-32-64B|short|greeting|bulk-8-both|idle|balance-64|busy|growth-1a-1000|low-rate|fair-8|accepts|many-listeners-200|many-backends|slow-readers|sick-closing|checks-1000"}
			if err := bench(args, &out, &said); err != nil {
				t.Fatalf("%v\n%s", err, said.String())
			}
			for _, f := range families {
				p := proxyNamed(name)
				if f.name == balanceFamily && p.spread == nil || (f.name == scaleFamily || f.name == sickFamily) && p.config == nil {
					continue // named under the table
				}
				if !strings.Contains(out.String(), "\n"+f.name+"\n") {
					t.Errorf("no table of %q:\n%s", f.name, out.String())
				}
			}
		})
	}
}

// A peer that is not installed is left out and named; one that was asked for is an error.
func TestMissingPeer(t *testing.T) {
	nowhere := &proxy{name: "nowhere", flag: "no-such-program", peer: true}
	batch := inBatches(*nowhere)
	asked := []*proxy{proxyNamed(direct), nowhere, &batch}
	found, _, missing, err := findPrograms(asked, nil, false, t.TempDir())
	if err != nil || len(found) != 1 || len(missing) != 2 || missing[0].Proxy != "nowhere" || missing[1].Proxy != "nowhere-batch" {
		t.Errorf("found %v, missing %v, error %v", found, missing, err)
	}
	if _, _, _, err := findPrograms(asked, nil, true, t.TempDir()); err == nil {
		t.Error("named and missing, and no error")
	}
	if _, _, _, err := findPrograms(asked, map[string]string{"no-such-program": "/nosuch"}, false, t.TempDir()); err == nil {
		t.Error("given a wrong path, and no error")
	}
}

// Without chrt the peers in batch scheduling are left out, and only they.
func TestMissingChrt(t *testing.T) {
	t.Setenv("PATH", "/nosuch")
	peer := &proxy{name: "peer", flag: "peer", peer: true}
	batch := inBatches(*peer)
	given := map[string]string{"peer": "/bin/true"}
	found, _, missing, err := findPrograms([]*proxy{peer, &batch}, given, false, t.TempDir())
	if err != nil || len(found) != 1 || len(missing) != 1 || missing[0].Proxy != "peer-batch" {
		t.Errorf("found %v, missing %v, error %v", found, missing, err)
	}
	if _, _, _, err := findPrograms([]*proxy{&batch}, given, true, t.TempDir()); err == nil {
		t.Error("named, no chrt, and no error")
	}
}

// What -show-configs prints is what is run: the settings that make the comparison fair must be in it.
func TestConfigs(t *testing.T) {
	s := setting{path: "/nosuch", acceptors: 3, files: mostFiles, config: "/dir/config"}
	for _, c := range []struct {
		name, config string
		want         []string
	}{
		{"haproxy", haproxyConfig(s), []string{"nbthread 3\n", "shards by-thread\n", "option splice-auto\n", "mode tcp\n", "maxconn 9300\n", "socket /dir/stats "}},
		{"nginx", nginxConfig(s), []string{"worker_processes 3;", " reuseport;", "daemon off;"}},
		{"go", strings.Join(proxyNamed("go").command(s).env, "\n"), []string{"GOMAXPROCS=3"}},
		{"sluice", strings.Join(proxyNamed("sluice").command(s).args, " "), []string{"--acceptors 3"}},
		{"nginx-batch", strings.Join(proxyNamed("nginx-batch").command(s).args, " "), []string{"-b 0 /nosuch -e stderr -p /dir -c /dir/config"}},
	} {
		for _, want := range c.want {
			if !strings.Contains(c.config, want) {
				t.Errorf("%s: no %q in\n%s", c.name, want, c.config)
			}
		}
	}
}

func TestParseSluiceGauge(t *testing.T) {
	const text = `# TYPE sluice_acceptor_active_connections gauge
sluice_acceptor_active_connections{acceptor="0",listener="a",worker="0"} 5
sluice_acceptor_active_connections{acceptor="1",listener="a",worker="0"} 0
sluice_acceptor_active_connections_other{acceptor="1"} 7
`
	got, err := parseSluiceGauge(text, 2)
	if err != nil || !slices.Equal(got, []int{5, 0}) {
		t.Errorf("got %v, %v, want 5 and 0", got, err)
	}
	if _, err := parseSluiceGauge(text, 4); err == nil {
		t.Error("two series were taken for four acceptors")
	}
}

func TestParseHaproxyThreads(t *testing.T) {
	const text = `  4 : st=0x1 gid=1 tmask=0x1 umask=0x0 l.st=RDY fe=bench fam=ipv4 lport=21080
 21 : st=0x2 gid=1 tmask=0x1 umask=0x0 back=0 cerr=0 fam=ipv4 lport=21080 rport=56516 fe=bench
 22 : st=0x2 gid=1 tmask=0x1 umask=0x0 back=1 cerr=0 fam=ipv4 lport=52648 rport=21081 sv=bench/b
 23 : st=0x2 gid=1 tmask=0x2 umask=0x0 back=0 cerr=0 fam=ipv4 lport=21080 rport=56524 fe=bench
 24 : st=0x2 gid=1 tmask=0x2 umask=0x0 back=0 cerr=0 fam=ipv4 lport=21080 rport=56570 fe=bench
 61 : st=0x2 gid=1 tmask=0x2 umask=0x2 back=0 cerr=0 fam=unix fe=GLOBAL
`
	got := parseHaproxyThreads(text, 21080, 3)
	slices.Sort(got)
	if !slices.Equal(got, []int{0, 1, 2}) {
		t.Errorf("got %v, want a thread with 0, one with 1 and one with 2", got)
	}
}
