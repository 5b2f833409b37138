package host

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
	"sluice/proxy/access"
	"sluice/proxy/pool"
)

func somePlan() *proxy.Plan {
	return &proxy.Plan{
		Generation: 7, MaxSessions: 100, Seats: []proxy.Seat{{Number: 0, Phase: proxy.PhaseServing}, {Number: 63, Phase: proxy.PhaseLeaving}},
		Listeners: []proxy.Listener{{
			ID: metrics.NewID(1, 1<<40), Name: "web", Phase: proxy.PhaseServing, Pool: metrics.NewID(2, 3),
			Relay: proxy.RelaySplice, MaxSessions: 10, IdleTimeout: time.Minute,
			WaitForBackend: time.Second, MaxWaiting: 9,
			MaxDuration: time.Hour, MaxDurationJitter: 0.25,
			ToBackend: proxy.Tuning{KeepIdle: 30, KeepInterval: 10, KeepCount: 3, UserTimeout: 1500, Buffer: 1 << 18},
			Guard:     proxy.Guard{Rate: access.Rate{Every: time.Second, Burst: 2}, Source: access.Limit{IPv4: 24, IPv6: 64, Sessions: 3}, Delay: time.Second, Refuse: proxy.RefuseSilent},
			Paces:     proxy.Paces{Session: [2]proxy.Pace{{Rate: 1, Burst: 2}, {}}, All: [2]proxy.Pace{{}, {Rate: 1 << 34, Burst: 1 << 32}}},
		}},
		Pools: []pool.Pool{{
			ID: metrics.NewID(2, 3), Name: "web", Pick: pool.LeastSessions, ConnectTimeout: time.Second, Retries: 2, Sources: []netip.Addr{netip.MustParseAddr("127.0.0.9")}, SourcePorts: pool.Ports{Low: 2000, High: 3000},
			Targets: []pool.Target{
				{ID: metrics.NewID(0, 1), Backend: "db:1", Addr: netip.MustParseAddrPort("10.0.0.1:1"), Weight: 3},
				{ID: metrics.NewID(1, 1), Backend: "db:1", Addr: netip.MustParseAddrPort("[2001:db8::1]:1"), Weight: 1, Backup: true},
			},
		}},
	}
}

func messages() []message {
	return []message{
		{Kind: kindStart, ID: 1, Start: &workerStart{Seat: 1, Settings: proxy.Settings{MaxPipes: 64, MaxFD: 9, CPUs: []int{1, 2}, Batch: true}}},
		{Kind: kindPlan, Body: &body{
			Plan: somePlan(), HandOff: []metrics.ID{metrics.NewID(1, 1<<40), 7}, Mail: []int{0, 63}, DrainTimeout: time.Second,
		}},
		{Kind: kindGive, ID: 2, Gifts: []gift{{Kind: giftSocket, Listener: metrics.NewID(1, 1<<40)}, {Kind: giftSend, Seat: 63}, {Kind: giftAccess, Access: 1 << 60}, {Kind: giftNetns, Netns: 4026532176}}},
		{Kind: kindBind, ID: 1<<64 - 1},
		{Kind: kindCommit, ID: 3},
		{Kind: kindUnbind, ID: 4},
		{Kind: kindRescue, ID: 5, Seat: 3, On: true},
		{Kind: kindFind, ID: 6, Source: netip.MustParseAddrPort("[::1]:99")},
		{Kind: kindClose, ID: 7},
		{Kind: kindDone, ID: 8, Found: true, Error: "no"},
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
		got, err := readMessage(&stream, wireLimit)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v\nwant %+v", got, want)
		}
	}
	if _, err := readMessage(&stream, wireLimit); err != io.EOF {
		t.Errorf("at the end: %v, want EOF", err)
	}
}

// raw is a frame with any version and body.
func raw(version byte, body string) string {
	return string(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), version)) + body
}

func TestBadMessages(t *testing.T) {
	for _, row := range []struct{ name, bytes, text string }{
		{"old version", raw(wireVersion-1, `{"kind":"close"}`), "speaks version 1"},
		{"later version", raw(wireVersion+1, `{"kind":"close"}`), "speaks version 3"},
		{"too long", "\x01\x00\x00\x01" + string(rune(wireVersion)), "16777217 bytes is too long"},
		{"empty", raw(wireVersion, ""), "unexpected end of JSON"},
		{"not JSON", raw(wireVersion, "close"), "invalid character"},
		{"wrong type", raw(wireVersion, `{"kind":7}`), "cannot unmarshal"},
		{"two values", raw(wireVersion, `{"kind":"close"}{}`), "after top-level value"},
		{"unknown kind", raw(wireVersion, `{"kind":"dance"}`), `unknown kind of message "dance"`},
		{"no kind", raw(wireVersion, `{}`), `unknown kind of message ""`},
		{"start of nothing", raw(wireVersion, `{"kind":"start"}`), "incomplete"},
		{"start of no such seat", raw(wireVersion, `{"kind":"start","start":{"seat":64}}`), "incomplete"},
		{"start below zero", raw(wireVersion, `{"kind":"start","start":{"seat":-1}}`), "incomplete"},
		{"plan of nothing", raw(wireVersion, `{"kind":"plan"}`), "incomplete"},
		{"plan without a plan", raw(wireVersion, `{"kind":"plan","body":{}}`), "incomplete"},
		{"give of nothing", raw(wireVersion, `{"kind":"give"}`), "incomplete"},
		{"give of too much", raw(wireVersion, `{"kind":"give","gifts":[`+strings.Repeat("{},", maxRights)+`{}]}`), "incomplete"},
		{"give to no such seat", raw(wireVersion, `{"kind":"give","gifts":[{"kind":"send","seat":64}]}`), "incomplete"},
		{"id too large", raw(wireVersion, `{"kind":"give","gifts":[{"kind":"rows","listener":18446744073709551616}]}`), "cannot unmarshal"},
		{"rescue of nobody", raw(wireVersion, `{"kind":"rescue","seat":-1}`), "incomplete"},
		{"rescue of no such seat", raw(wireVersion, `{"kind":"rescue","seat":64}`), "incomplete"},
		{"notice of no such class", raw(wireVersion, `{"kind":"notice","notice":{"Class":200}}`), "incomplete"},
		{"empty notice", raw(wireVersion, `{"kind":"notice"}`), "incomplete"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := readMessage(strings.NewReader(row.bytes), wireLimit)
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
		_, err := readMessage(strings.NewReader(whole[:n]), wireLimit)
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

// A supervisor takes no more from a worker than an answer may be long.
func TestLongAnswers(t *testing.T) {
	longest := message{Kind: kindDone, ID: 1<<64 - 1, Error: textOf(errors.New(strings.Repeat("\x01", 1<<20)))}
	frame, err := longest.frame()
	if err != nil {
		t.Fatal(err)
	}
	if m, err := readMessage(bytes.NewReader(frame), answerLimit); err != nil || len(m.Error) != errorLimit {
		t.Errorf("%d bytes of text, %v", len(m.Error), err)
	}
	long := message{Kind: kindDone, Error: strings.Repeat("x", answerLimit)}
	if frame, err = long.frame(); err != nil {
		t.Fatal(err)
	}
	if _, err := readMessage(bytes.NewReader(frame), answerLimit); !errors.Is(err, errProtocol) {
		t.Errorf("%v; want an errProtocol", err)
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
	f.Add([]byte(raw(wireVersion, `{"kind":"start","start":{"seat":-1}}`)))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := readMessage(bytes.NewReader(data), wireLimit)
		if err != nil {
			return
		}
		// What was understood can be said again, and means the same.
		frame, err := m.frame()
		if err != nil {
			t.Fatal(err)
		}
		again, err := readMessage(bytes.NewReader(frame), wireLimit)
		if err != nil {
			t.Fatal(err)
		}
		if twice, err := again.frame(); err != nil || !bytes.Equal(twice, frame) {
			t.Errorf("%s\nthen %s, %v", frame, twice, err)
		}
	})
}
