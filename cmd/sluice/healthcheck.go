package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"sluice/cmd/internal/config"
)

// healthcheck asks the admin endpoint of a running sluice, for a HEALTHCHECK of
// Docker: exit status 0 is healthy, 1 is not. It asks /livez, since what Docker,
// Swarm and others do with an unhealthy container is to end it, and a sluice that
// drains must be left alone until it is done. -ready asks /readyz, for a balancer
// that sends it clients.
func healthcheck(e env, args []string) int {
	fs := flag.NewFlagSet("sluice healthcheck", flag.ContinueOnError)
	var f config.Flags
	f.Bind(fs, "c", "admin")
	ready := fs.Bool("ready", false, "healthy only while it takes new connections")
	timeout := fs.Duration("timeout", time.Second, "`DURATION` to wait for the answer")
	if status := parse(e, fs, args); status >= 0 {
		return status
	}
	page := "/livez"
	if *ready {
		page = "/readyz"
	}
	answer, err := ask(config.NewSource(f, e.vars), page, *timeout)
	if err != nil {
		fmt.Fprintln(e.stderr, "sluice healthcheck:", err)
		return exitFault
	}
	fmt.Fprintln(e.stdout, answer)
	return exitOK
}

// ask gets a page of the admin endpoint of the sluice that runs by a source. Any status
// but 200 is an error.
func ask(source *config.Source, page string, timeout time.Duration) (answer string, err error) {
	admin, err := source.Admin()
	if err != nil {
		return "", err
	}
	if admin.Listen == "" {
		return "", errors.New(`admin.listen is "": there is nothing to ask`)
	}
	// The address is dialled as it is written: ":9095" is no host for a URL, but
	// to a dialer it means this machine, like 0.0.0.0 and [::].
	client := http.Client{Timeout: timeout, Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, admin.Listen)
		},
	}}
	r, err := client.Get("http://sluice" + page)
	if err != nil {
		return "", fmt.Errorf("ask %s at %s: %w", page, admin.Listen, errors.Unwrap(err))
	}
	defer r.Body.Close()
	body, err := io.ReadAll(io.LimitReader(r.Body, 256)) // a word in our own answers
	if err != nil {
		return "", fmt.Errorf("ask %s at %s: %w", page, admin.Listen, err)
	}
	answer = strings.TrimSpace(string(body))
	if r.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s at %s answers %s: %s", page, admin.Listen, r.Status, answer)
	}
	return answer, nil
}
