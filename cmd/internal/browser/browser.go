// Package browser is a headless Chromium for tests: what a person sees of a page, and what
// the page did meanwhile.
//
//	test ─► Open ─► Tab ─► DevTools protocol ─► chromium
//	          Eval, Until, Shot: what is shown      Complaints, Requests: what happened
package browser

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/security"
	"github.com/chromedp/chromedp"
)

// within bounds everything that a test waits for.
const within = 60 * time.Second

// Tab is one open page. It is closed with the test that opened it.
type Tab struct {
	*state
	t testing.TB
}

type state struct {
	ctx context.Context

	mu         sync.Mutex
	complaints []string
	requests   []string
}

// Open starts a Chromium with one empty tab. A test is skipped where there is none, and
// fails where CI should have installed it. With -short it is skipped, too: a browser keeps
// a machine busy that has other tests to run.
func Open(t testing.TB) *Tab {
	t.Helper()
	if testing.Short() {
		t.Skip("a browser takes long")
	}
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("no chromium, though .ci/run installs it")
		}
		t.Skip("no chromium: apt-get install chromium")
	}
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.UserDataDir(t.TempDir()), chromedp.WSURLReadTimeout(within),
		chromedp.Flag("hide-scrollbars", true), chromedp.Flag("disable-component-update", true))
	ctx, cancel := context.WithTimeout(context.Background(), 10*within)
	allocated, release := chromedp.NewExecAllocator(ctx, options...)
	tab := &Tab{&state{}, t}
	var end context.CancelFunc
	tab.ctx, end = chromedp.NewContext(allocated, chromedp.WithErrorf(func(string, ...any) {}))
	t.Cleanup(func() {
		_ = chromedp.Cancel(tab.ctx) // waits for the browser's end; an error says that it has ended already
		end()
		release()
		cancel()
	})
	do(tab, chromedp.Navigate("about:blank")) // the browser lives from here on
	if err := chromedp.Listen(tab.ctx, tab.note); err != nil {
		t.Fatalf("chromium: %v", err)
	}
	do(tab, call(network.Enable, network.EnableParams{}))
	do(tab, call(log.Enable, cdp.Empty{}))
	return tab
}

// In is the tab for a subtest, which fails instead of the one that opened it.
func (b *Tab) In(t testing.TB) *Tab { return &Tab{b.state, t} }

// note keeps what a page should not do, and which servers it asks.
func (b *state) note(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		b.complaints = append(b.complaints, fmt.Sprint(e.ExceptionDetails.Text, " ", e.ExceptionDetails.Exception))
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			b.complaints = append(b.complaints, fmt.Sprint(e.Type, " ", e.Args))
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			b.complaints = append(b.complaints, e.Entry.Text+" "+e.Entry.URL)
		}
	case *network.EventRequestWillBeSent:
		b.requests = append(b.requests, e.Request.URL)
	}
}

// Complaints are what was written to the console, exceptions and failed requests included.
func (b *Tab) Complaints() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.complaints)
}

// Requests are the URLs that were asked for, without those that are data themselves.
func (b *Tab) Requests() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(b.requests), func(url string) bool { return strings.HasPrefix(url, "data:") })
}

// do runs an action, which must not fail.
func do[T any](b *Tab, action chromedp.Action[T]) T {
	b.t.Helper()
	value, err := chromedp.Run(b.ctx, action)
	if err != nil {
		b.t.Fatalf("chromium: %v\nconsole: %q", err, b.Complaints())
	}
	return value
}

// call is a command of the protocol as an action.
func call[P, R any](c cdp.Command[P, R], params P) chromedp.Action[R] {
	return func(ctx context.Context, t *chromedp.Target) (R, error) { return cdp.Call(ctx, t, c, params) }
}

// Go opens an address. What was complained of and asked for until now is forgotten.
func (b *Tab) Go(url string) {
	b.t.Helper()
	b.mu.Lock()
	b.complaints, b.requests = nil, nil
	b.mu.Unlock()
	do(b, chromedp.Navigate(url))
}

// TrustAll takes any certificate from now on: no authority signs those of tests.
func (b *Tab) TrustAll() {
	b.t.Helper()
	do(b, call(security.SetIgnoreCertificateErrors, security.SetIgnoreCertificateErrorsParams{Ignore: true}))
}

// Look sets the size of the window in CSS pixels, and the theme: light or dark.
func (b *Tab) Look(width, height int, theme string) {
	b.t.Helper()
	do(b, chromedp.EmulateViewport(int64(width), int64(height)))
	do(b, call(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: theme}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}}))
}

// Eval is the value of JavaScript in the page. A promise is waited for.
func Eval[T any](b *Tab, script string) T {
	b.t.Helper()
	return do(b, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise))
}

// Until waits until JavaScript is true.
func (b *Tab) Until(script string) {
	b.t.Helper()
	for deadline := time.Now().Add(within); !Eval[bool](b, "!!("+script+")"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatalf("not within %v: %s\nconsole: %q", within, script, b.Complaints())
		}
	}
}

// Key presses a key, by its name in chromedp's kb.
func (b *Tab) Key(key string) {
	b.t.Helper()
	do(b, chromedp.KeyEvent(key))
}

// Shot writes a picture of the whole page to a file.
func (b *Tab) Shot(file string) {
	b.t.Helper()
	b.write(file, do(b, chromedp.FullScreenshot(100)))
}

// ShotOfWindow writes a picture of what the window shows.
func (b *Tab) ShotOfWindow(file string) {
	b.t.Helper()
	b.write(file, do(b, chromedp.CaptureScreenshot()))
}

func (b *Tab) write(file string, png []byte) {
	b.t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(file, png, 0o644); err != nil {
		b.t.Fatal(err)
	}
}
