package admin

import (
	"net/http"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"
)

// What a client asks for arrives as it was meant.
func TestSessionsArrive(t *testing.T) {
	asked := SessionQuery{
		ID: "2-17-1f3a9c0d", From: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::1/128")}, Listener: "web", Pool: "app",
		To: "db1:5432", State: "relaying", MinAge: time.Minute, MaxAge: time.Hour, MinIdle: time.Second, MinBytes: 7, MaxBytes: 1 << 40,
	}
	var query SessionQuery
	var order SessionOrder
	var kill KillOrder
	r := start(t, Options{
		Sessions: func(q SessionQuery, o SessionOrder) (SessionList, error) {
			query, order = q, o
			return SessionList{Sessions: []Session{{ID: q.ID}}, Matched: 1, Open: 2, Silent: []int{3}}, nil
		},
		Kill: func(o KillOrder) Verdict {
			kill = o
			return Verdict{OK: true, Text: "done"}
		},
	}, nil)
	r.openSocket()
	c := NewClient(r.socket)
	list, _, err := c.Sessions(t.Context(), asked, SessionOrder{Sort: "idle", Limit: 9})
	if err != nil || list.Open != 2 || list.Silent[0] != 3 || !reflect.DeepEqual(query, asked) || order != (SessionOrder{"idle", 9}) {
		t.Errorf("%+v, %v; arrived %+v, %+v", list, err, query, order)
	}
	want := KillOrder{SessionQuery: asked, Max: 4, PerSecond: 2, Reason: "stuck"}
	if v, err := c.Kill(t.Context(), want); err != nil || !v.OK || !reflect.DeepEqual(kill, want) {
		t.Errorf("%+v, %v; arrived %+v", v, err, kill)
	}
	if text := r.log.String(); !strings.Contains(text, `from=10.0.0.0/8,fd00::1/128`) || strings.Count(text, "was asked for") != 1 {
		t.Errorf("logged %s", text)
	}

	// TCP neither shows clients nor ends anything.
	for _, path := range []string{"/sessions", "/kill?max=9"} {
		answer, err := http.Post("http://"+r.addr+path, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusNotFound {
			t.Errorf("%s over TCP: %s", path, answer.Status)
		}
	}
}

// A query that is not understood whole is refused: less of it would mean more sessions.
func TestSessionsThatAreNotUnderstood(t *testing.T) {
	for query, fault := range map[string]string{
		"form=10.0.0.1&max=9":      "form: there is no such parameter",
		"from=10.0.0.300":          "no address and no prefix",
		"from=":                    "no address and no prefix",
		"min_age=yes":              "min_age: time: invalid duration",
		"min_age=-1s":              "must not be below 0s",
		"min_age=2h&max_age=1h":    "no session is older than 2h0m0s and younger",
		"min_bytes=-1":             "min_bytes: strconv.ParseUint",
		"min_bytes=9&max_bytes=8":  "at least 9 bytes and at most 8",
		"state=open":               "state must be one of",
		"max=99999999999999999999": "max: strconv.ParseUint",
		"reason=" + strings.Repeat("x", MaxReason+1): "the reason must be text",
	} {
		v, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := readKill(v); err == nil || !strings.Contains(err.Error(), fault) {
			t.Errorf("%s: %v, want %s", query, err, fault)
		}
	}
	for text, want := range map[string]string{
		"10.1.2.3": "10.1.2.3/32", "10.1.2.3/8": "10.0.0.0/8", "::ffff:10.1.2.3": "10.1.2.3/32", "::ffff:10.0.0.0/104": "10.0.0.0/8", "fe80::1%eth0": "fe80::1/128",
	} {
		if p, err := ParsePrefixes(text); err != nil || p[0].String() != want {
			t.Errorf("%s: %v, %v", text, p, err)
		}
	}
}
