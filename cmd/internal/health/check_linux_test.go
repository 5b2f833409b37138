package health

import (
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"sluice/cmd/internal/config"
)

// BenchmarkCheck is what a check by TCP costs of CPU time, of a server in another process.
// 1,000 backends every 2 s are 500 of them a second.
func BenchmarkCheck(b *testing.B) {
	const child = "TEST_ACCEPTS"
	if os.Getenv(child) != "" {
		accepts(b)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	socket, err := ln.(*net.TCPListener).File()
	if err != nil {
		b.Fatal(err)
	}
	defer socket.Close()
	server := exec.Command(os.Args[0], "-test.run=^$", "-test.bench=^BenchmarkCheck$")
	server.Env, server.ExtraFiles = append(os.Environ(), child+"=1"), []*os.File{socket}
	server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := server.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	}()
	p := config.DefaultPool("app")
	p.Health.Check, p.Health.Timeout = config.CheckTCP, time.Second
	c := newCheck(p, nil, (*exec.Cmd).Run)
	addr := ln.Addr().String()
	const together = 5 // are due at a wake-up
	var running sync.WaitGroup
	ctx, stop := context.WithCancel(context.Background())
	defer running.Wait()
	defer stop()
	conns, to := newConnects(ctx, &running), netip.MustParseAddrPort(addr)
	var before, after syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	b.ReportAllocs()
	for range b.N / together {
		var all []*connect
		var found sync.WaitGroup
		for range together {
			found.Add(1)
			all = append(all, &connect{check: c, to: to, done: func(_ time.Time, err error) {
				if err != nil {
					b.Error(err)
				}
				found.Done()
			}})
		}
		conns.begin(all)
		found.Wait()
	}
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	spent := after.Utime.Nano() - before.Utime.Nano() + after.Stime.Nano() - before.Stime.Nano()
	b.ReportMetric(float64(spent)/1e3/float64(b.N), "cpu-us/op")
}

// accepts is the server: it takes what comes to the socket that it was given.
func accepts(b *testing.B) {
	ln, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		b.Fatal(err)
	}
	for {
		c, err := ln.Accept()
		if err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
}
