package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"sluice/cmd/internal/admin"
	"sluice/metrics"
)

// top shows a running sluice in a terminal, as the page does in a browser, until q. Only
// lines that have changed are written, so that it is quick over a slow link.
//
//	socket ─► /status.json each interval ─► screen: what to show, of which, in which order ─► lines ─► terminal
//	keys, new sizes ─────────────────────────┘
func top(e env, args []string) int {
	a := newAsking("sluice top", 10*time.Second)
	interval := a.Duration("interval", 2*time.Second, "`DURATION` from one look to the next")
	var s screen
	a.StringVar(&s.listener, "listener", "", "`NAME` of the listener to show; else all")
	a.StringVar(&s.pool, "pool", "", "`NAME` of the pool to show; else all")
	if status := parse(e, a.FlagSet, args); status >= 0 {
		return status
	}
	out, isFile := e.stdout.(*os.File)
	if !isFile || !term.IsTerminal(int(out.Fd())) || !term.IsTerminal(int(os.Stdin.Fd())) {
		fmt.Fprintln(e.stderr, "sluice top: needs a terminal; sluice status shows the same once")
		return exitFault
	}
	path, err := socketPath(*a.socket, a.flags, e.vars)
	if err == nil {
		ask := func() (metrics.Snapshot, error) { return lookAt(path, *a.timeout) }
		err = s.run(out, max(*interval, 100*time.Millisecond), ask, e.signals)
	}
	if err != nil {
		fmt.Fprintln(e.stderr, "sluice top:", err)
		return exitFault
	}
	return exitOK
}

func lookAt(path string, timeout time.Duration) (s metrics.Snapshot, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	text, err := admin.NewClient(path).Status(ctx)
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(text, &s)
}

// look is what one look has found.
type look struct {
	snapshot metrics.Snapshot
	err      error
}

// run shows the screen until q or a signal. A first look that fails is an error: there is
// nothing to show. A later one is shown, and the next may succeed: sluice may have been
// started anew.
func (s *screen) run(out *os.File, interval time.Duration, ask func() (metrics.Snapshot, error), signals <-chan os.Signal) error {
	first, err := ask()
	if err != nil {
		return err
	}
	s.put(first)
	before, err := term.MakeRaw(int(os.Stdin.Fd()))
	if err != nil {
		return fmt.Errorf("the terminal takes no single keys: %w", err)
	}
	defer term.Restore(int(os.Stdin.Fd()), before)
	p := painter{out: out}
	p.begin()
	defer p.end()

	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	defer signal.Stop(resized)
	keys := make(chan string)
	go readKeys(os.Stdin, keys)
	looks := make(chan look, 1)
	next := time.NewTimer(interval)
	for {
		width, height, err := term.GetSize(int(out.Fd()))
		if err != nil || width <= 0 || height <= 0 {
			width, height = 80, 24
		}
		if err := p.paint(s.lines(width, height), width, height); err != nil {
			return fmt.Errorf("the terminal has gone: %w", err)
		}
		select {
		case <-signals:
			return nil
		case <-resized:
			p.forget()
		case key, open := <-keys:
			if !open || key == "q" || key == "\x03" {
				return nil
			}
			if key == "\x0c" { // Ctrl-L: another program has written there
				p.forget()
			}
			s.key(key)
		case <-next.C:
			go func() {
				snapshot, err := ask()
				looks <- look{snapshot, err}
			}()
		case l := <-looks:
			if s.err = l.err; l.err == nil {
				s.put(l.snapshot)
			}
			next.Reset(interval)
		}
	}
}

// readKeys reads keys as they come: a rune, or the whole sequence of one that has no rune.
func readKeys(in *os.File, keys chan<- string) {
	defer close(keys)
	buf := make([]byte, 64)
	for {
		n, err := in.Read(buf)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return
		}
		text := string(buf[:n])
		if strings.HasPrefix(text, "\x1b") {
			keys <- text
			continue
		}
		for _, r := range text {
			keys <- string(r)
		}
	}
}

// painter writes lines to a terminal.
type painter struct {
	out   *os.File
	shown []string // what stands there
}

func (p *painter) begin() { _, _ = p.out.WriteString("\x1b[?1049h\x1b[?25l\x1b[2J") } // the other screen, no cursor
func (p *painter) end()   { _, _ = p.out.WriteString("\x1b[?25h\x1b[?1049l") }

// forget has all lines written anew.
func (p *painter) forget() { p.shown = nil }

// paint writes the lines that differ, in one go.
func (p *painter) paint(lines []line, width, height int) error {
	var b strings.Builder
	if len(p.shown) != height {
		b.WriteString("\x1b[2J")
		p.shown = make([]string, height)
	}
	for i := range height {
		text := ""
		if i < len(lines) {
			text = lines[i].styled(width)
		}
		if text != p.shown[i] {
			fmt.Fprintf(&b, "\x1b[%d;1H%s\x1b[K", i+1, text)
			p.shown[i] = text
		}
	}
	_, err := p.out.WriteString(b.String())
	return err
}

// line is one of the screen. Its style says nothing that its text does not.
type line struct {
	text  string
	style string // parameters of SGR
}

const (
	styleTitle = "1"
	styleBad   = "1;31"
	styleBar   = "7"
)

// styled cuts the line to the width of the terminal.
func (l line) styled(width int) string {
	runes := []rune(l.text)
	if len(runes) > width {
		runes = runes[:width]
	}
	if l.style == styleBar {
		runes = append(runes, []rune(strings.Repeat(" ", width-len(runes)))...)
	}
	if l.style == "" || len(runes) == 0 {
		return string(runes)
	}
	return "\x1b[" + l.style + "m" + string(runes) + "\x1b[m"
}
