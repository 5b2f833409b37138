package main

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// Verbs over HTTP are taken from callers with the token, once a reload allows it, and no
// longer when one forbids it.
func TestVerbsOverHTTP(t *testing.T) {
	modesTogether(t, func(t *testing.T, mode string) {
		const token = "a-token-of-more-than-16"
		text := func(admin string) string {
			return "[admin]\n" + admin + "\n" + acceptorsTable(2, "auto") + listenerAt("main", "127.0.0.1:0", "main") + poolOf("main", []string{echoing(t).addr})
		}
		path := configFile(t, token+"\n")
		allowed := text("allow_write = true\ntoken = \"file:" + path + "\"")
		c := startChanging(t, mode, text(""))
		post := func(verb, token string) (int, string) {
			t.Helper()
			r, err := http.NewRequest(http.MethodPost, "http://"+c.admin+verb, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer "+token)
			answer, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			body, _ := io.ReadAll(answer.Body)
			return answer.StatusCode, string(body)
		}
		want := func(verb, token string, status int, answer string) {
			t.Helper()
			if got, body := post(verb, token); got != status || !strings.Contains(body, answer) {
				t.Errorf("%s: %d, %s", verb, got, body)
			}
		}
		want("/reload", token, 404, "")
		c.reload(allowed)
		conn := dial(t, c.addr())
		want("/reload", "not-"+token, 401, "this is not the token")
		want("/reload", token, 200, `"ok":true`)
		eventually(t, patience, "it is there", func() bool { return c.list("-state", "relaying").Matched == 1 })
		want("/kill?listener=main", token, 422, "1 session would end")
		want("/kill?listener=main&max=1", token, 200, "1 session ended")
		expectReset(t, conn)
		want("/backend?backend=nobody:1&want=drain", token, 422, "")
		want("/log/level?level=warn", token, 200, "is warn")
		c.tells(`"who":"token","ok":true,"generation":2,"from":"127.0.0.1"`, func(n int) bool { return n == 3 })
		c.reload(text(""))
		want("/reload", token, 404, "")
	})
}
