package main

import (
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The CPU clock must agree with what getrusage says of the same work.
func TestCPUUsed(t *testing.T) {
	self := os.Getpid()
	usage := func() time.Duration {
		var u unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	outer := usage()
	before, err := cpuUsed(self)
	if err != nil {
		t.Fatal(err)
	}
	inner := usage()
	for usage() < inner+50*time.Millisecond {
	}
	least := usage() - inner
	after, err := cpuUsed(self)
	if err != nil {
		t.Fatal(err)
	}
	most := usage() - outer
	got := after[self] - before[self]
	const rounding = 10 * time.Millisecond // of getrusage, which scales ticks
	if got < least-rounding || got > most+rounding {
		t.Errorf("measured %v, getrusage says between %v and %v", got, least, most)
	}
}

func TestCPUBetween(t *testing.T) {
	before := map[int]time.Duration{1: 10, 2: 20}
	if got, err := cpuBetween(before, map[int]time.Duration{1: 15, 2: 20, 3: 7}); err != nil || got != 12 {
		t.Errorf("got %d, %v, want 12: a new process counts from 0", got, err)
	}
	if _, err := cpuBetween(before, map[int]time.Duration{1: 15}); err == nil {
		t.Error("a process ended and its CPU was taken as none")
	}
}

func TestUserMemory(t *testing.T) {
	before, err := userMemory(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	const size = 32 << 20
	m, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(m)
	for i := 0; i < size; i += 4096 {
		m[i] = 1
	}
	after, err := userMemory(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	const other = 4 << 20 // what the test itself may use meanwhile
	if grown := after - before; grown < size-other || grown > size+other {
		t.Errorf("grew by %d bytes, want about %d", grown, size)
	}
}

func TestEstablishedSockets(t *testing.T) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	at := listener.Addr().(*net.TCPAddr).AddrPort()
	for n := 1; n <= 3; n++ {
		client, err := net.Dial("tcp4", at.String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		server, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		inodes, err := establishedAt(at)
		if err != nil {
			t.Fatal(err)
		}
		held, err := socketsOf(os.Getpid(), inodes)
		if err != nil {
			t.Fatal(err)
		}
		if len(inodes) != n || held != n { // the client's ends and the listener are not among them
			t.Fatalf("%d sockets, %d of this process, want %d", len(inodes), held, n)
		}
	}
}

// stop must leave none of a tree of processes, neither those that ignore SIGTERM nor those that lost their parent.
func TestStopEndsTheTree(t *testing.T) {
	deadline(t, 30*time.Second)
	if err := adoptOrphans(); err != nil {
		t.Fatal(err)
	}
	c, err := startProgram(program{path: "/bin/sh", args: []string{"-c", `
		sh -c 'trap "" TERM; sleep 1000 & wait; sleep 1000' &
		sh -c 'sleep 1000 & wait' &
		echo ready
		wait`}})
	if err != nil {
		t.Fatal(err)
	}
	var tree []procStat
	for len(tree) < 5 { // three shells and two that sleep
		if tree, err = processTree(c.pid()); err != nil {
			t.Fatal(err)
		}
	}
	c.stop()
	for _, p := range tree {
		if now, err := readStat(p.Pid); err == nil && now.Start == p.Start {
			t.Errorf("process %d is still there: %+v", p.Pid, now)
		}
	}
}

func TestFreeze(t *testing.T) {
	deadline(t, 30*time.Second)
	c, err := startProgram(program{path: "/bin/sh", args: []string{"-c", "while :; do :; done"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.stop()
	awaitState := func(want string) {
		t.Helper()
		for {
			s, err := readStat(c.pid())
			if err != nil {
				t.Fatal(err)
			}
			if strings.ContainsRune(want, rune(s.State)) {
				return
			}
		}
	}
	thaw, err := freezeProcess(c.pid())
	if err != nil {
		t.Fatal(err)
	}
	awaitState("T")
	thaw()
	awaitState("RS")
}

// A peer in batch scheduling is scheduled so.
func TestInBatches(t *testing.T) {
	deadline(t, 30*time.Second)
	sh := proxy{command: func(setting) program { return program{path: "/bin/sh", args: []string{"-c", "read line"}} }}
	c, err := startProgram(inBatches(sh).command(setting{}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.stop()
	for {
		attr, err := unix.SchedGetAttr(c.pid(), 0)
		if err != nil {
			t.Fatal(err)
		}
		if attr.Policy == unix.SCHED_BATCH {
			return
		}
	}
}

func TestParseSockstat(t *testing.T) {
	got, err := parseSockstat("sockets: used 120\nTCP: inuse 5 orphan 0 tw 0 alloc 7 mem 3\nUDP: inuse 1 mem 9\n")
	if err != nil || got != 3*int64(os.Getpagesize()) {
		t.Errorf("%d, %v", got, err)
	}
	if _, err := parseSockstat("UDP: inuse 1 mem 9\n"); err == nil {
		t.Error("no TCP, and no error")
	}
}
