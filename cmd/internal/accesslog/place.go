package accesslog

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// Stdout is the place that is open already.
const Stdout = "stdout"

// place is where lines go. Write is called by one goroutine, with whole lines, and may
// take as long as it likes. After close it fails, and one that is under way ends, unless
// it is standard output.
type place interface {
	io.Writer
	reopen() error // a file only
	close()
	dropped() uint64 // lines that it let fall by itself
}

// CheckPlace says whether text names a place: "stdout", an absolute path, or
// "syslog:udp:HOST:PORT", "syslog:tcp:HOST:PORT", "syslog:unix:PATH".
func CheckPlace(text string) error {
	if text == Stdout || filepath.IsAbs(text) {
		return nil
	}
	network, address, is := cutSyslog(text)
	switch {
	case !is:
		return errors.New(`neither "stdout", nor an absolute path, nor "syslog:..."`)
	case network == "unix" && filepath.IsAbs(address):
		return nil
	case network == "udp" || network == "tcp":
		host, port, err := net.SplitHostPort(address)
		if n, bad := strconv.ParseUint(port, 10, 16); err == nil && bad == nil && n > 0 && host != "" {
			return nil
		}
	}
	return errors.New(`after "syslog:" comes udp:HOST:PORT, tcp:HOST:PORT or unix:PATH`)
}

func cutSyslog(text string) (network, address string, is bool) {
	rest, is := strings.CutPrefix(text, "syslog:")
	network, address, _ = strings.Cut(rest, ":")
	return network, address, is
}

func openPlace(text string, stdout io.Writer) (place, error) {
	if err := CheckPlace(text); err != nil {
		return nil, fmt.Errorf("access log %q: %w", text, err)
	}
	if text == Stdout {
		return &stream{w: stdout}, nil
	}
	if network, address, is := cutSyslog(text); is {
		return newSyslog(network, address), nil
	}
	f, err := openFile(text)
	if err != nil {
		return nil, fmt.Errorf("access log: %w", err)
	}
	return &file{path: text, f: f}, nil
}

// whole keeps a line that was cut short by an error from growing into the next one.
type whole struct{ torn bool }

func (t *whole) write(w io.Writer, lines []byte) (int, error) {
	if t.torn {
		if _, err := w.Write([]byte{'\n'}); err != nil {
			return 0, err
		}
		t.torn = false
	}
	n, err := w.Write(lines)
	if err != nil && !errors.Is(err, syscall.EAGAIN) && n > 0 { // after EAGAIN the rest follows
		t.torn = lines[n-1] != '\n'
	}
	return n, err
}

// stream is standard output.
type stream struct {
	w io.Writer
	whole
}

func (s *stream) Write(lines []byte) (int, error) { return s.write(s.w, lines) }
func (s *stream) reopen() error                   { return nil }
func (s *stream) close()                          {}
func (s *stream) dropped() uint64                 { return 0 }

// file is a file that is appended to, or a FIFO.
type file struct {
	path string

	mu sync.Mutex // held while f is written to, or replaced
	whole

	swap   sync.Mutex // guards f and closed; never held while anything waits
	f      *os.File
	closed bool
}

// openFile opens a path to append to. A FIFO without a reader is an error, and one whose
// reader has stopped can be closed in the middle of a write.
func openFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0o640)
}

func (p *file) Write(lines []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.swap.Lock()
	f := p.f
	p.swap.Unlock()
	return p.write(f, lines)
}

// reopen goes over to the file that has the path now. It waits for a write under way;
// lines that wait go into the new one.
func (p *file) reopen() error {
	f, err := openFile(p.path)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.swap.Lock()
	defer p.swap.Unlock()
	if p.closed {
		return f.Close()
	}
	old := p.f
	p.f, p.torn = f, false
	return old.Close()
}

func (p *file) close() {
	p.swap.Lock()
	defer p.swap.Unlock()
	p.closed = true
	_ = p.f.Close() // all that was written is the kernel's
}

func (p *file) dropped() uint64 { return 0 }
