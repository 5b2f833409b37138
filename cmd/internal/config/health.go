package config

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Health says how the backends of a pool are checked.
type Health struct {
	Check        string        // one of the Check words
	Port         int           // that is checked; 0 = the backend's own
	Interval     time.Duration // from one check of a target to the next
	FastInterval time.Duration // the same while in doubt; 0 = Interval
	Jitter       float64       // 0..1: each interval is longer or shorter by up to this share
	Timeout      time.Duration // of one check, from its connect to the end of its answer
	Rise, Fall   int           // successes, and failures, in a row that decide
	Start        string        // StartUp or StartDown
	Send         string        // CheckTCP: see Payload; "" = nothing
	Expect       string        // CheckTCP: see Pattern; "" = a connection is enough
	Method, Path string        // HTTP
	Host         string        // HTTP: the header; "" = the backend as configured
	Status       string        // HTTP: see Statuses
	Body         string        // HTTP: a regular expression that the body must match; "" = any
	ServerName   string        // TLS; "" = the backend's host
	ALPN         string        // TLS: protocols to offer, with commas between them, of which one must be taken; "" = none
	Service      string        // gRPC: the service asked about; "" = the server
	User         string        // CheckPostgres: the user of a login that begins; "" = none does
	Command      []string      // CheckCommand: the program, an absolute path, and its arguments
	Verify       bool          // TLS: the certificate must be valid
}

// Words that options of health take.
const (
	CheckOff      = "off"
	CheckTCP      = "tcp"
	CheckHTTP     = "http"
	CheckHTTPS    = "https"
	CheckTLS      = "tls"
	CheckPostgres = "postgres"
	CheckMySQL    = "mysql"
	CheckRedis    = "redis"
	CheckGRPC     = "grpc"
	CheckCommand  = "command"

	StartUp   = "up"
	StartDown = "down"
)

// Preset is a check that is a line to send and an answer to expect.
type Preset struct{ Send, Expect string }

// Presets are the checks of protocols by name. None of them logs in; see Health.Preset.
var Presets = map[string]Preset{
	// SSLRequest: every server answers one letter, yes or no, before any login.
	CheckPostgres: {"hex:0000000804d2162f", "re:^[SN]"},
	// The server speaks first: a packet with its number 0, protocol 10. An error, such
	// as too many connections, is a packet that begins with 0xff.
	CheckMySQL: {"", `re:(?s)^...\x00\n`},
	// One that wants a password is up, too.
	CheckRedis: {"PING\r\n", `re:^(\+PONG|-NOAUTH)`},
}

// Preset is what a check by the name of a protocol says and expects.
func (h Health) Preset() (p Preset, is bool) {
	p, is = Presets[h.Check]
	if h.Check == CheckPostgres && h.User != "" {
		// StartupMessage, protocol 3.0. R asks for a password, or wants none. A server that still
		// starts, or has no connection left, says E: it is asked that before any password.
		message := "\x00\x03\x00\x00user\x00" + h.User + "\x00\x00"
		p = Preset{fmt.Sprintf("hex:%08x%x", 4+len(message), message), "re:^R"}
	}
	return p, is
}

func defaultHealth() Health {
	return Health{
		Check: CheckOff, // a connect that fails is remembered without checks
		// One dead backend is out after three intervals at worst: the time of one SYN
		// that is sent again. 1,000 targets cost 500 checks a second.
		Interval:     2 * time.Second,
		FastInterval: 500 * time.Millisecond, // a second more decides
		Jitter:       0.1,
		Timeout:      time.Second, // a SYN that is lost is sent again after 1 s: the next check tells
		Rise:         2,
		Fall:         3,
		Start:        StartUp, // a start must not wait for checks
		Method:       "GET", Path: "/", Status: "200-399",
		Verify: true,
	}
}

// Bounds of checks.
const (
	minInterval = 100 * time.Millisecond
	maxInterval = time.Hour
	maxInARow   = 100
	maxText     = 4096 // of what is sent or expected
)

// Payload is what a check sends: the text as it is, or behind "hex:" bytes in hex digits.
func Payload(text string) ([]byte, error) {
	if digits, is := strings.CutPrefix(text, "hex:"); is {
		b, err := hex.DecodeString(strings.ReplaceAll(digits, " ", ""))
		if err != nil || len(b) == 0 {
			return nil, errors.New("no hex digits, two for each byte")
		}
		return b, nil
	}
	return []byte(text), nil
}

// Pattern is what an answer is held against: it must contain the text, or behind "hex:"
// the bytes, or behind "re:" match the regular expression.
func Pattern(text string) (matches func(answer []byte) bool, err error) {
	if expression, is := strings.CutPrefix(text, "re:"); is {
		re, err := regexp.Compile(expression)
		if err != nil {
			return nil, err
		}
		return re.Match, nil
	}
	b, err := Payload(text)
	return func(answer []byte) bool { return bytes.Contains(answer, b) }, err
}

// Statuses reads a set of HTTP statuses: numbers and ranges with commas between them.
func Statuses(text string) (has func(status int) bool, err error) {
	var ranges [][2]int
	for part := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(part), "-")
		if !isRange {
			last = first
		}
		lo, err := strconv.Atoi(first)
		if err != nil {
			return nil, err
		}
		hi, err := strconv.Atoi(last)
		if err != nil || lo < 100 || hi > 599 || lo > hi {
			return nil, strconv.ErrRange
		}
		ranges = append(ranges, [2]int{lo, hi})
	}
	return func(status int) bool {
		return slices.ContainsFunc(ranges, func(r [2]int) bool { return r[0] <= status && status <= r[1] })
	}, nil
}

// checked is a kind of text that is good if read takes it.
func checkedText(must string, words []string, check func(string) error) kind {
	return kind{must: must, words: words, parse: onText(func(text string) (string, error) {
		if len(text) > maxText {
			return "", strconv.ErrRange
		}
		return text, check(text)
	})}
}

var (
	checkPayload = checkedText(`text, or "hex:" and hex digits`, nil, func(text string) error {
		_, err := Payload(text)
		return err
	})
	checkPattern = checkedText(`text, "hex:" and hex digits, or "re:" and a regular expression (RE2)`, nil, func(text string) error {
		_, err := Pattern(text)
		return err
	})
	checkExpression = checkedText("a regular expression (RE2)", nil, func(text string) error {
		_, err := regexp.Compile(text)
		return err
	})
	checkStatuses = checkedText(`HTTP statuses such as "200-399" or "200,204"`, []string{"200-399"}, func(text string) error {
		_, err := Statuses(text)
		return err
	})
	checkMethod = checkedText("an HTTP method such as GET or HEAD", []string{"GET", "HEAD", "OPTIONS"}, func(text string) error {
		if text == "" || strings.Trim(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
			return strconv.ErrSyntax
		}
		return nil
	})
	checkPath = checkedText(`a path that begins with /, such as "/health?full=1"`, []string{"/"}, func(text string) error {
		if _, err := url.ParseRequestURI(text); err != nil || text[0] != '/' || strings.ContainsFunc(text, unprintable) {
			return strconv.ErrSyntax
		}
		return nil
	})
	checkHost = checkedText("a host name, with or without :PORT", nil, func(text string) error {
		host := text
		if h, port, err := splitPort(text); err == nil && port > 0 {
			host = h
		}
		if text != "" && !hostOK(host) {
			return strconv.ErrSyntax
		}
		return nil
	})
	checkServerName = checkedText("a host name", nil, func(text string) error {
		if text != "" && !hostOK(text) {
			return strconv.ErrSyntax
		}
		return nil
	})
	checkALPN = checkedText(`protocols with commas between them, such as "h2,http/1.1"`, nil, func(text string) error {
		if text == "" {
			return nil
		}
		for p := range strings.SplitSeq(text, ",") {
			if p == "" || len(p) > 255 || strings.ContainsFunc(p, unprintable) {
				return strconv.ErrSyntax
			}
		}
		return nil
	})
)

// checkService: what a gRPC server calls a service is any text to this one.
var checkService = checkedText("the name of a gRPC service", nil, func(text string) error {
	if strings.ContainsFunc(text, unprintable) {
		return strconv.ErrSyntax
	}
	return nil
})

var checkUser = checkedText("the name of a database user", nil, func(text string) error {
	if strings.Contains(text, "\x00") {
		return strconv.ErrSyntax
	}
	return nil
})

// checkCommand wants its first text to be an absolute path: there is no shell, and the PATH
// of a service is not known.
var checkCommand = commandLine()

func commandLine() kind {
	k := textList(`a list of a program's absolute path and its arguments, such as ["/usr/bin/check", "-q"]`, func(string) bool { return true })
	parse := k.parse
	k.parse = func(raw any) (any, bool) {
		x, ok := parse(raw)
		argv, _ := x.([]string)
		return x, ok && !slices.ContainsFunc(argv, func(arg string) bool { return strings.Contains(arg, "\x00") }) &&
			(len(argv) == 0 || filepath.IsAbs(argv[0]))
	}
	return k
}

func unprintable(r rune) bool { return r <= ' ' || r >= 0x7f }

// healthKeys are the keys that only some checks know.
var healthKeys = map[string][]string{
	"send": {CheckTCP}, "expect": {CheckTCP},
	"method": {CheckHTTP, CheckHTTPS}, "path": {CheckHTTP, CheckHTTPS}, "host": {CheckHTTP, CheckHTTPS, CheckGRPC},
	"status": {CheckHTTP, CheckHTTPS}, "body": {CheckHTTP, CheckHTTPS},
	"server_name": {CheckTLS, CheckHTTPS}, "alpn": {CheckTLS}, "verify": {CheckTLS, CheckHTTPS},
	"service": {CheckGRPC}, "user": {CheckPostgres}, "command": {CheckCommand},
}

// checkHealth reports what was set and means nothing to the check that was chosen. A key
// that says the default is no fault: TOML writes them all.
func (b *builder) checkHealth(p Pool) {
	table := pathOf("pool", p.Name) + ".health"
	if p.OnDown == OnDownCut && p.Health.Check == CheckOff {
		b.fault(b.origin[pathOf("pool", p.Name)+".on_down"], "needs checks, in [%s]: without them no backend is ever down", table)
	}
	if p.Health.Check == CheckCommand && len(p.Health.Command) == 0 && !b.isFaulty(table+".command") {
		b.fault(b.origin[table+".check"], `needs command, such as command = ["/usr/bin/check", "-q"]`)
	}
	if _, given := b.origin[table]; !given {
		return
	}
	if i := slices.IndexFunc(p.Backends, func(d Backend) bool { _, is := d.UnixPath(); return is }); i >= 0 && p.Health.Port > 0 {
		b.fault(b.origin[table+".port"], "%s has no ports", p.Backends[i].Address)
	}
	defaults := Pool{Health: defaultHealth()}
	for _, key := range keysOf("pool.*.health") {
		checks, only := healthKeys[key]
		if !only || p.Health.Check == CheckOff || slices.Contains(checks, p.Health.Check) {
			continue
		}
		o, _ := optionAt("pool.*.health." + key)
		if !reflect.DeepEqual(o.field(scope{p: &p}), o.field(scope{p: &defaults})) {
			b.fault(b.origin[table+"."+key], "means nothing to check = %q, only to %s", p.Health.Check, strings.Join(checks, " and "))
		}
	}
}

// isFaulty says whether a key has a fault already.
func (b *builder) isFaulty(key string) bool {
	return slices.ContainsFunc(b.faults, func(f Fault) bool { return f.Key == key })
}

// String is the check in a few words.
func (h Health) String() string {
	text := h.Check
	if h.Port > 0 {
		text += fmt.Sprintf(" port %d", h.Port)
	}
	if h.Check == CheckHTTP || h.Check == CheckHTTPS {
		text += fmt.Sprintf(" %s %s", h.Method, h.Path)
	}
	return fmt.Sprintf("%s every %s within %s, up after %d, down after %d", text, short(h.Interval), short(h.Timeout), h.Rise, h.Fall)
}
