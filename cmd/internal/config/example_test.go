package config

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const exampleFile = "../../../config.example.toml"

// Every value of the example is the default, every key is in it, and behind each stands
// what a reload does with it.
func TestExampleIsTheDefault(t *testing.T) {
	got, _, err := Load(exampleFile, nil)
	if err != nil {
		t.Fatal(err)
	}
	listener := DefaultListener("web")
	listener.Bind, listener.Pool = ":8080", "web"
	pool := DefaultPool("web")
	pool.Backends = []Backend{
		{Address: "10.0.0.1:8080", Weight: 1},
		{Address: "10.0.0.2:8080", Weight: 2},
		{Address: "10.0.0.3:8080", Weight: 1, Backup: true},
	}
	want := Default()
	routed := DefaultListener("tls")
	routed.Bind, routed.Pool = ":8443", "web"
	routed.Routes = []Route{{Name: "api", Pool: "web", SNI: []string{"api.example.com", "*.api.example.com"}}}
	want.Listeners, want.Pools = []Listener{listener, routed}, []Pool{pool}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the example says\n%+v\nthe defaults are\n%+v", got, want)
	}

	data, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	at := scan(text).at
	for _, o := range options {
		off, there := at[strings.NewReplacer("*.route.*", "tls.route.api", "*", "web").Replace(o.path)]
		if !there {
			t.Errorf("%s is not in the example", o.path)
			continue
		}
		line, _, _ := strings.Cut(text[off:], "\n")
		if comment := line[strings.LastIndex(line, " # ")+1:]; comment != "# "+string(o.apply.apply) {
			t.Errorf("%s is %s by the options and %q by the example", o.path, o.apply.apply, comment)
		}
	}
}

// Every option says what a reload does with it, and why if that is nothing.
func TestEveryOptionApplies(t *testing.T) {
	for _, o := range options {
		switch known := []Apply{Live, Rebind, Restart}; {
		case !slices.Contains(known, o.apply.apply):
			t.Errorf("%s: a reload does %q with it", o.path, o.apply.apply)
		case (o.apply.apply == Restart) != (o.apply.why != ""):
			t.Errorf("%s: %s, because %q", o.path, o.apply.apply, o.apply.why)
		}
	}
}

// The shortest file, as the example's head shows it.
func TestExampleHead(t *testing.T) {
	data, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	var short strings.Builder
	for line := range strings.Lines(string(data)) {
		if code, is := strings.CutPrefix(line, "#     "); is {
			short.WriteString(code)
		}
	}
	c, err := Parse("short.toml", []byte(short.String()), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Listeners) != 1 || len(c.Pools) != 1 || len(c.Pools[0].Backends) != 2 {
		t.Errorf("read as %+v", c)
	}
}

// What TOML writes, Parse reads: for any Config that can be written at all.
func TestTOMLRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawConfig(t)
		text := want.TOML()
		got, err := Parse("drawn.toml", []byte(text), nil)
		if err != nil {
			t.Fatalf("%v\nin\n%s", err, text)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v\nbecame\n%+v\nby\n%s", want, got, text)
		}
	})
}

// drawConfig sets every option to something its kind takes, and then what must
// fit together.
func drawConfig(t *rapid.T) Config {
	c := Default()
	b := newBuilder(nil)
	for i, name := range []string{"web", "data-base_2"} {
		l, p, r := DefaultListener(name), DefaultPool(name), Route{Name: "a"}
		for _, o := range options {
			if text, draws := drawText(t, o); draws {
				b.set(o, scope{&c, &l, &p, &r}, text, Fault{Key: o.path})
			}
		}
		r.Pool, r.Source = name, []string{"10.0.0.0/8"}
		l.Routes = []Route{r}
		fitPreamble(&l, &p)
		l.Bind, l.Pool = []string{"127.0.0.1:80", "[::1%eth0.7]:80"}[i], name
		l.IPv6Only = l.IPv6Only && name != "web"
		if name == "web" && l.ProxyProtocol == ProxyRequired {
			l.Bind += " unix:/run/web.sock"
		} else {
			l.SocketMode, l.SocketUser, l.SocketGroup = DefaultListener("").SocketMode, "", ""
		}
		if p.Keepalive == AsListener {
			p.KeepaliveInterval, p.KeepaliveCount = 0, DefaultPool("").KeepaliveCount
		}
		if l.Limit.Rate == 0 {
			l.Limit.Burst = 0
		}
		if l.Limit.SourceRate == 0 {
			l.Limit.SourceBurst = 0
		}
		for _, r := range []*ByteRate{&l.Bandwidth.Upload, &l.Bandwidth.Download, &l.Bandwidth.TotalUpload, &l.Bandwidth.TotalDownload} {
			if r.Burst = max(r.Burst, r.Rate/leastOfRate+1); r.Rate == 0 {
				r.Burst = 0
			}
		}
		if p.Queue == 0 {
			p.QueueTimeout = DefaultPool("").QueueTimeout
		} else if p.MaxSessions == 0 {
			p.MaxSessions = 1
		}
		if p.Pick != PickSourceHash {
			p.MaxLoad = 0
		}
		p.Transparent = p.Transparent && len(p.Source) == 0
		p.Health = fitting(p.Health)
		if p.Health.Check == CheckCommand && len(p.Health.Command) == 0 {
			p.Health.Command = []string{"/bin/true", "a b"}
		}
		if p.Health.Check == CheckOff {
			p.OnDown = OnDownStay
		}
		p.Ejection.MaxTime = max(p.Ejection.Time, p.Ejection.MaxTime)
		if p.Pick == PickSourceHash {
			p.Rebalance.PerSecond = 0
		}
		p.Backends = rapid.SliceOfNDistinct(rapid.Custom(drawBackend), 1, 4,
			func(b Backend) string { return b.Address }).Draw(t, "backends")
		p.Backends[0].Backup = false
		p.Backends[0].Address = "db9:1" // any source may reach a name
		c.Listeners, c.Pools = append(c.Listeners, l), append(c.Pools, p)
	}
	c.Admin.AllowWrite = c.Admin.AllowWrite && c.Admin.Token != ""
	c.DNS.TTLMax = max(c.DNS.TTLMax, c.DNS.TTLMin)
	if len(b.faults) > 0 {
		t.Fatal(b.faults)
	}
	return c
}

// fitPreamble makes what is said of the start of sessions fit together.
func fitPreamble(l *Listener, p *Pool) {
	if l.ProxyProtocol == ProxyOff {
		l.ProxyProtocolFrom = nil
	} else if len(l.ProxyProtocolFrom) == 0 {
		l.ProxyProtocolFrom = []string{"::/0"}
	}
	if l.Buffer > 0 {
		l.Buffer = max(l.Buffer, minPreambleBuffer)
	}
	if p.SendProxy != SendProxyV2 {
		p.SendProxyTLVs = nil
	}
	if len(l.Routes[0].SNI)+len(l.Routes[0].ALPN) == 0 {
		l.StartTLS = StartTLSOff
	}
}

// fitting is h with the default of every key that means nothing to its check.
func fitting(h Health) Health {
	p, defaults := Pool{Health: h}, Pool{Health: defaultHealth()}
	for key, checks := range healthKeys {
		if o, _ := optionAt("pool.*.health." + key); h.Check != CheckOff && !slices.Contains(checks, h.Check) {
			reflect.ValueOf(o.field(scope{p: &p})).Elem().Set(reflect.ValueOf(o.field(scope{p: &defaults})).Elem())
		}
	}
	return p.Health
}

// drawText draws one of the texts that the option's kind takes.
func drawText(t *rapid.T, o option) (text string, draws bool) {
	if o.kind.parse == nil { // a list; see drawBackend
		return "", false
	}
	legal := slices.Clone(o.kind.words)
	for _, text := range []string{"1", "7", "64", "0600", "0", "0.25", "0s", "1500ms", "90s", "10m", "1h", "host-1.example", "", "10.1.2.3", "[::1]:9999", "/var/log/a \"b\"", `{{"c\\": "{client}", "$x": "{reason}"}}`} {
		if _, ok := o.kind.parse(text); ok {
			legal = append(legal, text)
		}
	}
	return rapid.SampledFrom(legal).Draw(t, o.path), true
}

func drawBackend(t *rapid.T) Backend {
	return Backend{
		Address: rapid.SampledFrom([]string{"db1", "a.b.example.", "10.0.0.1", "[fd00::1]", "docker_name"}).Draw(t, "host") + ":" +
			rapid.StringMatching(`[1-9][0-9]{0,3}`).Draw(t, "port"),
		Weight:      rapid.IntRange(1, maxWeight).Draw(t, "weight"),
		Backup:      rapid.Bool().Draw(t, "backup"),
		MaxSessions: rapid.IntRange(0, 9).Draw(t, "max_sessions"),
	}
}
