package main

import (
	"fmt"
	"strings"
)

// Advice is a command or a setting that works for the very user that was looked at, where
// sluice runs: on a machine, in a container, in a Pod.

// The words of evidence that this is a container.
var containerWords = []string{"docker", "kubepods", "containerd", "libpod", "containers/storage", "lxc"}

// container names what shows that this is one; "" = nothing does.
func (m machine) container() string {
	if shows := m.pod(); shows != "" {
		return shows
	}
	for _, file := range []string{"/.dockerenv", "/run/.containerenv"} {
		if _, err := m.read(file); err == nil {
			return file
		}
	}
	for _, place := range []struct{ file, text string }{
		{"/proc/self/cgroup", m.text("/proc/self/cgroup")}, // with version 2 it mostly says "/" there
		{"/proc/self/mountinfo", m.root()},
	} {
		for _, word := range containerWords {
			if strings.Contains(place.text, word) {
				return word + " in " + place.file
			}
		}
	}
	return ""
}

// pod names what shows that the container is one of a Kubernetes Pod; "" = nothing does.
func (m machine) pod() string {
	for _, sign := range []struct{ file, text, word string }{
		{"/proc/self/cgroup", m.text("/proc/self/cgroup"), "kubepods"},
		{"/etc/hosts", m.text("/etc/hosts"), "Kubernetes-managed hosts file"},
		{"/proc/self/environ", "\x00" + m.text("/proc/self/environ"), "\x00KUBERNETES_SERVICE_HOST="},
	} {
		if strings.Contains(sign.text, sign.word) {
			return strings.Trim(sign.word, "\x00=") + " in " + sign.file
		}
	}
	return ""
}

// text is a file's; "" = it can't be read, and shows nothing.
func (m machine) text(path string) string {
	b, _ := m.read(path)
	return string(b)
}

// root is the mount that this process has as its root.
func (m machine) root() string {
	const mountPoint = 4
	for line := range strings.Lines(m.text("/proc/self/mountinfo")) {
		if words := strings.Fields(line); len(words) > mountPoint && words[mountPoint] == "/" {
			return line
		}
	}
	return ""
}

// advice says the same for each place.
type advice struct {
	docker string // options of "docker run"
	pod    string // of a Pod or one of its containers
	plain  string // a command
}

// give is the one of them for this place.
func (m machine) give(a advice) string {
	switch {
	case m.pod() != "" && a.pod != "":
		return a.pod
	case m.container() != "" && a.docker != "":
		return "docker run " + a.docker + " ..."
	}
	return a.plain
}

// set sets a sysctl of the network namespace.
func (m machine) set(key, value string) string {
	return m.give(advice{
		docker: fmt.Sprintf("--sysctl %s=%s", key, value),
		pod:    fmt.Sprintf("securityContext: {sysctls: [{name: %s, value: %q}]}   # of the Pod; the node's kubelet must allow it", key, strings.Trim(value, `"`)),
		plain:  fmt.Sprintf("sysctl -w %s=%s", key, value),
	})
}

// allowBPF lets this user load BPF programs. "" = nothing does here.
//
// Container engines put an added capability into the bounding set, and make it effective
// for root only; they have no ambient capabilities. So another user gets it from a file
// capability, which no_new_privs in turn takes away.
func (m machine) allowBPF(u subject) string {
	const file, ambient = "setcap cap_bpf+ep $(command -v sluice)", "systemctl edit sluice   # AmbientCapabilities=CAP_BPF"
	a := advice{docker: "--user 0 --cap-drop ALL --cap-add BPF", pod: "securityContext: {runAsUser: 0, runAsNonRoot: false, capabilities: {drop: [ALL], add: [BPF]}}", plain: file}
	switch {
	case !u.initial: // the kernel asks for CAP_BPF in the initial user namespace
		return ""
	case u.has(capBPF): // something else denies it
		a = advice{
			docker: "--security-opt seccomp=PROFILE", pod: "securityContext: {seccompProfile: {type: Localhost, localhostProfile: PROFILE}}",
			plain: "systemctl edit sluice   # SystemCallFilter= must let bpf be",
		}
	case u.id == 0:
		a.docker, a.pod = "--cap-add BPF", "securityContext: {capabilities: {add: [BPF]}}"
		a.plain = "systemctl edit sluice   # CapabilityBoundingSet= must let CAP_BPF be"
	case u.noNew:
		a.plain = ambient // a file's are ignored
	}
	return m.give(a)
}

// whyNoBPF says more of why this user can load none; "" = nothing is known.
func (m machine) whyNoBPF(u subject) string {
	switch {
	case !u.initial:
		return "; no user of this user namespace can load BPF"
	case u.has(capBPF):
		return "; it has CAP_BPF, so a filter of system calls or a security module denies it"
	case m.container() != "" && u.id != 0 && u.bounded(capBPF):
		return "; CAP_BPF was added, which alone helps root only"
	}
	return ""
}
