package admin

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// notRebound refuses what a browser asks for under a stranger's name: DNS rebinding. A
// page of evil.example, whose name has come to lead here, would be of the same origin
// as these answers and could read them. They hold no secret but tell of addresses and
// load, so a browser gets them only under a name that cannot be a stranger's:
//
//   - an IP address, localhost, or no name at all
//   - a name without a dot, such as sluice:9095 in Compose: it can't be registered
//
// Scrapers ask by any name (sluice.default.svc:9095): they run no strangers' scripts.
// Nothing here relies on the Host for more than that: to change anything takes a token.
func notRebound(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !ownName(r.Host) && fromBrowser(r.Header) {
			say(w, http.StatusMisdirectedRequest, fmt.Sprintf("a browser is not answered under the name %q, which could be a stranger's: use the IP address", r.Host))
			return
		}
		h.ServeHTTP(w, r)
	})
}

// fromBrowser looks for what browsers send and a script cannot take away. Origin and
// Sec-Fetch-Site alone would not do: neither comes with a GET of the same origin over
// plain HTTP from a name that is not localhost, which is just what a rebound page sends.
// Accept-Language and the Mozilla of User-Agent do.
func fromBrowser(h http.Header) bool {
	for _, name := range []string{"Origin", "Sec-Fetch-Site", "Referer", "Cookie", "Accept-Language"} {
		if _, sent := h[name]; sent {
			return true
		}
	}
	return strings.HasPrefix(h.Get("User-Agent"), "Mozilla/")
}

// ownName tells whether a Host can't be another's name.
func ownName(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return true
	}
	return !strings.Contains(name, ".") || strings.HasSuffix(name, ".localhost")
}
