package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Client asks a running sluice over its socket.
type Client struct {
	path string
	http http.Client
}

const (
	// dialWithin is for the kernel to connect: it does at once, or the queue is full.
	dialWithin = 5 * time.Second

	maxVerdict = 16 << 20  // of 10,000 changed lines some 2 MiB
	maxStatus  = 512 << 20 // of 65,536 backends some 200 MiB
)

// NewClient does not connect yet.
func NewClient(path string) *Client {
	dialer := net.Dialer{Timeout: dialWithin}
	return &Client{path, http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", path)
		},
	}}}
}

// Reload asks for the configuration to be put in force, and waits for the verdict until
// ctx is done. A configuration that was refused is a Verdict, not an error.
func (c *Client) Reload(ctx context.Context, dryRun bool) (Verdict, error) {
	return c.do(ctx, "reload", url.Values{"dry_run": {strconv.FormatBool(dryRun)}})
}

// Drain asks the service to end when its sessions have, or now.
func (c *Client) Drain(ctx context.Context, now bool) (Verdict, error) {
	return c.do(ctx, "drain", url.Values{"now": {strconv.FormatBool(now)}})
}

// Backend says what an operator wants of a backend. An order that was refused is a
// Verdict, not an error.
func (c *Client) Backend(ctx context.Context, o BackendOrder) (Verdict, error) {
	return c.do(ctx, "backend", o.query())
}

// LogLevel asks for another level of the log: debug, info, warn or error.
func (c *Client) LogLevel(ctx context.Context, level string) (Verdict, error) {
	return c.do(ctx, "log/level", url.Values{"level": {level}})
}

// Status is the text of /status.json.
func (c *Client) Status(ctx context.Context) ([]byte, error) {
	return c.ask(ctx, http.MethodGet, "status.json", maxStatus)
}

func (c *Client) do(ctx context.Context, verb string, query url.Values) (v Verdict, err error) {
	body, err := c.ask(ctx, http.MethodPost, verb+"?"+query.Encode(), maxVerdict)
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(body, &v); err != nil {
		return v, fmt.Errorf("%s answers what is no verdict: %w", c.path, err)
	}
	return v, nil
}

// ask returns the body of an answer, up to most bytes of it.
func (c *Client) ask(ctx context.Context, method, what string, most int64) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://sluice/"+what, nil)
	if err != nil {
		return nil, err
	}
	answer, err := c.http.Do(r)
	if err != nil {
		return nil, c.explain(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, most))
	if err != nil {
		return nil, c.explain(err)
	}
	switch answer.StatusCode {
	case http.StatusOK, http.StatusUnprocessableEntity:
		return body, nil
	case http.StatusForbidden:
		return nil, fmt.Errorf("permission denied at %s: %s", c.path, strings.TrimSpace(string(body)))
	default:
		return nil, fmt.Errorf("%s answers %s: %s", c.path, answer.Status, strings.TrimSpace(string(body)))
	}
}

// explain says what a person can do about a call that failed.
func (c *Client) explain(err error) error {
	if outer := (*url.Error)(nil); errors.As(err, &outer) {
		err = outer.Err // the URL in it is made up
	}
	switch {
	case errors.Is(err, syscall.ENOENT):
		return fmt.Errorf("no socket at %s: sluice does not run, or with another admin.socket", c.path)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("nobody answers at %s: sluice has ended and left its socket behind", c.path)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("permission denied at %s: only root and the user of sluice may ask; you are user %d", c.path, os.Geteuid())
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.EAGAIN):
		return fmt.Errorf("no answer from %s in time", c.path)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return fmt.Errorf("%s hung up before it answered: sluice may have ended; its log tells", c.path)
	}
	return fmt.Errorf("no answer from %s: %w", c.path, err)
}
