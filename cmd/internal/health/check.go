package health

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"sluice/cmd/internal/config"
	"sluice/listener/netns"
	"sluice/metrics"
	"sluice/proxy/pool"
	"sluice/proxy/preamble"
)

// maxAnswer bounds what is read of an answer to look for what is expected.
const maxAnswer = 64 << 10

// check is how the targets of a pool are asked. It is never changed.
type check struct {
	pool   string
	run    func(*exec.Cmd) error
	health config.Health
	source netip.Addr // the first of the pool's; the zero Addr leaves it to the kernel
	proxy  string     // config.Pool.SendProxy
	way    way
	send   []byte
	expect func(answer []byte) bool // nil = anything
	status func(int) bool
	body   *regexp.Regexp // nil = any
}

// outcome is what one check has found.
type outcome struct {
	err         error // nil = well
	failure     metrics.CheckFailure
	certificate time.Time // when it expires; zero = none was seen
}

// newCheck makes the check of a pool, whose configuration was checked, from a network namespace; nil = it has none.
func newCheck(p config.Pool, from *netns.Namespace, run func(*exec.Cmd) error) *check {
	c := &check{pool: p.Name, run: run, health: p.Health, proxy: p.SendProxy}
	c.way = way{mark: p.Mark, dev: p.Interface, netns: from}
	if len(p.Source) > 0 {
		c.source = p.Source[0]
	}
	send, expect := p.Health.Send, p.Health.Expect
	if preset, is := p.Health.Preset(); is {
		send, expect = preset.Send, preset.Expect
	}
	switch p.Health.Check {
	case config.CheckOff, "":
		return nil
	case config.CheckHTTP, config.CheckHTTPS:
		c.status, _ = config.Statuses(p.Health.Status)
		if p.Health.Body != "" {
			c.body = regexp.MustCompile(p.Health.Body)
		}
	}
	c.send, _ = config.Payload(send)
	if expect != "" {
		c.expect, _ = config.Pattern(expect)
	}
	c.way.holdAck = c.connects()
	return c
}

// same says whether both ask the same.
func (c *check) same(d *check) bool {
	return c == nil && d == nil || c != nil && d != nil && reflect.DeepEqual(c.health, d.health) && c.source == d.source && c.proxy == d.proxy && c.way == d.way
}

// fault is an error that is classified already.
type fault struct {
	failure metrics.CheckFailure
	error
}

// probe asks one target, for no longer than the timeout. It is for a check that does more than to
// connect.
func (c *check) probe(ctx context.Context, t pool.Target) outcome {
	ctx, cancel := context.WithTimeout(ctx, c.health.Timeout)
	defer cancel()
	certificate, err := c.ask(ctx, t)
	return outcome{err, classify(err), certificate}
}

func (c *check) ask(ctx context.Context, t pool.Target) (certificate time.Time, err error) {
	if c.health.Check == config.CheckCommand {
		return certificate, c.command(ctx, t)
	}
	conn, err := c.dial(ctx, t.Addr)
	if err != nil {
		return certificate, err
	}
	defer func() { conn.Close() }()
	if deadline, has := ctx.Deadline(); has {
		if err := conn.SetDeadline(deadline); err != nil {
			return certificate, err
		}
	}
	// A connection is not closed by ctx but at its end: then nothing is reported.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if own := c.introduction(); own != nil {
		if _, err := conn.Write(own); err != nil {
			return certificate, err
		}
	}
	switch c.health.Check {
	case config.CheckTLS, config.CheckHTTPS:
		secured := tls.Client(conn, c.tls(t.Backend))
		if certificate, err = c.shakeHands(ctx, secured); err != nil || c.health.Check == config.CheckTLS {
			return certificate, err
		}
		return certificate, c.request(secured, t.Backend)
	case config.CheckHTTP:
		return certificate, c.request(conn, t.Backend)
	case config.CheckGRPC:
		return certificate, c.grpc(ctx, conn, t.Backend)
	}
	return certificate, c.talk(conn)
}

// connects says that a connection is all that is asked for. It costs half of one over which
// something is said, and a server does not even see it, as with probes of package proxy.
func (c *check) connects() bool {
	return c.health.Check == config.CheckTCP && len(c.send) == 0 && c.expect == nil && c.introduction() == nil
}

// introduction is the PROXY header of a connection without a client, where the pool
// sends one to the port that is checked.
func (c *check) introduction() []byte {
	switch {
	case c.health.Port > 0:
	case c.proxy == config.SendProxyV1:
		return preamble.Append1(nil, netip.AddrPort{}, netip.AddrPort{})
	case c.proxy == config.SendProxyV2:
		return preamble.Finish2(preamble.Append2(nil, netip.AddrPort{}, netip.AddrPort{}), false)
	}
	return nil
}

func (c *check) dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	if path, isUnix := pool.UnixPath(addr); isUnix {
		d := net.Dialer{}
		if c.way.netns != nil {
			d.Control = c.way.control
		}
		return d.DialContext(ctx, "unix", path)
	}
	if c.health.Port > 0 {
		addr = netip.AddrPortFrom(addr.Addr(), uint16(c.health.Port))
	}
	d := net.Dialer{KeepAlive: -1}
	if c.way != (way{}) {
		d.Control = c.way.control
	}
	var source netip.AddrPort
	if c.source.IsValid() {
		source = netip.AddrPortFrom(c.source, 0)
	}
	return d.DialTCP(ctx, "tcp", source, addr)
}

// talk sends a line and reads until the answer is as expected, or cannot become so.
func (c *check) talk(conn net.Conn) error {
	if len(c.send) > 0 {
		if _, err := conn.Write(c.send); err != nil {
			return err
		}
	}
	if c.expect == nil {
		return nil
	}
	answer, buffer := bytes.Buffer{}, make([]byte, 2048)
	for answer.Len() < maxAnswer {
		n, err := conn.Read(buffer)
		answer.Write(buffer[:n])
		if c.expect(answer.Bytes()) {
			c.leave(conn)
			return nil
		}
		switch {
		case err == io.EOF && answer.Len() > 0:
			return fault{metrics.CheckAnswer, fmt.Errorf("the answer is %s", excerpt(answer.Bytes()))}
		case errors.Is(err, os.ErrDeadlineExceeded) && answer.Len() > 0:
			return fault{metrics.CheckAnswer, fmt.Errorf("within %s the answer is %s", c.health.Timeout, excerpt(answer.Bytes()))}
		case err != nil:
			return err
		}
	}
	return fault{metrics.CheckAnswer, fmt.Errorf("the answer begins with %s", excerpt(answer.Bytes()))}
}

// leave ends a login that has begun, as psql does when its user gives no password. A database
// logs a client that is gone while something is on its way to it.
func (c *check) leave(conn net.Conn) {
	if half, is := conn.(interface{ CloseWrite() error }); is && c.health.User != "" && half.CloseWrite() == nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(conn, maxAnswer))
	}
}

// excerpt quotes the beginning of an answer.
func excerpt(b []byte) string {
	if len(b) > 64 {
		return fmt.Sprintf("%q...", b[:64])
	}
	return fmt.Sprintf("%q", b)
}

// request asks by HTTP/1.1.
func (c *check) request(conn net.Conn, backend string) error {
	u, err := url.ParseRequestURI(c.health.Path)
	if err != nil {
		return err
	}
	host := c.health.Host
	if host == "" && strings.HasPrefix(backend, config.UnixPrefix) {
		host = "localhost"
	} else if host == "" {
		host = backend
	}
	r := &http.Request{Method: c.health.Method, URL: u, Host: host, Header: http.Header{"User-Agent": {"sluice"}}, Close: true}
	if err := r.Write(conn); err != nil {
		return err
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), r)
	if err != nil {
		if isNet(err) {
			return err
		}
		return fault{metrics.CheckAnswer, err}
	}
	defer answer.Body.Close()
	if !c.status(answer.StatusCode) {
		return fault{metrics.CheckStatus, fmt.Errorf("status %d", answer.StatusCode)}
	}
	if c.body == nil {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	switch {
	case c.body.Match(body):
		return nil
	case err != nil:
		return err
	}
	return fault{metrics.CheckAnswer, fmt.Errorf("the body is %s", excerpt(body))}
}

func (c *check) tls(backend string) *tls.Config {
	name := c.health.ServerName
	if name == "" {
		name, _, _ = net.SplitHostPort(backend)
	}
	t := &tls.Config{ServerName: strings.TrimSuffix(name, "."), InsecureSkipVerify: !c.health.Verify}
	if c.health.ALPN != "" {
		t.NextProtos = strings.Split(c.health.ALPN, ",")
	}
	return t
}

func (c *check) shakeHands(ctx context.Context, conn *tls.Conn) (certificate time.Time, err error) {
	err = conn.HandshakeContext(ctx)
	certificates := conn.ConnectionState().PeerCertificates
	if refused := (*tls.CertificateVerificationError)(nil); errors.As(err, &refused) {
		certificates = refused.UnverifiedCertificates
	}
	if len(certificates) > 0 {
		certificate = certificates[0].NotAfter
	}
	switch taken := conn.ConnectionState().NegotiatedProtocol; {
	case err != nil && isNet(err):
		return certificate, err
	case err != nil:
		return certificate, fault{metrics.CheckTLS, err}
	case c.health.ALPN != "" && !slices.Contains(strings.Split(c.health.ALPN, ","), taken):
		return certificate, fault{metrics.CheckTLS, fmt.Errorf("none of the protocols %s is taken", c.health.ALPN)}
	}
	return certificate, nil
}

// isNet says whether an error is one of the connection, not of what came over it.
func isNet(err error) bool {
	var errno syscall.Errno
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, os.ErrDeadlineExceeded) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || errors.As(err, &errno)
}

func classify(err error) metrics.CheckFailure {
	var f fault
	var timeout net.Error
	switch {
	case errors.As(err, &f):
		return f.failure
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return metrics.CheckTimeout
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT): // ENOENT: a unix socket that is not there
		return metrics.CheckRefused
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return metrics.CheckUnreachable
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return metrics.CheckReset
	}
	return metrics.CheckOther
}

// lacking says that it is sluice or the machine that could not ask, the command that is not
// there included: that is no verdict on the target.
func lacking(err error) bool {
	if failed := (*fs.PathError)(nil); errors.As(err, &failed) { // a command that did not start
		return true
	}
	for _, lack := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ENOSPC, syscall.EADDRNOTAVAIL} {
		if errors.Is(err, lack) {
			return true
		}
	}
	return false
}
