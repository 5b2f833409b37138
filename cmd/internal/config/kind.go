package config

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/cmd/internal/accesslog"
)

// kind is what an option takes. Text is accepted for every kind, since a
// variable or a flag can give nothing else; TOML's numbers and booleans only
// where they are the natural thing to write.
type kind struct {
	must  string                         // completes "must be ..."
	words []string                       // if it is one of few
	parse func(raw any) (x any, ok bool) // raw as TOML decodes it; x has the field's type
	each  func(text string) error        // what is wrong with one element of a list; nil = parse tells
	json  map[string]any                 // the JSON Schema of what is usually written; nil = any text
}

// onText makes a parse function of one that reads text.
func onText[T any](read func(string) (T, error)) func(any) (any, bool) {
	return func(raw any) (any, bool) {
		text, ok := raw.(string)
		if !ok {
			return nil, false
		}
		x, err := read(text)
		return x, err == nil
	}
}

func oneOf(words ...string) kind {
	return kind{
		must:  `one of "` + strings.Join(words, `", "`) + `"`,
		words: words,
		json:  map[string]any{"enum": words},
		parse: func(raw any) (any, bool) {
			text, _ := raw.(string)
			return text, slices.Contains(words, text)
		},
	}
}

func integer(lo, hi int) kind {
	return kind{
		must: fmt.Sprintf("a whole number from %d to %d", lo, hi),
		json: map[string]any{"type": "integer", "minimum": lo, "maximum": hi},
		parse: func(raw any) (any, bool) {
			n, ok := raw.(int64)
			if text, is := raw.(string); is {
				var err error
				n, err = strconv.ParseInt(text, 10, 64)
				ok = err == nil
			}
			return int(n), ok && int64(lo) <= n && n <= int64(hi)
		},
	}
}

var acceptorCount = kind{
	must:  fmt.Sprintf(`"auto" or a whole number from 1 to %d`, maxAcceptors),
	words: []string{"auto"},
	json:  map[string]any{"anyOf": []any{map[string]any{"const": "auto"}, integer(1, maxAcceptors).json}},
	parse: func(raw any) (any, bool) {
		if raw == "auto" {
			return Auto(0), true
		}
		n, ok := integer(1, maxAcceptors).parse(raw)
		return Auto(n.(int)), ok
	},
}

var fraction = kind{
	must: "a number from 0 to 1",
	json: map[string]any{"type": "number", "minimum": 0, "maximum": 1},
	parse: func(raw any) (any, bool) {
		x, ok := number(raw)
		return x, ok && 0 <= x && x <= 1 // NaN is neither
	},
}

func number(raw any) (x float64, ok bool) {
	switch raw := raw.(type) {
	case float64:
		return raw, true
	case int64:
		return float64(raw), true
	case string:
		x, err := strconv.ParseFloat(raw, 64)
		return x, err == nil
	}
	return 0, false
}

var boolean = kind{
	must:  "true or false",
	words: []string{"true", "false"},
	json:  map[string]any{"type": "boolean"},
	parse: func(raw any) (any, bool) {
		if b, is := raw.(bool); is {
			return b, true
		}
		return raw == "true", raw == "true" || raw == "false"
	},
}

// duration takes lo to hi. Where lo is 0, "0s" has a meaning of its own.
func duration(lo, hi time.Duration) kind {
	return kind{
		must: fmt.Sprintf(`a duration such as "5s", from %s to %s`, short(lo), short(hi)),
		json: map[string]any{"type": "string", "pattern": `^([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+$|^0$`},
		parse: onText(func(text string) (time.Duration, error) {
			d, err := time.ParseDuration(text)
			if err == nil && (d < lo || d > hi) {
				err = strconv.ErrRange
			}
			return d, err
		}),
	}
}

// orListener takes a duration, or the word for that of the listener.
func orListener(lo, hi time.Duration) kind {
	d := duration(lo, hi)
	return kind{
		must:  `"` + wordListener + `" or ` + d.must,
		words: []string{wordListener},
		parse: func(raw any) (any, bool) {
			if raw == wordListener {
				return AsListener, true
			}
			x, ok := d.parse(raw)
			if !ok {
				return nil, false
			}
			return OrListener(x.(time.Duration)), true
		},
	}
}

// byteSize takes a number of bytes from lo to hi, or 0. A text may give it in KiB or MiB.
func byteSize(lo, hi int) kind {
	return kind{
		must: fmt.Sprintf(`0, or a number of bytes from %d to %d, such as 262144 or "256KiB"`, lo, hi),
		json: map[string]any{"anyOf": []any{
			map[string]any{"type": "integer", "minimum": 0, "maximum": hi}, map[string]any{"type": "string", "pattern": "^[0-9]+(KiB|MiB)?$"},
		}},
		parse: func(raw any) (any, bool) {
			unit := 1
			if text, is := raw.(string); is {
				if digits, cut := strings.CutSuffix(text, "KiB"); cut {
					raw, unit = digits, 1<<10
				} else if digits, cut := strings.CutSuffix(text, "MiB"); cut {
					raw, unit = digits, 1<<20
				}
			}
			n, ok := integer(0, hi/unit).parse(raw)
			size, _ := n.(int)
			size *= unit
			return size, ok && (size == 0 || size >= lo)
		},
	}
}

// short writes a duration without the zero units at its end: 10m, not 10m0s.
func short(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// address is one to listen on. Names are refused: they may have several
// addresses, and it is not clear which one is meant.
var address = kind{
	must: `IP:PORT or :PORT, such as "127.0.0.1:8080", "[::1]:8080" or ":8080"`,
	parse: onText(func(text string) (string, error) {
		_, err := parseAddress(text)
		return text, err
	}),
}

// parseAddress reads IP:PORT or :PORT; the latter has no valid Addr.
func parseAddress(text string) (netip.AddrPort, error) {
	host, port, err := splitPort(text)
	if err != nil || host == "" {
		return netip.AddrPortFrom(netip.Addr{}, port), err
	}
	ip, err := parseIP(host)
	return netip.AddrPortFrom(ip, port), err
}

// parseIP reads an address; IPv4 in IPv6's clothes comes out as IPv4. A zone may
// be the name or number of a network interface.
func parseIP(text string) (netip.Addr, error) {
	ip, err := netip.ParseAddr(text)
	if err == nil && ip.Zone() != "" && !dottedName(ip.Zone()) {
		err = strconv.ErrSyntax
	}
	return ip.Unmap(), err
}

// splitPort takes HOST:PORT apart; the port must be a plain number.
func splitPort(text string) (host string, port uint16, err error) {
	host, digits, err := net.SplitHostPort(text)
	if err != nil {
		return "", 0, err
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	return host, uint16(n), err
}

// optional lets a text be empty as well.
func optional(k kind, empty string) kind {
	parse := k.parse
	k.must += ", or " + empty
	k.parse = func(raw any) (any, bool) {
		if raw == "" {
			return "", true
		}
		return parse(raw)
	}
	return k
}

// nameRule holds for names of listeners and pools. They are metric labels and
// parts of paths in error messages; 63 is what a DNS label may have.
var nameRule = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,63}$`)

const nameMust = "1 to 63 letters, digits, _ or -"

// dottedName is nameRule for host names and the like.
func dottedName(text string) bool {
	return nameRule.MatchString(strings.ReplaceAll(text, ".", "-"))
}

var accessPlace = kind{
	must:  `"stdout", an absolute path, "syslog:udp:HOST:PORT", "syslog:tcp:HOST:PORT" or "syslog:unix:PATH"`,
	words: []string{accesslog.Stdout},
	parse: onText(func(text string) (string, error) { return text, accesslog.CheckPlace(text) }),
}

var accessFormat = kind{
	must:  `"json", "text" or a template with fields such as "{time} {client} {reason}", of ` + strings.Join(accesslog.FieldNames(), ", "),
	words: []string{accesslog.JSON, accesslog.Text},
	parse: onText(func(text string) (string, error) {
		_, err := accesslog.ParseFormat(text)
		return text, err
	}),
}

var poolName = kind{
	must:  `the name of a pool, such as "web" for [pool.web]`,
	parse: onText(func(text string) (string, error) { return text, nil }),
}

// instanceName may be a host name, therefore the dots.
var instanceName = kind{
	must: "at most 63 letters, digits, _, - or .",
	parse: func(raw any) (any, bool) {
		text, ok := raw.(string)
		return text, ok && (text == "" || dottedName(text))
	},
}

// backendList is only named here: its elements are faulty one by one, see
// builder.setBackends.
var backendList = kind{
	must: `a list of backends, such as ["10.0.0.1:8080", "10.0.0.2:8080 weight=2"]`,
	json: map[string]any{"type": "array", "items": map[string]any{"type": "string"}},
}

// textList takes a list of texts, each of which is ok. As text it stands in one, with
// blanks between.
func textList(must string, ok func(string) bool) kind {
	return kind{
		must: must,
		json: map[string]any{"type": "array", "items": map[string]any{"type": "string"}},
		parse: func(raw any) (any, bool) {
			var all []string
			switch raw := raw.(type) {
			case string:
				all = strings.Fields(raw)
			case []any:
				for _, e := range raw {
					text, _ := e.(string)
					all = append(all, text)
				}
			default:
				return nil, false
			}
			if len(all) == 0 { // written or not, it is the same
				return []string(nil), true
			}
			return all, !slices.ContainsFunc(all, func(text string) bool { return !ok(text) })
		},
	}
}

var dnsServers = textList(`a list of IP or IP:PORT, such as ["10.0.0.2", "[fd00::2]:5353"]`, func(text string) bool {
	_, err := ParseServer(text)
	return err == nil
})

// ParseServer reads the address of a name server; without a port it is 53.
func ParseServer(text string) (netip.AddrPort, error) {
	if ip, err := parseIP(text); err == nil {
		return netip.AddrPortFrom(ip, 53), nil
	}
	a, err := parseAddress(text)
	if err == nil && (!a.Addr().IsValid() || a.Port() == 0) {
		err = strconv.ErrSyntax
	}
	return a, err
}

var searchList = textList(`a list of domains, such as ["prod.example.com"], or ["."] for none`, func(text string) bool {
	return text == "." || len(text) < 254 && dottedName(strings.ReplaceAll(strings.TrimSuffix(text, "."), ".", ""))
})

// show writes a raw value as an error message quotes it.
func show(raw any) string {
	switch raw := raw.(type) {
	case string:
		return strconv.Quote(raw)
	case map[string]any:
		return "a table"
	case []map[string]any:
		return "an array of tables, [[ ]]"
	case []any:
		texts := make([]string, len(raw))
		for i, e := range raw {
			text, is := e.(string)
			if !is {
				return "an array"
			}
			texts[i] = strconv.Quote(text)
		}
		return "[" + strings.Join(texts, ", ") + "]"
	case time.Time:
		return "a date"
	case float64:
		text := fmt.Sprint(raw)
		if !strings.ContainsAny(text, ".eIN") {
			text += ".0" // not the whole number that was asked for
		}
		return text
	default:
		return fmt.Sprint(raw)
	}
}
