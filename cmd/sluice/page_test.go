package main

import (
	"fmt"
	"strings"
	"testing"

	"sluice/cmd/internal/browser"
)

// The page of a real sluice shows what goes on, in both modes, and survives a restart: it
// comes back by itself, with the figures of the new one.
func TestPageLive(t *testing.T) {
	tab := browser.Open(t)
	tab.Look(1440, 900, "light")
	admin := local(freePort(t))
	live, nobody := echoing(t).addr, ""
	nobody, _ = absent(t)
	modes(t, func(t *testing.T, mode string) {
		tab := tab.In(t)
		text := acceptorsTable(2, "auto") + listenerAt("web", "127.0.0.1:0", "app", "") +
			poolOf("app", []string{live, nobody}, "retries = 1", "[pool.app.health]", `interval = "200ms"`)
		s := launch(t, nil, "run", "--mode", mode, "--admin", admin, "--log-format", "json", "-c", configFile(t, text))
		s.awaitReady()
		if mode == "goroutine" {
			tab.Go("http://" + admin + "/")
		} // else it is open since the last one, and finds this one
		pid := s.cmd.Process.Pid
		if mode == "process" {
			pid = s.status().Workers[0].PID
		}
		tab.Until(fmt.Sprintf(`document.querySelector('#live').textContent === 'live' && document.querySelector('#acceptors .pid')?.textContent === '%d'`, pid))

		held := dial(t, s.addrs["web"])
		send(t, held, "x")
		expect(t, held, "x")
		for range 3 {
			c := dial(t, s.addrs["web"])
			send(t, c, "hello")
			expect(t, c, "hello")
			c.Close()
		}
		tab.Until(`document.querySelector('#balance .accepts .what').textContent.startsWith('4 accepts')`)
		tab.Until(`document.querySelector('#balance .held .what').textContent === '1 held now'`)
		tab.Until(fmt.Sprintf(`document.querySelector('[data-backend="%[1]s %[1]s"] .held').textContent === '1'`, live))
		tab.Until(fmt.Sprintf(`/refused/.test(document.querySelector('[data-backend="%[1]s %[1]s"][data-tone=bad] .why')?.textContent)`, nobody))
		tab.Until(`document.querySelector('[data-reason=client_eof]')?.dataset.count === '3'`)
		tab.Until(`document.querySelectorAll('#ended .reason').length === 3`)
		row := browser.Eval[string](tab, `document.querySelector('#ended tbody tr').innerText`)
		if !strings.Contains(row, "client_eof") || !strings.Contains(row, live) || strings.Count(row, "5 B") != 2 {
			t.Errorf("the last session: %q", row)
		}
		evenness := s.status().Listeners[0].Balance.Accepts.Evenness
		tab.Until(fmt.Sprintf(`document.querySelector('#balance .accepts').dataset.evenness === %q`, evenness))
		browser.Eval[bool](tab, `document.querySelector('#config-text').open = true`)
		tab.Until(`/mode += "` + mode + `"/.test(document.querySelector('#config-text pre').textContent)`)

		for _, text := range tab.Complaints() {
			if !strings.Contains(text, "ERR_CONNECTION") && !strings.Contains(text, "ERR_EMPTY_RESPONSE") && !strings.Contains(text, "ERR_INCOMPLETE") { // between two lives
				t.Errorf("console: %s", text)
			}
		}
		held.Close()
		if status := s.stop(); status != exitOK {
			t.Errorf("exit status %d", status)
		}
		tab.Until(`document.body.classList.contains('stale') && document.querySelector('#live').textContent.startsWith('not connected')`)
	})
}
