package control

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/metrics"
	"sluice/proxy"
	"sluice/proxy/pool"
)

func somePlan() *proxy.Plan {
	return &proxy.Plan{
		Generation: 7, MaxSessions: 100,
		Listeners: []proxy.Listener{{
			Name: "web", Pool: "web", Relay: proxy.RelaySplice, MaxSessions: 10, IdleTimeout: time.Minute,
			WaitForBackend: time.Second, MaxWaiting: 9,
			MaxDuration: time.Hour, MaxDurationJitter: 0.25,
		}},
		Pools: []pool.Pool{{
			Name: "web", Pick: pool.LeastSessions, ConnectTimeout: time.Second, Retries: 2, Source: netip.MustParseAddr("127.0.0.9"),
			Backends: []pool.Backend{
				{Name: "db:1", Addrs: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("[2001:db8::1]:1")}, Weight: 3},
				{Name: "unknown:1", Weight: 1, Backup: true},
			},
		}},
	}
}

func messages() []message {
	return []message{
		{Kind: kindStart, ID: 1, Start: &workerStart{
			Acceptor: 1, Acceptors: 2, MaxPipes: 64, DrainTimeout: time.Second, Beat: time.Millisecond,
			Picked: []bool{true}, HandOff: []bool{false}, Plan: somePlan(),
		}},
		{Kind: kindApply, ID: 1<<64 - 1, Plan: somePlan()},
		{Kind: kindStartAccepting, ID: 2},
		{Kind: kindStopAccepting, ID: 3},
		{Kind: kindRescue, Hung: 3, On: true},
		{Kind: kindCut, ID: 4, Reason: metrics.ReasonDrainDeadline},
		{Kind: kindFind, ID: 5, Source: netip.MustParseAddrPort("[::1]:99")},
		{Kind: kindClose, ID: 6},
		{Kind: kindDone, ID: 7, Found: true, Error: "no"},
		{Kind: kindNotice, Notice: &proxy.Notice{Acceptor: 1, Kind: proxy.NoticeNoPorts, Name: "web/db:1", Errno: syscall.EADDRNOTAVAIL}},
	}
}

func TestMessagesComeBackAsTheyWere(t *testing.T) {
	var stream bytes.Buffer
	for _, m := range messages() {
		frame, err := m.frame()
		if err != nil {
			t.Fatal(err)
		}
		stream.Write(frame)
	}
	for _, want := range messages() {
		got, err := readMessage(&stream)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v\nwant %+v", got, want)
		}
	}
	if _, err := readMessage(&stream); err != io.EOF {
		t.Errorf("at the end: %v, want EOF", err)
	}
}

// raw is a frame with any version and body.
func raw(version byte, body string) string {
	return string(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), version)) + body
}

func TestBadMessages(t *testing.T) {
	for _, row := range []struct{ name, bytes, text string }{
		{"old version", raw(wireVersion-1, `{"kind":"close"}`), "speaks version 0"},
		{"later version", raw(wireVersion+1, `{"kind":"close"}`), "speaks version 2"},
		{"too long", "\x01\x00\x00\x01" + string(rune(wireVersion)), "16777217 bytes is too long"},
		{"empty", raw(wireVersion, ""), "unexpected end of JSON"},
		{"not JSON", raw(wireVersion, "close"), "invalid character"},
		{"wrong type", raw(wireVersion, `{"kind":7}`), "cannot unmarshal"},
		{"two values", raw(wireVersion, `{"kind":"close"}{}`), "after top-level value"},
		{"unknown kind", raw(wireVersion, `{"kind":"dance"}`), `unknown kind of message "dance"`},
		{"no kind", raw(wireVersion, `{}`), `unknown kind of message ""`},
		{"start of nothing", raw(wireVersion, `{"kind":"start"}`), "incomplete"},
		{"start without a plan", raw(wireVersion, `{"kind":"start","start":{"acceptors":1}}`), "incomplete"},
		{"start of no such acceptor", raw(wireVersion, `{"kind":"start","start":{"acceptor":1,"acceptors":1,"plan":{}}}`), "incomplete"},
		{"start of too many", raw(wireVersion, `{"kind":"start","start":{"acceptors":1000000,"plan":{}}}`), "incomplete"},
		{"start without steering", raw(wireVersion, `{"kind":"start","start":{"acceptors":1,"plan":{"Listeners":[{}]}}}`), "incomplete"},
		{"apply of nothing", raw(wireVersion, `{"kind":"apply"}`), "incomplete"},
		{"no such reason", raw(wireVersion, `{"kind":"cut","reason":250}`), "incomplete"},
		{"rescue of nobody", raw(wireVersion, `{"kind":"rescue","hung":-1}`), "incomplete"},
		{"empty notice", raw(wireVersion, `{"kind":"notice"}`), "incomplete"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := readMessage(strings.NewReader(row.bytes))
			if !errors.Is(err, errProtocol) || !strings.Contains(err.Error(), row.text) {
				t.Errorf("%v; want an errProtocol with %q", err, row.text)
			}
		})
	}
}

// A message that was cut off says that the other end has gone, not that it makes no
// sense: a worker drains then.
func TestCutOffMessages(t *testing.T) {
	whole := raw(wireVersion, `{"kind":"close"}`)
	for n := range len(whole) {
		_, err := readMessage(strings.NewReader(whole[:n]))
		if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
}

func TestFrameTooLong(t *testing.T) {
	m := message{Kind: kindDone, Error: strings.Repeat("x", wireLimit)}
	if _, err := m.frame(); !errors.Is(err, errProtocol) {
		t.Errorf("%v", err)
	}
}

func FuzzReadMessage(f *testing.F) {
	for _, m := range messages() {
		frame, err := m.frame()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(frame)
	}
	f.Add([]byte(raw(wireVersion-1, `{"kind":"close"}`)))
	f.Add([]byte(raw(wireVersion, `{"kind":"start","start":{"acceptors":-1}}`)))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := readMessage(bytes.NewReader(data))
		if err != nil {
			return
		}
		// What was understood can be said again, and means the same.
		frame, err := m.frame()
		if err != nil {
			t.Fatal(err)
		}
		again, err := readMessage(bytes.NewReader(frame))
		if err != nil {
			t.Fatal(err)
		}
		if twice, err := again.frame(); err != nil || !bytes.Equal(twice, frame) {
			t.Errorf("%s\nthen %s, %v", frame, twice, err)
		}
	})
}
