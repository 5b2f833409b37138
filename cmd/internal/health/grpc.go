package health

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"sluice/metrics"
)

// grpc calls grpc.health.v1.Health/Check over HTTP/2 without TLS. Both messages are so small
// that they are written and read by hand:
//
//	HealthCheckRequest   1: service, text
//	HealthCheckResponse  1: status, of which 1 is SERVING
//	each behind 5 bytes  not compressed, length (gRPC over HTTP/2, "Length-Prefixed-Message")
func (c *check) grpc(ctx context.Context, conn net.Conn, backend string) error {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: &protocols, DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}
	defer transport.CloseIdleConnections()
	host := c.health.Host
	if host == "" {
		host = backend
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+host+"/grpc.health.v1.Health/Check", bytes.NewReader(grpcRequest(c.health.Service)))
	if err != nil {
		return err
	}
	r.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "User-Agent": {"sluice"}}
	answer, err := transport.RoundTrip(r)
	if err != nil {
		if isNet(err) {
			return err
		}
		return fault{metrics.CheckAnswer, err}
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	switch status, text := grpcStatus(answer); {
	case err != nil:
		return err
	case answer.StatusCode != http.StatusOK:
		return fault{metrics.CheckStatus, fmt.Errorf("status %d", answer.StatusCode)}
	case !strings.HasPrefix(answer.Header.Get("Content-Type"), "application/grpc"):
		return fault{metrics.CheckAnswer, fmt.Errorf("the answer is not gRPC, but %q", answer.Header.Get("Content-Type"))}
	case status != "0":
		return fault{metrics.CheckStatus, fmt.Errorf("grpc-status %q %s", status, text)}
	}
	serving, err := grpcServing(body)
	switch {
	case err != nil:
		return fault{metrics.CheckAnswer, err}
	case serving != 1:
		return fault{metrics.CheckStatus, fmt.Errorf("not serving: %s", grpcServingStatus(serving))}
	}
	return nil
}

// grpcStatus is in the trailer, or in the header of an answer that has no message.
func grpcStatus(answer *http.Response) (status, text string) {
	h := answer.Trailer
	if h.Get("Grpc-Status") == "" {
		h = answer.Header
	}
	return h.Get("Grpc-Status"), h.Get("Grpc-Message")
}

func grpcRequest(service string) []byte {
	var m []byte
	if service != "" {
		m = append([]byte{1<<3 | 2}, binary.AppendUvarint(nil, uint64(len(service)))...) // field 1, length-delimited
		m = append(m, service...)
	}
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(m))), m...)
}

// grpcServing reads the status of a HealthCheckResponse. Fields that it does not know are
// passed over, and one that is not there is 0.
func grpcServing(body []byte) (status uint64, err error) {
	broken := fmt.Errorf("the answer is no HealthCheckResponse: %s", excerpt(body))
	if len(body) < 5 || body[0] != 0 || uint64(binary.BigEndian.Uint32(body[1:])) != uint64(len(body)-5) {
		return 0, broken
	}
	for m := body[5:]; len(m) > 0; {
		key, n := binary.Uvarint(m)
		if n <= 0 {
			return 0, broken
		}
		m = m[n:]
		var skip uint64
		switch key & 7 {
		case 0: // varint
			value, n := binary.Uvarint(m)
			if n <= 0 {
				return 0, broken
			}
			if key>>3 == 1 {
				status = value
			}
			skip = uint64(n)
		case 1:
			skip = 8
		case 2: // length-delimited
			length, n := binary.Uvarint(m)
			if n <= 0 || length > uint64(len(m)) {
				return 0, broken
			}
			skip = uint64(n) + length
		case 5:
			skip = 4
		default:
			return 0, broken
		}
		if skip > uint64(len(m)) {
			return 0, broken
		}
		m = m[skip:]
	}
	return status, nil
}

func grpcServingStatus(status uint64) string {
	names := []string{"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"}
	if status < uint64(len(names)) {
		return names[status]
	}
	return fmt.Sprint(status)
}
