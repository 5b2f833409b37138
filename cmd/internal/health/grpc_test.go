package health

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"sluice/cmd/internal/config"
	"sluice/metrics"
)

// grpcServer answers a health check of a service with a message, and with a status in its trailer.
func grpcServer(t *testing.T, service, answer, status string, header http.Header) (addr string) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if r.Method != "POST" || r.URL.Path != "/grpc.health.v1.Health/Check" || r.ProtoMajor != 2 || r.Header.Get("Te") != "trailers" ||
			r.Header.Get("Content-Type") != "application/grpc" || err != nil || string(body) != service {
			t.Errorf("asked %s %s %q: %v %v", r.Method, r.URL, body, r.Header, err)
		}
		w.Header().Set("Content-Type", "application/grpc+proto")
		for k, v := range header {
			w.Header()[k] = v
		}
		if answer == "" {
			w.Header().Set("Grpc-Status", status)
			w.Header().Set("Grpc-Message", "none here")
			return
		}
		w.Header().Set("Trailer", "Grpc-Status")
		_, _ = io.WriteString(w, answer)
		w.Header().Set("Grpc-Status", status)
	}))
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	s.Config.Protocols = &protocols
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func TestGRPC(t *testing.T) {
	const whole = "\x00\x00\x00\x00\x00"
	ask := func(addr, service string) outcome {
		return asked(t, addr, func(p *config.Pool) { p.Health.Check, p.Health.Service = config.CheckGRPC, service })
	}
	well(t, ask(grpcServer(t, whole, "\x00\x00\x00\x00\x02\x08\x01", "0", nil), ""))
	well(t, ask(grpcServer(t, "\x00\x00\x00\x00\x04\x0a\x02db", "\x00\x00\x00\x00\x02\x08\x01", "0", nil), "db"))
	// Fields of a later version, of each kind, stand around it.
	well(t, ask(grpcServer(t, whole, "\x00\x00\x00\x00\x17\x12\x02ab\x18\x96\x01\x08\x01\x25abcd\x29abcdefgh", "0", nil), ""))
	for _, test := range []struct {
		answer, status string
		want           metrics.CheckFailure
		text           string
	}{
		{"\x00\x00\x00\x00\x02\x08\x02", "0", metrics.CheckStatus, "not serving: NOT_SERVING"},
		{"\x00\x00\x00\x00\x02\x08\x09", "0", metrics.CheckStatus, "not serving: 9"},
		{"\x00\x00\x00\x00\x00", "0", metrics.CheckStatus, "not serving: UNKNOWN"},
		{"", "5", metrics.CheckStatus, `grpc-status "5" none here`},
		{"\x00\x00\x00\x00\x02\x08\x01", "13", metrics.CheckStatus, `grpc-status "13"`},
		{"\x01\x00\x00\x00\x02\x08\x01", "0", metrics.CheckAnswer, "no HealthCheckResponse"}, // compressed
		{"\x00\x00\x00\x00\x03\x08\x01", "0", metrics.CheckAnswer, "no HealthCheckResponse"},
		{"\x00\x00\x00\x00\x02\x12\x09", "0", metrics.CheckAnswer, "no HealthCheckResponse"},
		{"\x00\x00\x00\x00\x02\x08\xff", "0", metrics.CheckAnswer, "no HealthCheckResponse"},
		{"\x00\x00\x00\x00\x02\x0b\x01", "0", metrics.CheckAnswer, "no HealthCheckResponse"},
		{"\x00\x00", "0", metrics.CheckAnswer, "no HealthCheckResponse"},
	} {
		fails(t, ask(grpcServer(t, whole, test.answer, test.status, nil), ""), test.want, test.text)
	}
	fails(t, ask(grpcServer(t, whole, "\x00\x00\x00\x00\x02\x08\x01", "0", http.Header{"Content-Type": {"text/html"}}), ""), metrics.CheckAnswer, `not gRPC, but "text/html"`)

	old := httptest.NewServer(http.NotFoundHandler()) // of HTTP/1.1 only
	t.Cleanup(old.Close)
	if o := ask(old.Listener.Addr().String(), ""); o.err == nil {
		t.Error("a server of HTTP/1.1 is well")
	}
	o := asked(t, server(t, silent), func(p *config.Pool) { p.Health.Check, p.Health.Timeout = config.CheckGRPC, 100*time.Millisecond })
	fails(t, o, metrics.CheckTimeout, "")
	// One that leaves: what the library has of it depends on how far it had come.
	if o := ask(server(t, func(net.Conn) {}), ""); o.err == nil || o.failure != metrics.CheckReset && o.failure != metrics.CheckAnswer {
		t.Errorf("one that leaves: %v, %v", o.failure, o.err)
	}
}
