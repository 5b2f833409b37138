package steering

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Both include paths may be given: the one that is not there is passed over.
//go:generate clang-14 -O2 -g -Wall -Werror -target bpfel -mcpu=v3 -fdebug-compilation-dir=. -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu -c select.bpf.c -o select_bpf.o
//go:generate llvm-strip-14 -g select_bpf.o

//go:embed select_bpf.o
var object []byte

// The names in select.bpf.c.
const (
	nameProgram   = "select_acceptor"
	nameRows      = "rows"
	nameSockets   = "sockets"
	nameSteeredTo = "steered_to"
	nameRoundNow  = "round_now"
	namePolicy    = "policy"
)

// program is select.bpf.c in the kernel, with the maps of one group.
type program struct {
	all *ebpf.Collection
}

// parsed is the object as the library reads it: once, since that takes it a
// millisecond.
var parsed = sync.OnceValues(func() (*ebpf.CollectionSpec, error) {
	return ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
})

// spec returns a copy, because loading writes into what it loads.
func spec() (*ebpf.CollectionSpec, error) {
	s, err := parsed()
	if err != nil {
		return nil, fmt.Errorf("read the program: %w", err)
	}
	return s.Copy(), nil
}

// newRowsMap creates the map of rows and returns a descriptor for it.
func newRowsMap() (int, error) {
	s, err := spec()
	if err != nil {
		return -1, err
	}
	m, err := ebpf.NewMap(s.Maps[nameRows])
	if err != nil {
		return -1, explain(err)
	}
	defer m.Close()
	return unix.FcntlInt(uintptr(m.FD()), unix.F_DUPFD_CLOEXEC, 0)
}

// load puts the program into the kernel. It steers nothing before attach.
func load(rows *Rows, policy Policy) (program, error) {
	if rows.noBPF != nil {
		return program{}, rows.noBPF
	}
	s, err := spec()
	if err != nil {
		return program{}, err
	}
	policies := map[Policy]uint32{Least: 0, RoundRobin: 1} // as in select.bpf.c
	if err := s.Variables[namePolicy].Set(policies[policy]); err != nil {
		return program{}, fmt.Errorf("set up the program: %w", err)
	}
	if err := s.Variables[nameRoundNow].Set(uint64(MaxAcceptors)); err != nil { // rows begin below it
		return program{}, fmt.Errorf("set up the program: %w", err)
	}
	fd, err := unix.FcntlInt(uintptr(rows.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return program{}, fmt.Errorf("dup rows: %w", err)
	}
	m, err := ebpf.NewMapFromFD(fd) // owns fd, also when it fails
	if err != nil {
		return program{}, fmt.Errorf("rows are not a BPF map: %w", explain(err))
	}
	defer m.Close()
	all, err := ebpf.NewCollectionWithOptions(s, ebpf.CollectionOptions{
		MapReplacements: map[string]*ebpf.Map{nameRows: m},
	})
	if err != nil {
		return program{}, explain(err)
	}
	return program{all}, nil
}

// place makes fd the socket of a seat. It is steered to once steerTo names it. One that
// is there already stays: a seat that is called back has never left the map, and the
// kernel takes a socket twice for a fault.
func (p program) place(seat, fd int) error {
	if p.has(seat, fd) {
		return nil
	}
	err := p.all.Maps[nameSockets].Put(uint32(seat), uint64(fd))
	// A socket can be in one such map. The kernel frees that of a program just
	// detached in its own time, which is some milliseconds.
	for tries := 0; errors.Is(err, unix.EBUSY) && tries < 100; tries++ {
		time.Sleep(10 * time.Millisecond)
		err = p.all.Maps[nameSockets].Put(uint32(seat), uint64(fd))
	}
	if err != nil {
		return fmt.Errorf("place the socket of seat %d: %w", seat, err)
	}
	return nil
}

// has says whether fd is the socket of a seat: the map shows sockets by their cookies.
func (p program) has(seat, fd int) bool {
	var there uint64
	if p.all.Maps[nameSockets].Lookup(uint32(seat), &there) != nil {
		return false
	}
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	return err == nil && cookie == there
}

// remove forgets a seat's socket. Most often the kernel has, when it closed.
func (p program) remove(seat int) error {
	err := p.all.Maps[nameSockets].Delete(uint32(seat))
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("remove the socket of seat %d: %w", seat, err)
	}
	return nil
}

// steerTo names the seats that the program chooses among.
func (p program) steerTo(seats []int) error {
	var bits uint64
	for _, seat := range seats {
		bits |= 1 << seat
	}
	return p.all.Variables[nameSteeredTo].Set(bits)
}

// attach puts the program in charge of fd's group.
func (p program) attach(fd int) error {
	prog := p.all.Programs[nameProgram]
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_EBPF, prog.FD()); err != nil {
		return fmt.Errorf("SO_ATTACH_REUSEPORT_EBPF: %w", err)
	}
	return nil
}

// close empties the map of sockets, so that the next program can have them, and
// gives the descriptors back.
func (p program) close() {
	for i := range uint32(MaxAcceptors) {
		p.all.Maps[nameSockets].Delete(i) // most are empty, which is an error
	}
	p.all.Close()
}

// explain says what a refusal by bpf(2) means.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("bpf: %w: it needs CAP_BPF, and a container that lets bpf(2) through", unix.EPERM)
	case errors.Is(err, ebpf.ErrNotSupported), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EINVAL):
		return fmt.Errorf("%w (5.14 has it): %w", ErrNotSupported, err)
	}
	return err
}
