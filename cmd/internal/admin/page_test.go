package admin

import (
	"encoding/json"
	"flag"
	"fmt"
	"image/png"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"

	"sluice/cmd/internal/browser"
	"sluice/metrics"
)

var (
	update   = flag.Bool("update", false, "rewrite the pictures of the README")
	pictures = flag.String("pictures", "", "a directory for pictures of the page, for people to look at")
)

// usual is a service as many run it.
func usual(t *testing.T) *scene {
	s := newScene(t, "process", 4, 8)
	s.listener("web", "0.0.0.0:8080", "least", "", sceneListener{rate: 430, lasts: 3.1})
	s.listener("api", "0.0.0.0:8443", "hash", "not_permitted", sceneListener{rate: 16, lasts: 21, shares: []float64{.25, .25, .25, .25}})
	s.past()
	s.end(60)
	return s
}

// show opens a scene in a tab.
func (s *scene) show(t *testing.T, tab *browser.Tab) *running {
	t.Helper()
	r := start(t, s.options(), nil)
	tab.Look(1440, 900, "light")
	tab.Go("http://" + r.addr + "/")
	tab.Until(`document.querySelector('#main').dataset.time && document.querySelectorAll('.line').length > 8`)
	return r
}

// The page in a real browser: one, which takes long to start.
func TestPage(t *testing.T) {
	tab := browser.Open(t)
	for name, test := range map[string]func(*testing.T, *browser.Tab){
		"parts": pageParts, "routes": pageRoutes, "figures": pageFigures, "large": pageLarge, "hidden": pageHidden, "keys": pageKeys,
	} {
		t.Run(name, func(t *testing.T) { test(t, tab.In(t)) })
		tab.Go("about:blank") // its connection ends
	}
}

// clean fails a test whose page has complained, or has asked any server but its own.
func clean(t *testing.T, tab *browser.Tab, addr string) {
	t.Helper()
	for _, text := range tab.Complaints() {
		t.Errorf("console: %s", text)
	}
	for _, url := range tab.Requests() {
		if !strings.HasPrefix(url, "http://"+addr+"/") && url != "about:blank" {
			t.Errorf("the page asked %s", url)
		}
	}
}

// Every part is there, in both themes and at three widths, without a word on the console,
// a request to elsewhere, a part that is too wide, or a fault that axe finds.
func pageParts(t *testing.T, tab *browser.Tab) {
	r := usual(t).show(t, tab)
	tab.Until(`document.querySelectorAll('#ended tbody tr').length === 60`)
	for what, n := range map[string]int{
		"#balance .card": 2, "#balance .bars li": 16, ".chart svg": 5, "#acceptors tbody tr": 4, "#pools tbody tr": 8,
		"#reasons [data-reason]": 5, "#config dd": 8, "#legend button": 4, "#scope option": 3,
	} {
		if got := browser.Eval[int](tab, fmt.Sprintf(`document.querySelectorAll(%q).length`, what)); got != n {
			t.Errorf("%s: %d, want %d", what, got, n)
		}
	}
	axe := axeSource(t)
	for _, look := range []struct {
		width   int
		theme   string
		checked bool
	}{{390, "light", true}, {1440, "light", true}, {2560, "light", false}, {390, "dark", false}, {1440, "dark", true}, {2560, "dark", false}} {
		where := fmt.Sprintf("%s, %d px", look.theme, look.width)
		lookAt(tab, look.width, look.theme)
		if wide := browser.Eval[int](tab, `document.documentElement.scrollWidth`); wide > look.width {
			t.Errorf("%s: the page is %d px wide", where, wide)
		}
		if *pictures != "" {
			tab.Shot(filepath.Join(*pictures, fmt.Sprintf("page-%s-%d.png", look.theme, look.width)))
		}
		if axe != "" && look.checked {
			accessible(t, tab, axe, where)
		}
	}
	clean(t, tab, r.addr)
}

// lookAt shows the page at a width, and waits until its charts are as wide as that.
func lookAt(tab *browser.Tab, width int, theme string) {
	tab.Look(width, 900, theme)
	tab.Until(fmt.Sprintf(`innerWidth === %d && [...document.querySelectorAll('.chart')].every(c => +c.querySelector('svg').getAttribute('width') === c.clientWidth)`, width))
}

// A listener with routes has a table of them, and what took none; of a thousand the busiest
// few are shown. One without has nothing.
func pageRoutes(t *testing.T, tab *browser.Tab) {
	s := newScene(t, "goroutine", 4, 4)
	s.listener("plain", "0.0.0.0:8080", "least", "", sceneListener{rate: 20, lasts: 3})
	s.listener("tls", "0.0.0.0:8443", "least", "", sceneListener{rate: 400, lasts: 21})
	s.route("api", "shop", "static", "mail")
	s.past()
	r := s.show(t, tab)
	rows := func() []string {
		return browser.Eval[[]string](tab, `[...document.querySelectorAll('#routes tbody tr')].map(r => r.dataset.route + ': ' + r.querySelector('.held').textContent + ', ' + r.querySelector('.out').textContent)`)
	}
	for range 6 { // so that rates are known
		s.step(time.Second)
		tab.Until(fmt.Sprintf(`Date.parse(document.querySelector('#main').dataset.time) >= %d`, s.now.UnixMilli()))
	}
	if got := browser.Eval[int](tab, `document.querySelectorAll('#routes article').length`); got != 1 {
		t.Errorf("%d listeners have routes, want 1", got)
	}
	got := rows()
	if len(got) != 5 || !regexp.MustCompile(`^api: \d,\d{3}, [\d.]+ MB/s$`).MatchString(got[0]) || !regexp.MustCompile(`^mail: \d{3}, `).MatchString(got[3]) || !regexp.MustCompile(`^: \d{3}, [\d.]+ [kM]B/s$`).MatchString(got[4]) {
		t.Errorf("shown: %q", got)
	}
	if share := browser.Eval[string](tab, `document.querySelector('#routes .value').textContent`); share != "50 %" && share != "49 %" {
		t.Errorf("the first has %s of the bytes", share)
	}
	axe := axeSource(t)
	for _, theme := range []string{"light", "dark"} {
		for _, width := range []int{390, 1440, 2560} {
			lookAt(tab, width, theme)
			if wide := browser.Eval[int](tab, `document.documentElement.scrollWidth`); wide > width {
				t.Errorf("%s, %d px: the page is %d px wide", theme, width, wide)
			}
			if *pictures != "" {
				tab.Shot(filepath.Join(*pictures, fmt.Sprintf("routes-%s-%d.png", theme, width)))
			}
			if axe != "" && width < 2560 {
				accessible(t, tab, axe, fmt.Sprintf("%s, %d px", theme, width))
			}
		}
	}
	clean(t, tab, r.addr)

	many := newScene(t, "goroutine", 4, 4)
	many.listener("tls", "0.0.0.0:8443", "least", "", sceneListener{rate: 400, lasts: 21})
	var names []string
	for i := range 1000 {
		names = append(names, fmt.Sprintf("site-%03d", i))
	}
	many.route(names...)
	many.past()
	r = many.show(t, tab)
	tab.Until(`document.querySelectorAll('#routes tbody tr').length === 13`)
	if said := browser.Eval[string](tab, `document.querySelector('#routes .pick').textContent`); !strings.Contains(said, "12 of 1,000") {
		t.Errorf("it says %q", said)
	}
	if first := rows()[0]; !strings.HasPrefix(first, "site-000: ") {
		t.Errorf("first is %s", first)
	}
	if *pictures != "" {
		tab.Shot(filepath.Join(*pictures, "routes-many.png"))
	}
	clean(t, tab, r.addr)
}

// axeSource is the accessibility checker of npm, "" where it is not installed.
func axeSource(t *testing.T) string {
	source, err := os.ReadFile(filepath.Join(os.Getenv("NODE_PATH"), "axe-core", "axe.min.js"))
	if err == nil {
		return string(source)
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("NODE_PATH names no directory with the packages of docker/testdata/package.json")
	}
	t.Log("without axe: NODE_PATH names no directory with axe-core")
	return ""
}

func accessible(t *testing.T, tab *browser.Tab, axe, where string) {
	t.Helper()
	browser.Eval[bool](tab, axe+"; true")
	faults := browser.Eval[[]struct {
		ID, Help string
		Nodes    []struct{ HTML string }
	}](tab, `axe.run(document, {resultTypes: ['violations']}).then(r => r.violations.map(v => ({id: v.id, help: v.help, nodes: v.nodes.map(n => ({html: n.html + ' ' + n.failureSummary}))})))`)
	for _, f := range faults {
		t.Errorf("%s: %s: %s, in %d places: %.700s", where, f.ID, f.Help, len(f.Nodes), f.Nodes[0].HTML)
	}
}

// The figures are those of /status.json, and follow it.
func pageFigures(t *testing.T, tab *browser.Tab) {
	s := usual(t)
	r := s.show(t, tab)
	for range 2 {
		s.step(time.Second)
		s.end(3)
		var status struct{ Time string }
		c := r.dial()
		c.send(request("/status.json", "Connection: close"))
		_, body := c.answer()
		if err := json.Unmarshal([]byte(body), &status); err != nil {
			t.Fatal(err)
		}
		tab.Until(fmt.Sprintf(`document.querySelector('#main').dataset.time === %q`, status.Time))
		differ := browser.Eval[[]string](tab, compareScript)
		for _, d := range differ {
			t.Error(d)
		}
	}
	clean(t, tab, r.addr)
}

// compareScript compares what the page shows with /status.json of the same moment.
const compareScript = `fetch('status.json').then(r => r.json()).then(s => {
	const wrong = [], n = text => Number(text.replaceAll(',', ''))
	const same = (what, shown, is) => shown === is || wrong.push(what + ': ' + shown + ' is shown, it is ' + is)
	same('time', document.querySelector('#main').dataset.time, s.time)
	for (const [i, l] of s.listeners.entries()) {
		const card = document.querySelectorAll('#balance .card')[i]
		for (const [name, b] of [['accepts', l.balance.accepts], ['held', l.balance.held]]) {
			const part = card.querySelector('.' + name)
			same(l.name + ' ' + name, part.dataset.evenness, b.evenness)
			same(l.name + ' total', n(part.querySelector('.what').textContent.split(' ')[0]), b.total)
			b.shares.forEach((x, j) => same(l.name + ' share ' + j, Number(part.querySelectorAll('li')[j].dataset.share), x))
		}
	}
	const text = (node, name) => node.querySelector('.' + name).textContent
	for (const a of s.acceptors) {
		const row = document.querySelector('[data-acceptor="' + a.acceptor + '"]')
		same('held by ' + a.acceptor, n(text(row, 'held')), a.sessions)
		same('accepted by ' + a.acceptor, n(text(row, 'accepted')), s.listeners.reduce((sum, l) => sum + l.acceptors.find(x => x.acceptor === a.acceptor).accepted, 0))
		same('pid of ' + a.acceptor, n(text(row, 'pid')), s.workers.find(w => w.worker === a.worker).pid)
	}
	for (const p of s.pools) for (const b of p.backends) for (const t of b.targets) {
		const row = document.querySelector('[data-backend="' + b.name + ' ' + t.address + '"]')
		same(b.name + ' state', text(row, 'word'), t.state)
		same(b.name + ' held', n(text(row, 'held')), t.active)
		same(b.name + ' sessions', n(text(row, 'sessions')), t.sessions)
		same(b.name + ' errors', n(text(row, 'errors')), Object.values(t.connect_errors).reduce((x, y) => x + y, 0))
	}
	const closed = {}
	for (const l of s.listeners) for (const [word, k] of Object.entries(l.closed)) closed[word] = (closed[word] ?? 0) + k
	for (const [word, k] of Object.entries(closed)) if (k) same(word, Number(document.querySelector('[data-reason=' + word + ']').dataset.count), k)
	return wrong
})`

// With 64 acceptors and 1,000 backends there are not more elements than a browser is quick
// with, and a look changes few of them.
func pageLarge(t *testing.T, tab *browser.Tab) {
	s := newScene(t, "process", 64, 1000)
	s.listener("web", "0.0.0.0:8080", "least", "", sceneListener{rate: 9000, lasts: 2})
	s.listener("api", "0.0.0.0:8443", "hash", "", sceneListener{rate: 900, lasts: 2, shares: []float64{1.0 / 64}})
	for range 60 { // 5 minutes
		s.step(5 * time.Second)
	}
	r := start(t, s.options(), nil)
	tab.Look(1440, 900, "light")
	tab.Go("http://" + r.addr + "/")
	tab.Until(`document.querySelectorAll('.band').length === 3 && document.querySelectorAll('#pools tbody tr').length === 25`)
	if n := browser.Eval[int](tab, `document.querySelectorAll('*').length`); n > 5000 {
		t.Errorf("%d elements", n)
	}
	if first := browser.Eval[string](tab, `document.querySelector('#pools tbody .word').textContent`); first != "down" {
		t.Errorf("the first backend is %s", first)
	}
	if *pictures != "" {
		tab.Shot(filepath.Join(*pictures, "large.png"))
	}
	browser.Eval[bool](tab, `document.querySelector('.more').click(), true`)
	tab.Until(`document.querySelectorAll('#pools tbody tr').length === 1000`)
	browser.Eval[bool](tab, `(find => { find.value = '10.0.3.9'; find.dispatchEvent(new Event('input')); return true })(document.querySelector('#find-backend'))`)
	tab.Until(`document.querySelectorAll('#pools tbody tr').length === 10`) // 10.0.3.9, 90 to 99
	clean(t, tab, r.addr)
}

// A page that is not seen costs nothing: the connection is closed, and no looks are taken.
func pageHidden(t *testing.T, tab *browser.Tab) {
	s := usual(t)
	o := s.options()
	watched := make(chan bool, 10)
	o.Watched = func(is bool) { watched <- is }
	r := start(t, o, nil)
	tab.Go("http://" + r.addr + "/")
	expect := func(want bool) {
		t.Helper()
		select {
		case is := <-watched:
			if is != want {
				t.Errorf("watched: %v, want %v", is, want)
			}
		case <-time.After(within):
			t.Fatalf("nobody is told that watched is %v", want)
		}
	}
	hide := func(hidden bool) {
		browser.Eval[bool](tab, fmt.Sprintf(`Object.defineProperty(document, 'hidden', {value: %v, configurable: true}), document.dispatchEvent(new Event('visibilitychange'))`, hidden))
	}
	expect(true)
	tab.Until(`document.querySelector('#live').textContent === 'live'`)
	hide(true)
	expect(false)
	hide(false)
	expect(true)
	clean(t, tab, r.addr)
}

// Keys reach what a pointer does: a moment of a chart, one acceptor, the configuration.
func pageKeys(t *testing.T, tab *browser.Tab) {
	r := usual(t).show(t, tab)
	focus := func(what string) {
		browser.Eval[bool](tab, fmt.Sprintf(`document.querySelector(%q).focus(), true`, what))
	}
	focus(".chart")
	tab.Key(kb.ArrowLeft)
	tab.Until(`/^\d\d:\d\d:\d\d .*0: \d/.test(document.querySelector('.readout').textContent)`)
	focus("#legend button")
	tab.Key(kb.Enter)
	tab.Until(`document.querySelector('#legend button').getAttribute('aria-pressed') === 'true' && document.querySelectorAll('.line.dim').length === 9`)
	focus("summary")
	tab.Key(kb.Enter)
	tab.Until(`document.querySelector('#config-text pre').textContent.startsWith('[acceptors]')`)
	browser.Eval[bool](tab, `(find => { find.value = 'client_reset'; find.dispatchEvent(new Event('input')); return true })(document.querySelector('#find-session'))`)
	tab.Until(`[...document.querySelectorAll('#ended tbody tr')].length === 4 && [...document.querySelectorAll('#ended .reason')].every(x => x.textContent === 'client_reset')`)
	browser.Eval[bool](tab, `(scope => { scope.value = 'api'; scope.dispatchEvent(new Event('change')); return true })(document.querySelector('#scope'))`)
	tab.Until(`document.querySelectorAll('.chart .line').length > 8`)
	clean(t, tab, r.addr)
}

// The pictures of the README can be made; -update puts them there.
func TestPagePicture(t *testing.T) {
	dir := t.TempDir()
	if *update {
		dir = filepath.Join("..", "..", "..", ".github")
	}
	tab := browser.Open(t)
	s := usual(t)
	s.show(t, tab)
	for range 6 { // so that rates are known
		s.step(time.Second)
		tab.Until(fmt.Sprintf(`Date.parse(document.querySelector('#main').dataset.time) >= %d`, s.now.UnixMilli()))
	}
	for _, theme := range []string{"light", "dark"} {
		tab.Look(1440, 1340, theme)
		path := filepath.Join(dir, "page-"+theme+".png")
		tab.ShotOfWindow(path)
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		c, err := png.DecodeConfig(f)
		f.Close()
		if err != nil || c.Width != 1440 || c.Height != 1340 {
			t.Errorf("%s: %d x %d, %v", path, c.Width, c.Height, err)
		}
	}
	tab.Go("about:blank")
}

// Each way in which a session ends has its words on the page.
func TestPageKnowsEachReason(t *testing.T) {
	text, err := os.ReadFile("page/reasons.js")
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for r := range metrics.NumReasons {
		words = append(words, metrics.Reason(r).String())
	}
	for r := range metrics.NumRejects {
		words = append(words, metrics.Reject(r).String())
	}
	for _, word := range words {
		if !strings.Contains(string(text), "\n  "+word+": ['") {
			t.Errorf("page/reasons.js does not know %s", word)
		}
	}
}
