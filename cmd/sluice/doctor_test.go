package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"sluice/listener/steering"
	"sluice/metrics"
)

// healthy is a machine on which there is nothing to improve. It is no container, and
// its user is not privileged.
func healthy() map[string]string {
	return map[string]string{
		"/proc/sys/kernel/osrelease":                         "6.12.9-amd64\n",
		"/proc/sys/net/core/somaxconn":                       "4096\n",
		"/proc/sys/net/ipv4/tcp_max_syn_backlog":             "512\n",
		"/proc/sys/net/ipv4/tcp_syncookies":                  "1\n",
		"/proc/sys/net/ipv4/tcp_migrate_req":                 "0\n",
		"/proc/sys/net/ipv4/ip_local_port_range":             "32768\t60999\n",
		"/proc/sys/net/ipv4/tcp_congestion_control":          "cubic\n",
		"/proc/sys/fs/pipe-max-size":                         "1048576\n",
		"/proc/sys/fs/pipe-user-pages-soft":                  "0\n",
		"/proc/self/status":                                  statusOf(1000, 0, allCapabilities, false),
		"/proc/self/uid_map":                                 "         0          0 4294967295\n",
		"/proc/self/limits":                                  "Limit   Soft Limit  Hard Limit  Units\nMax open files            1024                 1048576              files     \n",
		"/proc/self/cgroup":                                  "0::/system.slice/sluice.service\n",
		"/sys/fs/cgroup/system.slice/sluice.service/cpu.max": "max 100000\n",
		"/sys/fs/cgroup/system.slice/sluice.service/io.max":  "",
	}
}

const allCapabilities = 1<<41 - 1

// statusOf is the lines of /proc/self/status that tell of a user.
func statusOf(uid int, effective, bounding uint64, noNewPrivs bool) string {
	n := 0
	if noNewPrivs {
		n = 1
	}
	return fmt.Sprintf("Name:\tsluice\nUid:\t%d\t%[1]d\t%[1]d\t%[1]d\nCapInh:\t0\nCapEff:\t%016x\nCapBnd:\t%016x\nNoNewPrivs:\t%d\n", uid, effective, bounding, n)
}

// patient is a machine of files, with what else is changed.
func patient(files map[string]string, change func(*machine)) machine {
	m := machine{
		read: func(path string) ([]byte, error) {
			text, found := files[path]
			if !found {
				return nil, &os.PathError{Op: "open", Path: path, Err: syscall.ENOENT}
			}
			return []byte(text), nil
		},
		steering: func() steering.Support { return steering.Support{} },
		splice:   func() error { return nil },
		netns:    func() (*metrics.Netns, error) { return &metrics.Netns{ListenDrops: 3}, nil },
		mptcp:    func() error { return nil },
		refused:  func() []error { return nil },
		cpus:     func() int { return 8 },
	}
	if change != nil {
		change(&m)
	}
	return m
}

func TestDoctorFindsNothingToImprove(t *testing.T) {
	found := examine(patient(healthy(), nil))
	if len(found) != len(checks) {
		t.Errorf("%d findings of %d checks", len(found), len(checks))
	}
	for _, f := range found {
		if f.Mark != markOK || f.Improve != "" || f.Says == "" {
			t.Errorf("%+v", f)
		}
	}
}

const (
	missing = "-" // the file is not there
	docker  = "/.dockerenv"
)

// support makes a machine on which probes of steering have these results.
func support(bpf, cpu error) func(*machine) {
	return func(m *machine) { m.steering = func() steering.Support { return steering.Support{BPF: bpf, CPU: cpu} } }
}

var notPermitted = support(fmt.Errorf("bpf: %w", syscall.EPERM), nil)

func TestDoctorFindings(t *testing.T) {
	const (
		sysctl = "/proc/sys/net/ipv4/"
		cgroup = "/sys/fs/cgroup/system.slice/sluice.service/"

		podHosts = "# Kubernetes-managed hosts file.\n127.0.0.1 localhost\n"
	)
	const dockers = 0xa80425fb                         // what Docker gives root
	dockerRoot := statusOf(0, dockers, dockers, false) // BPF is not in it
	image := statusOf(65532, 0, dockers, true)
	type files = map[string]string
	for _, test := range []struct {
		finding string
		files   files // other than those of a healthy machine
		change  func(*machine)
		mark    mark
		says    string // a part of it
		improve string
	}{
		{"kernel", files{"/proc/sys/kernel/osrelease": "5.13.0-1"}, nil, markNote, "no exact steering", newerKernel},
		{"kernel", files{"/proc/sys/kernel/osrelease": "5.14.0"}, nil, markOK, "5.14.0 has all", ""},
		{"kernel", files{"/proc/sys/kernel/osrelease": "4.19.0"}, nil, markNote, "no exact steering", newerKernel},
		{"kernel", files{"/proc/sys/kernel/osrelease": "4.18.9"}, nil, markPoor, "needs 4.19", newerKernel},
		{"kernel", files{"/proc/sys/kernel/osrelease": "new"}, nil, markNote, "could not tell: kernel release \"new\"", ""},
		{"kernel", files{"/proc/sys/kernel/osrelease": missing}, nil, markNote, "could not tell: open /proc/sys/kernel/osrelease", ""},

		{"container", files{docker: ""}, nil, markOK, "by /.dockerenv", ""},
		{"container", files{"/run/.containerenv": ""}, nil, markOK, "by /run/.containerenv", ""},
		{"container", files{"/proc/self/cgroup": "0::/kubepods.slice/pod1"}, nil, markOK, "by kubepods", ""},
		{"container", nil, nil, markOK, "nothing shows", ""},
		{"container", files{"/etc/hosts": podHosts, "/proc/self/cgroup": "0::/"}, nil, markOK, "of a Kubernetes Pod, by Kubernetes-managed hosts file in /etc/hosts", ""},
		{"container", files{"/proc/self/environ": "A=b\x00KUBERNETES_SERVICE_HOST=10.0.0.1\x00", "/proc/self/cgroup": "0::/"}, nil, markOK, "of a Kubernetes Pod, by KUBERNETES_SERVICE_HOST", ""},
		{"container", files{"/proc/self/environ": "NOT_KUBERNETES_SERVICE_HOST=10.0.0.1\x00"}, nil, markOK, "nothing shows", ""},
		{"container", files{"/proc/self/cgroup": "0::/", "/proc/self/mountinfo": "1 2 0:3 / / rw - overlay overlay rw,lowerdir=/var/lib/containerd/snapshots/1/fs\n"}, nil, markOK, "containerd in /proc/self/mountinfo", ""},
		{"container", files{"/proc/self/mountinfo": "1 2 0:3 / / rw - ext4 /dev/sda rw\n4 1 0:5 / /var/lib/docker/overlay2/1/merged rw - overlay overlay rw\n"}, nil, markOK, "nothing shows", ""},

		{"user", nil, nil, markOK, "tested as user 1000, without capabilities", ""},
		{"user", files{"/proc/self/status": statusOf(1000, 1<<capBPF, 1<<capBPF, false)}, nil, markOK, "with capabilities 8000000000", ""},
		{"user", files{"/proc/self/status": statusOf(0, allCapabilities, allCapabilities, false)}, nil, markNote, "tested as root", "sluice doctor -user NAME"},
		{"user", files{docker: "", "/proc/self/status": dockerRoot}, nil, markNote, "tested as root", "docker run --user 65532 ..."},
		{"user", files{"/proc/self/status": "Uid:\t7\t7\t7\t7\nCapEff:\tx\nCapBnd:\t0\n"}, nil, markNote, "could not tell", ""},

		{"steering", nil, nil, markOK, "auto is least", ""},
		{"steering", nil, notPermitted, markPoor, "hand-off", "setcap cap_bpf+ep $(command -v sluice)"},
		{"steering", files{"/proc/self/status": statusOf(1000, 0, allCapabilities, true)}, notPermitted, markPoor, "hand-off", "systemctl edit sluice   # AmbientCapabilities=CAP_BPF"},
		{"steering", files{"/proc/self/status": statusOf(0, 0, 0, false)}, notPermitted, markPoor, "hand-off", "systemctl edit sluice   # CapabilityBoundingSet= must let CAP_BPF be"},
		{"steering", files{"/proc/self/uid_map": "0 100000 65536"}, notPermitted, markPoor, "no user of this user namespace", ""},
		{"steering", files{"/proc/self/status": "Name: sluice"}, notPermitted, markNote, "could not tell", ""},
		{"steering", files{docker: "", "/proc/self/status": dockerRoot}, notPermitted, markPoor, "hand-off", "docker run --cap-add BPF ..."},
		{"steering", files{docker: "", "/proc/self/status": image}, notPermitted, markPoor, "hand-off", "docker run --user 0 --cap-drop ALL --cap-add BPF ..."},
		{"steering", files{docker: "", "/proc/self/status": statusOf(65532, 0, 1<<capBPF, false)}, notPermitted, markPoor, "CAP_BPF was added, which alone helps root only", "docker run --user 0 --cap-drop ALL --cap-add BPF ..."},
		{"steering", files{docker: "", "/proc/self/status": statusOf(0, 1<<capBPF, 1<<capBPF, false)}, notPermitted, markPoor, "it has CAP_BPF", "docker run --security-opt seccomp=PROFILE ..."},
		{"steering", files{"/etc/hosts": podHosts, "/proc/self/cgroup": "0::/", "/proc/self/status": image}, notPermitted, markPoor, "hand-off", "securityContext: {runAsUser: 0, runAsNonRoot: false, capabilities: {drop: [ALL], add: [BPF]}}"},
		{"steering", files{"/etc/hosts": podHosts, "/proc/self/status": dockerRoot}, notPermitted, markPoor, "hand-off", "securityContext: {capabilities: {add: [BPF]}}"},
		{"steering", nil, support(steering.ErrNotSupported, nil), markPoor, "hand-off", newerKernel},
		{"steering", nil, support(errors.New("odd"), nil), markNote, "could not tell: auto is the kernel's hash with hand-off: at most 2 apart among held connections (odd)", ""},
		{"steering cpu", nil, support(nil, steering.ErrNotSupported), markNote, "not supported", newerKernel},
		{"steering cpu", nil, support(nil, errors.New("odd")), markNote, "could not tell: odd", ""},

		{"migration", nil, nil, markOK, "by the steering program", ""},
		{"migration", nil, notPermitted, markNote, "tcp_migrate_req is 0", "sysctl -w net.ipv4.tcp_migrate_req=1"},
		{"migration", files{"/etc/hosts": podHosts}, notPermitted, markNote, "tcp_migrate_req is 0",
			`securityContext: {sysctls: [{name: net.ipv4.tcp_migrate_req, value: "1"}]}   # of the Pod; the node's kubelet must allow it`},
		{"migration", files{docker: ""}, notPermitted, markNote, "tcp_migrate_req is 0", "docker run --sysctl net.ipv4.tcp_migrate_req=1 ..."},
		{"migration", files{sysctl + "tcp_migrate_req": "1"}, notPermitted, markOK, "tcp_migrate_req is 1", ""},
		{"migration", files{sysctl + "tcp_migrate_req": missing}, notPermitted, markNote, "could not tell", ""},
		{"migration", files{"/proc/sys/kernel/osrelease": "5.4.0"}, notPermitted, markNote, "is reset", newerKernel},

		{"accept queue", files{"/proc/sys/net/core/somaxconn": "1024"}, nil, markNote, "1024 connections", "sysctl -w net.core.somaxconn=4096"},
		{"accept queue", files{"/proc/sys/net/core/somaxconn": "128"}, nil, markPoor, "only 128 connections", "sysctl -w net.core.somaxconn=4096"},
		{"accept queue", files{"/proc/sys/net/core/somaxconn": "many"}, nil, markNote, "could not tell", ""},
		{"accept queue", files{"/proc/sys/net/core/somaxconn": ""}, nil, markNote, "could not tell", ""},

		{"SYN queue", files{sysctl + "tcp_syncookies": "0"}, nil, markPoor, "only 512", "sysctl -w net.ipv4.tcp_syncookies=1"},
		{"SYN queue", files{sysctl + "tcp_syncookies": "0", sysctl + "tcp_max_syn_backlog": "2048"}, nil, markOK, "cookies are off", ""},
		{"SYN queue", files{sysctl + "tcp_max_syn_backlog": missing}, nil, markNote, "could not tell", ""},
		{"SYN queue", files{sysctl + "tcp_syncookies": missing}, nil, markNote, "could not tell", ""},

		{"queue overflows", nil, nil, markOK, "3 connections dropped", ""},
		{"queue overflows", nil, func(m *machine) {
			m.netns = func() (*metrics.Netns, error) { return &metrics.Netns{ListenOverflows: 7, ListenDrops: 9}, nil }
		}, markNote, "7 connections found an accept queue full", "sysctl -w net.core.somaxconn=8192"},
		{"queue overflows", nil, func(m *machine) {
			m.netns = func() (*metrics.Netns, error) { return nil, errors.New("none here") }
		}, markNote, "could not tell: none here", ""},

		{"CPUs", nil, nil, markOK, "8 may be used: auto makes 8 acceptors", ""},
		{"CPUs", files{cgroup + "cpu.max": "150000 100000"}, nil, markOK, "8 may be used: auto makes 2 acceptors", ""},
		{"CPUs", files{cgroup + "cpu.max": "50000 100000"}, nil, markNote, "auto makes 1 acceptor", "sluice run --acceptors 2 ..."},
		{"CPUs", nil, func(m *machine) { m.cpus = func() int { return 1 } }, markNote, "nothing to balance", "sluice run --acceptors 2 ..."},

		{"CPU quota", files{cgroup + "cpu.max": "150000 100000"}, nil, markNote, "1.50 CPUs", "systemctl set-property sluice.service CPUQuota="},
		{"CPU quota", files{docker: "", "/proc/self/cgroup": "0::/", "/sys/fs/cgroup/cpu.max": "50000 100000"}, nil, markNote, "0.50 CPUs", "docker run --cpus 0 ..."},
		{"CPU quota", files{cgroup + "cpu.max": "300000 100000", "/sys/fs/cgroup/system.slice/cpu.max": "200000 100000"}, nil, markNote, "2.00 CPUs", "systemctl set-property sluice.service CPUQuota="},
		{"CPU quota", files{
			"/proc/self/cgroup": "4:cpu,cpuacct:/app\n0::/\n", "/sys/fs/cgroup/cpu,cpuacct/app/cpu.cfs_quota_us": "50000\n", "/sys/fs/cgroup/cpu,cpuacct/app/cpu.cfs_period_us": "100000\n",
			"/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n", "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
		}, nil, markNote, "0.50 CPUs", "systemctl set-property sluice.service CPUQuota="},
		{"CPU quota", files{cgroup + "cpu.max": missing}, nil, markOK, "none", ""},
		{"CPU quota", files{"/proc/self/cgroup": missing}, nil, markNote, "could not tell", ""},
		{"CPU quota", files{"/proc/self/cgroup": "4:memory:/app"}, nil, markNote, "could not tell", ""},

		{"scheduling", nil, nil, markOK, "auto is batch", ""},
		{"scheduling", files{"/proc/sys/kernel/osrelease": "6.5.0"}, nil, markOK, "auto is normal", ""},

		{"open files", files{"/proc/self/limits": "Max open files  1024  20000  files"}, nil, markNote, "20000 for each process: about 8750 sessions", "ulimit -n 1048576   # as root, before sluice; LimitNOFILE= of a unit"},
		{"open files", files{docker: "", "/proc/self/limits": "Max open files  1024  1024  files"}, nil, markPoor, "about 448 sessions", "docker run --ulimit nofile=1048576:1048576 ..."},
		{"open files", files{"/proc/self/limits": "Max processes 1 1"}, nil, markNote, "could not tell", ""},
		{"open files", files{"/proc/self/limits": "Max open files"}, nil, markNote, "could not tell", ""},

		{"source ports", files{sysctl + "ip_local_port_range": "50000 50999"}, nil, markPoor, "only 1000", `sysctl -w net.ipv4.ip_local_port_range="10240 65535"`},
		{"source ports", files{sysctl + "ip_local_port_range": "50000"}, nil, markNote, "could not tell", ""},

		{"socket options", nil, func(m *machine) {
			m.refused = func() []error { return []error{errors.New("mark: no"), errors.New("transparent: no")} }
		}, markNote, "with these does not start: mark: no; transparent: no", "systemctl edit sluice   # AmbientCapabilities=CAP_NET_ADMIN CAP_SYS_ADMIN"},
		{"socket options", files{docker: ""}, func(m *machine) { m.refused = func() []error { return []error{syscall.EPERM} } }, markNote, "operation not permitted", "docker run --user 0 --cap-add NET_ADMIN --cap-add SYS_ADMIN ..."},
		{"Multipath TCP", nil, func(m *machine) { m.mptcp = func() error { return syscall.ENOPROTOOPT } }, markNote, "not to be had (protocol not available)", "sysctl -w net.mptcp.enabled=1"},

		{"splice", nil, func(m *machine) { m.splice = func() error { return syscall.EPERM } }, markNote, "not to be had (operation not permitted)", "systemctl edit sluice   # SystemCallFilter= must let splice be"},
		{"splice", files{docker: ""}, func(m *machine) { m.splice = func() error { return syscall.EPERM } }, markNote, "streams are copied", "docker run --security-opt seccomp=PROFILE ..."},

		{"pipes", files{"/proc/sys/fs/pipe-user-pages-soft": "16384"}, nil, markNote, "64 of 1 MiB", "sysctl -w fs.pipe-user-pages-soft=0"},
		{"pipes", files{docker: "", "/proc/sys/fs/pipe-user-pages-soft": "16384"}, nil, markNote, "64 of 1 MiB", "sysctl -w fs.pipe-user-pages-soft=0"},
		{"pipes", files{docker: "", "/proc/sys/fs/pipe-user-pages-soft": "16384", "/proc/self/status": dockerRoot}, nil, markNote, "64 of 1 MiB", "docker run --cap-add SYS_RESOURCE ..."},
		{"pipes", files{"/proc/sys/fs/pipe-user-pages-soft": "16384", "/proc/self/status": statusOf(0, 1<<capSysResource, allCapabilities, false)}, nil, markOK, "not for this user", ""},
		{"pipes", files{"/proc/sys/fs/pipe-user-pages-soft": "16384", "/proc/self/status": statusOf(0, 1<<capSysAdmin, allCapabilities, false)}, nil, markOK, "not for this user", ""},
		{"pipes", files{"/proc/sys/fs/pipe-user-pages-soft": "16384", "/proc/self/status": statusOf(0, allCapabilities, allCapabilities, false), "/proc/self/uid_map": "0 100000 65536"}, nil, markNote, "64 of 1 MiB", "sysctl -w fs.pipe-user-pages-soft=0"},
		{"pipes", files{"/proc/sys/fs/pipe-max-size": "65536"}, nil, markNote, "of 65536 bytes", "sysctl -w fs.pipe-max-size=1048576"},
		{"pipes", files{"/proc/sys/fs/pipe-max-size": "4096"}, nil, markPoor, "too small to splice", "sysctl -w fs.pipe-max-size=1048576"},
		{"pipes", files{"/proc/self/status": "Name: sluice"}, nil, markNote, "could not tell", ""},

		{"congestion control", files{sysctl + "tcp_congestion_control": "bbr"}, nil, markNote, "bbr paces", "sysctl -w net.ipv4.tcp_congestion_control=cubic"},
		{"congestion control", files{docker: "", sysctl + "tcp_congestion_control": "bbr"}, nil, markNote, "bbr paces", "docker run --sysctl net.ipv4.tcp_congestion_control=reno ..."},
		{"congestion control", files{sysctl + "tcp_congestion_control": missing}, nil, markNote, "could not tell", ""},

		{"disk limits", files{cgroup + "io.max": "8:0 wbps=1048576"}, nil, markOK, "8:0 wbps=1048576", ""},
		{"disk limits", files{"/proc/self/cgroup": "7:blkio:/app", "/sys/fs/cgroup/blkio/app/blkio.throttle.write_bps_device": "8:0 1048576"}, nil, markOK, "8:0 1048576", ""},
		{"disk limits", files{"/proc/self/cgroup": missing}, nil, markNote, "could not tell", ""},
	} {
		has := healthy()
		for path, text := range test.files {
			has[path] = text
			if text == missing {
				delete(has, path)
			}
		}
		var got finding
		for _, f := range examine(patient(has, test.change)) {
			if f.Name == test.finding {
				got = f
			}
		}
		if got.Mark != test.mark || !strings.Contains(got.Says, test.says) || got.Improve != test.improve {
			t.Errorf("%s, with %v:\n got %s: %s: %q\nwant %s: %s: %q", test.finding, test.files, got.Mark, got.Says, got.Improve, test.mark, test.says, test.improve)
		}
	}
}

// runDoctor runs the command in this process, on this machine.
func runDoctor(args ...string) (status int, said string) {
	var out bytes.Buffer
	status = doctor(env{stdout: &out, stderr: &out}, args)
	return status, out.String()
}

func TestDoctorOnThisMachine(t *testing.T) {
	status, said := runDoctor("-json", "-acceptors", "4")
	var d diagnosis
	if err := json.Unmarshal([]byte(said), &d); status != exitOK || err != nil {
		t.Fatalf("exit status %d, %v: %s", status, err, said)
	}
	for _, f := range d.Findings {
		if strings.Contains(f.Says, "could not tell") {
			t.Errorf("%s: %s", f.Name, f.Says)
		}
	}
	least := steering.Probe().BPF == nil
	status, said = runDoctor("-acceptors", "4")
	if status != exitOK || strings.Contains(said, "auto is least") != least || strings.Contains(said, "hand-off") == least {
		t.Errorf("exit status %d, BPF can be had: %v:\n%s", status, least, said)
	}
	for _, f := range d.Findings {
		if !strings.Contains(said, f.Name) || !strings.Contains(said, f.Improve) {
			t.Errorf("the text does not have %+v", f)
		}
	}
}

// Root can have all of it tested for another user, who is then named.
func TestDoctorForAnotherUser(t *testing.T) {
	ask := func(args ...string) (status int, said string) {
		cmd := exec.CommandContext(t.Context(), os.Args[0], append([]string{"doctor"}, args...)...)
		cmd.Env = append(os.Environ(), "TEST_SLUICE_MAIN=1", "GORACE=atexit_sleep_ms=0")
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return cmd.ProcessState.ExitCode(), string(out)
	}
	own := fmt.Sprint(os.Geteuid())
	if status, said := ask("-user", own+":"+fmt.Sprint(os.Getegid()), "-acceptors", "3"); status != exitOK || !strings.Contains(said, "\n3  ") {
		t.Errorf("as itself: exit status %d: %s", status, said)
	}
	for wrong, fault := range map[string]string{"no such user": "not in /etc/passwd", "1:x": "want NAME, UID or UID:GID", "-1": "want NAME, UID or UID:GID"} {
		if status, said := ask("-user", wrong); status != exitFault || !strings.Contains(said, fault) {
			t.Errorf("%s: exit status %d: %s", wrong, status, said)
		}
	}
	if os.Geteuid() != 0 {
		if status, said := ask("-user", "root"); status != exitFault || !strings.Contains(said, "only root can") {
			t.Errorf("exit status %d: %s", status, said)
		}
		t.Skip("only root can take another user's place")
	}
	status, said := ask("-user", "65532", "-json")
	var d diagnosis
	if err := json.Unmarshal([]byte(said), &d); status != exitOK || err != nil {
		t.Fatalf("exit status %d, %v: %s", status, err, said)
	}
	for _, f := range d.Findings {
		switch {
		case f.Name == "user" && !strings.Contains(f.Says, "as user 65532, without"):
			t.Errorf("%+v", f)
		case f.Name == "steering" && f.Mark == markOK && steering.Probe().BPF == nil && unprivilegedBPF(t) != "0":
			t.Errorf("%+v", f)
		}
	}
}

// unprivilegedBPF is kernel.unprivileged_bpf_disabled.
func unprivilegedBPF(t *testing.T) string {
	b, err := os.ReadFile("/proc/sys/kernel/unprivileged_bpf_disabled")
	if err != nil {
		t.Logf("%v", err)
	}
	return strings.TrimSpace(string(b))
}

// What chance gives stands in the text as package metrics computes it.
func TestDoctorChances(t *testing.T) {
	for _, test := range []struct {
		args []string
		rows []string
	}{
		{[]string{"-connections", "100", "-acceptors", "4"}, []string{"4 100 0.971 1.29 0.173"}},
		{[]string{"-connections", "1000"}, []string{"4 1000 0.997 1.09 0.055", "16 1000 0.985 1.29 0.122"}},
		{[]string{"-connections", "5", "-acceptors", "1"}, []string{"1 5 1.000 1.00 0.000"}},
	} {
		_, said := runDoctor(test.args...)
		_, table, _ := strings.Cut(said, "coefficient of variation\n")
		var rows []string
		for row := range strings.Lines(table) {
			rows = append(rows, strings.Join(strings.Fields(row), " "))
		}
		if strings.Join(rows, "\n") != strings.Join(test.rows, "\n") {
			t.Errorf("%v: %q, want %q", test.args, rows, test.rows)
		}
	}
	if status, said := runDoctor("-connections", "-1"); status != exitUsage || !strings.Contains(said, "must not be negative") {
		t.Errorf("exit status %d: %s", status, said)
	}
}
