package steering

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"sluice/listener"
)

// BenchmarkAttach is what a listener's steering costs as it begins: its rows, and the
// program with the maps of its group.
func BenchmarkAttach(b *testing.B) {
	for _, policy := range []Policy{Least, Hash} {
		for _, sockets := range []int{1, 16} {
			b.Run(fmt.Sprint(policy, " ", sockets), func(b *testing.B) {
				g, err := listener.Open(listener.Options{Address: "127.0.0.1:0", Seats: seats(sockets)})
				if err != nil {
					b.Fatal(err)
				}
				defer g.Close()
				if err := g.Listen(); err != nil {
					b.Fatal(err)
				}
				began := cpuTime(b)
				for b.Loop() {
					rows, err := NewRows()
					if err != nil {
						b.Fatal(err)
					}
					s := Attach(Options{Sockets: socketsOf(g), Order: g.Order, Rows: rows, Policy: policy})
					if info := s.Info(); info.Effective != policy {
						b.Fatalf("%+v", info)
					}
					b.StopTimer()
					if err := s.Close(); err != nil {
						b.Fatal(err)
					}
					if err := rows.Close(); err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
				}
				b.ReportMetric(float64(cpuTime(b)-began)/1e3/float64(b.N), "CPU-µs/op")
			})
		}
	}
}

func cpuTime(b *testing.B) int64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// The verifier's work is what a listener's steering costs as it begins. With CAP_BPF
// alone it walks wrong guesses of the CPU as well, and gives up at a million.
func TestVerifierHasLittleToDo(t *testing.T) {
	needBPF(t)
	for _, all := range []bool{true, false} {
		t.Run(fmt.Sprint("all capabilities ", all), func(t *testing.T) {
			if !all {
				needRoot(t)
				keepOnly(t, 1<<unix.CAP_BPF)
			}
			for _, policy := range programs {
				p, err := load(newRows(t), policy)
				if err != nil {
					t.Fatal(err)
				}
				defer p.close()
				info, err := p.all.Programs[nameProgram].Info()
				if err != nil {
					t.Fatal(err)
				}
				const most = 10_000 // 3,100 on Linux 6.18
				n, told := info.VerifiedInstructions()
				if !told {
					t.Skip("this kernel does not tell")
				}
				if n > most {
					t.Errorf("%s: %d instructions walked, want at most %d", policy, n, most)
				}
				t.Logf("%s: %d instructions walked", policy, n)
			}
		})
	}
}
