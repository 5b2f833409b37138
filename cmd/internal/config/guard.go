package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"sluice/cmd/internal/discovery"
	"sluice/proxy/access"
)

// Access says who may connect to a listener: of the prefixes that contain a client's
// address the longest counts, and deny where it is in both. With an allow list only
// clients on it may connect.
type Access struct {
	Allow, Deny         []string // prefixes, addresses
	AllowFile, DenyFile string   // absolute paths of lists of the same; "" = none
	Refuse              string   // one of the Refuse words
}

// The words of refuse.
const (
	RefuseRST    = "rst"
	RefuseFIN    = "fin"
	RefuseSilent = "silent"
)

// Limited says whether any client may not connect.
func (a Access) Limited() bool { return a.Only() || len(a.Deny) > 0 || a.DenyFile != "" }

// Only says whether only those that allow names may connect.
func (a Access) Only() bool { return len(a.Allow) > 0 || a.AllowFile != "" }

// Limit bounds new sessions, over all acceptors. 0 = no limit.
type Limit struct {
	Rate, Burst             int // new sessions a second, and at once; a Burst of 0 is a second's
	SourceSessions          int // of one source, at a time
	SourceRate, SourceBurst int // the same of one source
	SourceIPv4, SourceIPv6  int // lengths of the prefix that is one source
	Over                    string
}

// bars says whether sessions wait for others of their source to end.
func (l Limit) bars() bool { return l.SourceSessions > 0 && l.Over == OverDelay }

// The words of over.
const (
	OverRefuse = "refuse"
	OverDelay  = "delay"
)

const (
	maxRate  = 1_000_000 // an accept alone takes longer than a microsecond
	maxBurst = 1_000_000
)

// defaultLimit bounds nothing. Where something is bounded a source is an IPv4 address, or a
// network of IPv6, of which each client may take any address.
func defaultLimit() Limit { return Limit{SourceIPv4: 32, SourceIPv6: 64, Over: OverRefuse} }

// checkLimit reports bursts of what has no rate.
func (b *builder) checkLimit(l Listener) {
	table := pathOf("listener", l.Name)
	if l.Limit.Rate == 0 && l.Limit.Burst > 0 {
		b.fault(b.origin[table+".burst"], "needs rate, such as rate = 100: without it nothing is limited")
	}
	if l.Limit.SourceRate == 0 && l.Limit.SourceBurst > 0 {
		b.fault(b.origin[table+".source_burst"], "needs source_rate, such as source_rate = 10: without it nothing is limited")
	}
}

// String is the limits in a few words; "" = there are none.
func (l Limit) String() string {
	var all []string
	for _, x := range []struct {
		n    int
		text string
	}{{l.Rate, "%d new a second"}, {l.SourceSessions, "%d sessions of a source"}, {l.SourceRate, "%d new a second of a source"}} {
		if x.n > 0 {
			all = append(all, fmt.Sprintf(x.text, x.n))
		}
	}
	if len(all) > 0 && l.Over == OverDelay {
		all = append(all, "others wait")
	}
	return strings.Join(all, ", ")
}

// String is the access in a few words.
func (a Access) String() string {
	var lists []string
	for _, l := range []struct {
		name, file string
		n          int
	}{{"allow", a.AllowFile, len(a.Allow)}, {"deny", a.DenyFile, len(a.Deny)}} {
		if l.n > 0 {
			lists = append(lists, fmt.Sprintf("%s %d", l.name, l.n))
		}
		if l.file != "" {
			lists = append(lists, l.name+" "+l.file)
		}
	}
	return strings.Join(lists, " and ") + ", refused by " + a.Refuse
}

var prefixList = kind{
	must: `a list of addresses and prefixes, such as ["10.0.0.0/8", "fd00::1"]`,
	json: map[string]any{"type": "array", "items": map[string]any{"type": "string"}},
	each: func(text string) error {
		_, err := access.ParsePrefix(text)
		return err
	},
	parse: textList("", func(text string) bool {
		_, err := access.ParsePrefix(text)
		return err == nil
	}).parse,
}

var filePath = kind{
	must: `an absolute path, or ""`,
	parse: onText(func(text string) (string, error) {
		if text != "" && !filepath.IsAbs(text) {
			return text, errors.New("not absolute")
		}
		return text, nil
	}),
}

// checkAccess reports lists of prefixes that cannot be taken: a service without them would
// let in clients that it should not.
func (b *builder) checkAccess(l Listener) {
	table := pathOf("listener", l.Name)
	for _, f := range []struct{ key, path string }{{"allow_file", l.Access.AllowFile}, {"deny_file", l.Access.DenyFile}} {
		if f.path == "" {
			continue
		}
		data, err := discovery.ReadRegular(f.path)
		if err == nil {
			_, err = access.ParseList(data)
		}
		if err != nil {
			b.fault(b.origin[table+"."+f.key], "%s: %v", f.path, err)
		}
	}
}

// each looks at the elements of a list one by one: a fault says where it stands.
func (f *file) each(o option, list []any, at Fault) (ok bool) {
	ok = true
	for i, e := range list {
		place := f.place(elementKey(at.Key, i))
		text, is := e.(string)
		if !is {
			f.fault(place, "must be text; got %s", show(e))
			ok = false
			continue
		}
		text, err := expand(text, f.lookup)
		if err == nil && text != "" {
			err = o.kind.each(text)
		}
		if err != nil {
			f.fault(place, "%v", err)
			ok = false
		}
	}
	return ok
}
