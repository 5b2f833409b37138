package main

import (
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
)

// How many sessions each acceptor holds: asked of each proxy in its own way. An acceptor without sessions counts with 0.

// sluiceSpread reads the gauge of sluice's metrics.
func sluiceSpread(r *rig) ([]int, error) {
	text, err := metricsOf(r.setting.admin)
	if err != nil {
		return nil, err
	}
	return parseSluiceGauge(string(text), r.setting.acceptors)
}

func parseSluiceGauge(text string, acceptors int) ([]int, error) {
	const gauge = "sluice_acceptor_active_connections"
	var held []int
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "} ")
		if !strings.HasPrefix(name, gauge+"{") {
			continue
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return nil, fmt.Errorf("metric %s: %w", name, err)
		}
		held = append(held, int(n))
	}
	if len(held) != acceptors {
		return nil, fmt.Errorf("%d series of %s, want one for each of %d acceptors", len(held), gauge, acceptors)
	}
	return held, nil
}

// haproxySpread asks the stats socket which thread each accepted connection belongs to.
func haproxySpread(r *rig) ([]int, error) {
	c, err := net.Dial("unix", haproxySocket(r.setting))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if _, err := io.WriteString(c, "show fd\n"); err != nil {
		return nil, fmt.Errorf("ask haproxy: %w", err)
	}
	text, err := io.ReadAll(c)
	if err != nil {
		return nil, fmt.Errorf("ask haproxy: %w", err)
	}
	return parseHaproxyThreads(string(text), int(r.setting.front.Port()), r.setting.acceptors), nil
}

var haproxyThread = regexp.MustCompile(`gid=(\d+) tmask=(0x[0-9a-f]+)`)

// parseHaproxyThreads counts the front connections (back=0, on our port) by thread group and thread mask.
func parseHaproxyThreads(text string, port, threads int) []int {
	held := map[string]int{}
	for line := range strings.Lines(text) {
		if m := haproxyThread.FindString(line); m != "" && strings.Contains(line, " back=0 ") && strings.Contains(line, fmt.Sprintf(" lport=%d ", port)) {
			held[m]++
		}
	}
	counts := make([]int, 0, threads)
	for _, n := range held {
		counts = append(counts, n)
	}
	for len(counts) < threads {
		counts = append(counts, 0)
	}
	return counts
}

// nginxSpread counts the front sockets that each worker process has open.
func nginxSpread(r *rig) ([]int, error) {
	inodes, err := establishedAt(r.setting.front)
	if err != nil {
		return nil, err
	}
	workers, err := r.workers()
	if err != nil {
		return nil, err
	}
	counts := make([]int, len(workers))
	for i, pid := range workers {
		if counts[i], err = socketsOf(pid, inodes); err != nil {
			return nil, err
		}
	}
	return counts, nil
}
