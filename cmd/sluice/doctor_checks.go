package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"sluice/cmd/internal/cgroup"
	"sluice/cmd/internal/config"
	"sluice/listener"
	"sluice/listener/netns"
	"sluice/listener/steering"
)

// checks are what the doctor looks at, in the order of a connection's way. An error
// means that it could not be told.
var checks = []struct {
	name string
	look func(m machine) (finding, error)
}{
	{"kernel", checkKernel},
	{"container", checkContainer},
	{"user", checkUser},
	{"steering", checkSteering},
	{"steering cpu", checkCPUSteering},
	{"migration", checkMigration},
	{"accept queue", checkAcceptQueue},
	{"SYN queue", checkSYNQueue},
	{"queue overflows", checkOverflows},
	{"CPUs", checkCPUs},
	{"CPU quota", checkCPUQuota},
	{"scheduling", checkScheduling},
	{"open files", checkOpenFiles},
	{"source ports", checkSourcePorts},
	{"socket options", checkSocketOptions},
	{"Multipath TCP", checkMultipath},
	{"splice", checkSplice},
	{"pipes", checkPipes},
	{"congestion control", checkCongestionControl},
	{"disk limits", checkDiskLimits},
}

func examine(m machine) (all []finding) {
	for _, c := range checks {
		f, err := c.look(m)
		if err != nil {
			f = finding{Mark: markNote, Says: "could not tell: " + err.Error()}
		}
		f.Name = c.name
		all = append(all, f)
	}
	return all
}

func fine(format string, args ...any) (finding, error) {
	return finding{Mark: markOK, Says: fmt.Sprintf(format, args...)}, nil
}

// better is a finding that a command improves.
func better(m mark, improve, format string, args ...any) (finding, error) {
	return finding{Mark: m, Says: fmt.Sprintf(format, args...), Improve: improve}, nil
}

const newerKernel = "apt full-upgrade   # or any other way to Linux 5.14 or later"

func checkKernel(m machine) (finding, error) {
	release, runs, err := m.kernel(4, 19)
	if err != nil {
		return finding{}, err
	}
	_, steers, err := m.kernel(5, 14)
	switch {
	case err != nil:
		return finding{}, err
	case steers:
		return fine("Linux %s has all that sluice uses", release)
	case runs:
		return better(markNote, newerKernel, "Linux %s: no exact steering and no migration, which are of 5.14", release)
	}
	return better(markPoor, newerKernel, "Linux %s: sluice needs 4.19", release)
}

func checkContainer(m machine) (finding, error) {
	if shows := m.pod(); shows != "" {
		return fine("this is one, of a Kubernetes Pod, by %s", shows)
	}
	if shows := m.container(); shows != "" {
		return fine("this is one, by %s", shows)
	}
	return fine("nothing shows that this is one")
}

func checkSteering(m machine) (finding, error) {
	const handOff = "auto is the kernel's hash with hand-off: at most 2 apart among held connections"
	switch err := m.steering().BPF; {
	case err == nil:
		return fine("auto is least, by BPF: at most 1 apart, and round_robin can be had")
	case errors.Is(err, steering.ErrNotSupported):
		return better(markPoor, newerKernel, "%s (%v)", handOff, err)
	case errors.Is(err, fs.ErrPermission):
		u, unknown := m.user()
		if unknown != nil {
			return finding{}, fmt.Errorf("%s (%w); %w", handOff, err, unknown)
		}
		return better(markPoor, m.allowBPF(u), "%s (%v)%s", handOff, err, m.whyNoBPF(u))
	default:
		return finding{}, fmt.Errorf("%s (%w)", handOff, err)
	}
}

func checkCPUSteering(m machine) (finding, error) {
	switch err := m.steering().CPU; {
	case err == nil:
		return fine("can be had")
	case errors.Is(err, steering.ErrNotSupported):
		return better(markNote, newerKernel, "%v", err)
	default:
		return finding{}, err
	}
}

// checkMigration is about sockets that are closed with connections waiting. Sluice
// closes none but at its end, after it has emptied their queues.
func checkMigration(m machine) (finding, error) {
	const without = "a connection that comes as a socket is closed is reset: a matter of moments, at the end of a drain"
	if _, has, err := m.kernel(5, 14); err != nil {
		return finding{}, err
	} else if !has {
		return better(markNote, newerKernel, "%s", without)
	}
	if m.steering().BPF == nil {
		return fine("by the steering program: connections that wait at a closed socket move to another")
	}
	const key = "net.ipv4.tcp_migrate_req"
	switch on, err := m.sysctl(key, 0); {
	case err != nil:
		return finding{}, err
	case on == 1:
		return fine("%s is 1: connections that wait at a closed socket move to another", key)
	}
	return better(markNote, m.set(key, "1"), "%s is 0: %s", key, without)
}

const somaxconn = "net.core.somaxconn"

func checkAcceptQueue(m machine) (finding, error) {
	const shipped = 4096 // since Linux 5.4; before, 128
	limit, err := m.sysctl(somaxconn, 0)
	switch {
	case err != nil:
		return finding{}, err
	case limit >= shipped:
		return fine("%d connections can wait at each acceptor", limit)
	case limit >= shipped/4:
		return better(markNote, m.set(somaxconn, fmt.Sprint(shipped)), "%d connections can wait at each acceptor", limit)
	}
	return better(markPoor, m.set(somaxconn, fmt.Sprint(shipped)), "only %d connections can wait at each acceptor: a burst overflows", limit)
}

func checkSYNQueue(m machine) (finding, error) {
	const cookies, enough = "net.ipv4.tcp_syncookies", 1024
	limit, err := m.sysctl("net.ipv4.tcp_max_syn_backlog", 0)
	if err != nil {
		return finding{}, err
	}
	switch on, err := m.sysctl(cookies, 0); {
	case err != nil:
		return finding{}, err
	case on > 0:
		return fine("%d handshakes at a time, and SYN cookies for more", limit)
	case limit >= enough:
		return fine("%d handshakes at a time; SYN cookies are off", limit)
	}
	return better(markPoor, m.set(cookies, "1"), "only %d handshakes at a time, and SYN cookies are off: a flood shuts clients out", limit)
}

func checkOverflows(m machine) (finding, error) {
	n, err := m.netns()
	switch {
	case err != nil:
		return finding{}, err
	case n.ListenOverflows == 0:
		return fine("none since this network namespace was made; %d connections dropped for other reasons", n.ListenDrops)
	}
	limit, err := m.sysctl(somaxconn, 0)
	if err != nil {
		return finding{}, err
	}
	return better(markNote, m.set(somaxconn, fmt.Sprint(2*limit)),
		"%d connections found an accept queue full since this network namespace was made, %d were dropped in all, of any program", n.ListenOverflows, n.ListenDrops)
}

func checkCPUs(m machine) (finding, error) {
	cpus := m.cpus()
	acceptors := config.AutoAcceptors(cpus, m.read)
	if acceptors == 1 {
		return better(markNote, "sluice run --acceptors 2 ...", "%d may be used, and auto makes 1 acceptor: there is nothing to balance, and nobody to take the place of one that hangs", cpus)
	}
	return fine("%d may be used: auto makes %d acceptors", cpus, acceptors)
}

func checkCPUQuota(m machine) (finding, error) {
	quota, err := cgroup.CPUQuota(m.read)
	switch {
	case err != nil:
		return finding{}, err
	case quota == 0:
		return fine("none")
	}
	return better(markNote, m.give(advice{docker: "--cpus 0", pod: "resources: {limits: {cpu: null}}", plain: "systemctl set-property sluice.service CPUQuota="}),
		"%.2f CPUs: when they are used up, all acceptors stand still until the next period", quota)
}

func checkScheduling(m machine) (finding, error) {
	if config.AutoBatch(m.read) {
		return fine("auto is batch: waking a busy acceptor interrupts nothing")
	}
	return fine("auto is normal: before Linux 6.6 a batch is late beside programs that compute")
}

func checkOpenFiles(m machine) (finding, error) {
	const (
		perSession = 2
		much       = 1 << 20
		enough     = 1 << 16
		little     = 1 << 12
	)
	limit, err := m.openFiles()
	if err != nil {
		return finding{}, err
	}
	// As much as an eighth is for pipes.
	says := fmt.Sprintf("%d for each process: about %d sessions", limit, limit/8*7/perSession)
	grant := m.give(advice{
		docker: fmt.Sprintf("--ulimit nofile=%d:%[1]d", much), pod: fmt.Sprintf("systemctl edit containerd   # on the node: LimitNOFILE=%d", much),
		plain: fmt.Sprintf("ulimit -n %d   # as root, before sluice; LimitNOFILE= of a unit", much),
	})
	switch {
	case limit >= enough:
		return fine("%s", says)
	case limit >= little:
		return better(markNote, grant, "%s", says)
	}
	return better(markPoor, grant, "%s", says)
}

func checkSourcePorts(m machine) (finding, error) {
	const key, shipped = "net.ipv4.ip_local_port_range", 60999 - 32768 + 1
	low, err := m.sysctl(key, 0)
	if err != nil {
		return finding{}, err
	}
	high, err := m.sysctl(key, 1)
	if err != nil {
		return finding{}, err
	}
	n := high - low + 1
	if n >= shipped {
		return fine("%d: as many sessions with each address of a backend", n)
	}
	return better(markPoor, m.set(key, `"10240 65535"`), "only %d: as many sessions with each address of a backend, those that ended within a minute included", n)
}

// checkSocketOptions is about those that take a right.
func checkSocketOptions(m machine) (finding, error) {
	refused := m.refused()
	if len(refused) == 0 {
		return fine("mark, transparent and netns can be had")
	}
	return better(markNote, m.give(advice{
		docker: "--user 0 --cap-add NET_ADMIN --cap-add SYS_ADMIN", pod: "securityContext: {runAsUser: 0, runAsNonRoot: false, capabilities: {add: [NET_ADMIN, SYS_ADMIN]}}",
		plain: "systemctl edit sluice   # AmbientCapabilities=CAP_NET_ADMIN CAP_SYS_ADMIN",
	}), "a configuration with these does not start: %s", strings.ReplaceAll(errors.Join(refused...).Error(), "\n", "; "))
}

// refusedOptions are the socket options of a configuration that take a right which this user lacks.
func refusedOptions() []error {
	refused := listener.Extras{Mark: 1, Transparent: true}.Refused()
	if err := netns.Within("/proc/self/ns/net", func() error { return nil }); err != nil {
		refused = append(refused, fmt.Errorf("netns: %w", err))
	}
	return refused
}

func checkMultipath(m machine) (finding, error) {
	if err := m.mptcp(); err != nil {
		return better(markNote, m.set("net.mptcp.enabled", "1"), "not to be had (%v): listeners with mptcp do not start, and pools with it make plain connections", err)
	}
	return fine("can be had")
}

// checkSplice is about sandboxes: without splice(2) all bytes are copied.
func checkSplice(m machine) (finding, error) {
	if err := m.splice(); err != nil {
		return better(markNote, m.give(advice{
			docker: "--security-opt seccomp=PROFILE", pod: "securityContext: {seccompProfile: {type: Localhost, localhostProfile: PROFILE}}",
			plain: "systemctl edit sluice   # SystemCallFilter= must let splice be",
		}),
			"not to be had (%v): streams are copied, which costs more CPU and nothing else", err)
	}
	return fine("streams are moved inside the kernel")
}

// checkPipes is about splice(2): a half that streams borrows a pipe of 1 MiB. Above
// fs.pipe-user-pages-soft the kernel gives a user pipes that are too small to splice.
func checkPipes(m machine) (finding, error) {
	const (
		wanted, least = 1 << 20, 64 << 10 // as in package proxy
		page          = 4096
	)
	lifted, err := m.capable(capSysResource, capSysAdmin)
	if err != nil {
		return finding{}, err
	}
	if lifted {
		return fine("of 1 MiB, as many as are wanted: the limits are not for this user")
	}
	size, err := m.sysctl("fs.pipe-max-size", 0)
	if err != nil {
		return finding{}, err
	}
	soft, err := m.sysctl("fs.pipe-user-pages-soft", 0)
	switch {
	case err != nil:
		return finding{}, err
	case size < least:
		return better(markPoor, "sysctl -w fs.pipe-max-size=1048576", "of %d bytes: too small to splice, all is copied", size)
	case size < wanted:
		return better(markNote, "sysctl -w fs.pipe-max-size=1048576", "of %d bytes: streams cost more with pipes below 1 MiB", size)
	case soft == 0:
		return fine("of 1 MiB, as many as are wanted")
	}
	const lift = "sysctl -w fs.pipe-user-pages-soft=0"
	a := advice{docker: "--cap-add SYS_RESOURCE", pod: "securityContext: {capabilities: {add: [SYS_RESOURCE]}}", plain: lift}
	if u, err := m.user(); err != nil || u.id != 0 || !u.initial { // an added capability is root's alone
		a = advice{plain: lift}
	}
	return better(markNote, m.give(a),
		"%d of 1 MiB for all processes of this user; streams beyond these are copied", soft*page/wanted)
}

// checkCongestionControl is about pacing. BBR arms a timer for each segment, which on
// loopback, where there is nothing to congest, is most of the cost: sluice-bench measured
// 0.42 s of CPU per GB with it and 0.15 with reno.
func checkCongestionControl(m machine) (finding, error) {
	words, err := m.fields("/proc/sys/net/ipv4/tcp_congestion_control")
	if err != nil {
		return finding{}, err
	}
	name := strings.Join(words, " ")
	if !strings.HasPrefix(name, "bbr") {
		return fine("%s", name)
	}
	return better(markNote, m.give(advice{docker: "--sysctl net.ipv4.tcp_congestion_control=reno", pod: m.set("net.ipv4.tcp_congestion_control", "reno"), plain: "sysctl -w net.ipv4.tcp_congestion_control=cubic"}),
		"%s paces on loopback too: streams between programs of this machine cost about three times the CPU", name)
}

// checkDiskLimits is for those who look for the cause of a slow session: it is not here.
func checkDiskLimits(m machine) (finding, error) {
	limits, err := m.ioLimits()
	switch {
	case err != nil:
		return finding{}, err
	case limits == "":
		return fine("none")
	}
	return fine("%s: sluice writes nothing but its log, and no session waits for that", limits)
}
