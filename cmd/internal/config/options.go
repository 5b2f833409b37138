package config

import (
	"math"
	"slices"
	"strings"
	"time"

	"sluice/cmd/internal/accesslog"
)

// option is one key that may be set.
type option struct {
	path  string          // dotted; * stands for the name of a listener or pool
	apply effect          // what a reload does with it
	kind  kind            // what it takes
	field func(scope) any // pointer to where it goes
}

// scope is what a key's path has led to: always the Config, and inside
// [listener.NAME], [listener.NAME.route.NAME] or [pool.NAME] that one.
type scope struct {
	c *Config
	l *Listener
	p *Pool
	r *Route
}

// Bounds with a reason of their own; the others only catch slips of the keyboard.
const (
	maxSessions    = 1 << 24                     // each takes two descriptors; fs.nr_open is 2^20 unless raised
	maxBacklog     = math.MaxUint16              // a queue this long is not worth its wait
	maxRetries     = 10                          // a pool that needs more is down
	maxLife        = 30 * 24 * time.Hour         // more than that means no limit, which is 0
	maxConnect     = 2 * time.Minute             // the kernel itself gives up after 127 s
	maxKeepalive   = math.MaxInt16 * time.Second // TCP_KEEPIDLE
	maxProbes      = math.MaxInt8                // TCP_KEEPCNT
	maxUserTimeout = 24 * time.Hour
	maxDefer       = 3 * time.Minute       // the kernel counts repeated SYN-ACKs, which end after about so long
	minBuffer      = 4 << 10               // less than a page holds no segment of loopback
	maxBuffer      = 1 << 30               // net.core.rmem_max cuts it far below
	minWait        = 10 * time.Millisecond // less than that means another unit
	maxResolve     = 24 * time.Hour
	maxHang        = time.Minute
	maxLookup      = time.Minute // resolv.conf has at most 30 s
	maxLookups     = 256
	maxSeries      = 65536 // metrics.MaxTargets
	maxSlowStart   = time.Hour
	maxQueue       = 4096 // metrics.MaxQueue
	maxQueueing    = time.Hour
)

// options is the source of truth for keys: reading, suggestions, flags,
// rendering, differences and the test of config.example.toml go by it.
var options = []option{
	{"instance", restart("it names every series, and a counter keeps its name for life"), instanceName, func(s scope) any { return &s.c.Instance }},

	{"acceptors.count", live, acceptorCount, func(s scope) any { return &s.c.Acceptors.Count }},
	{"acceptors.mode", restart("sessions cannot move between threads and processes"), oneOf(ModeGoroutine, ModeProcess), func(s scope) any { return &s.c.Acceptors.Mode }},
	{"acceptors.steering", live, oneOf(SteeringAuto, SteeringLeast, SteeringRoundRobin, SteeringCPU, SteeringHash), func(s scope) any { return &s.c.Acceptors.Steering }},
	{"acceptors.scheduling", restart("decided when an acceptor starts"), oneOf(SchedulingAuto, SchedulingBatch, SchedulingNormal), func(s scope) any { return &s.c.Acceptors.Scheduling }},
	{"acceptors.pin_cpus", restart("an acceptor's CPU is chosen when it starts"), boolean, func(s scope) any { return &s.c.Acceptors.PinCPUs }},
	{"acceptors.hang_after", live, duration(minWait, maxHang), func(s scope) any { return &s.c.Acceptors.HangAfter }},

	{"admin.listen", restart("the admin endpoint is opened once, at the start"), optional(address, `""`), func(s scope) any { return &s.c.Admin.Listen }},
	{"admin.socket", restart("the admin socket is opened once, at the start"), socketPath, func(s scope) any { return &s.c.Admin.Socket }},
	{"admin.metrics", live, oneOf(MetricsFull, MetricsCompact), func(s scope) any { return &s.c.Admin.Metrics }},
	{"admin.address_series", live, integer(0, maxSeries), func(s scope) any { return &s.c.Admin.AddressSeries }},
	{"admin.ready", live, oneOf(ReadyListening, ReadyBackend), func(s scope) any { return &s.c.Admin.Ready }},
	{"admin.allow_write", live, boolean, func(s scope) any { return &s.c.Admin.AllowWrite }},
	{"admin.token", live, tokenPlace, func(s scope) any { return &s.c.Admin.Token }},

	{"reload.watch", live, boolean, func(s scope) any { return &s.c.Reload.Watch }},

	{"log.level", live, oneOf("debug", "info", "warn", "error"), func(s scope) any { return &s.c.Log.Level }},
	{"log.format", restart("who reads the log relies on one form of it"), oneOf("auto", "text", "json"), func(s scope) any { return &s.c.Log.Format }},

	{"log.access", live, oneOf(accesslog.Off, accesslog.Errors, accesslog.All), func(s scope) any { return &s.c.Log.Access }},
	{"log.access_to", live, accessPlace, func(s scope) any { return &s.c.Log.AccessTo }},
	{"log.access_format", live, accessFormat, func(s scope) any { return &s.c.Log.AccessFormat }},
	{"log.access_sample", live, fraction, func(s scope) any { return &s.c.Log.AccessSample }},
	{"log.access_start", live, boolean, func(s scope) any { return &s.c.Log.AccessStart }},
	{"log.access_skip_empty", live, boolean, func(s scope) any { return &s.c.Log.AccessSkipEmpty }},
	{"log.trace", live, boolean, func(s scope) any { return &s.c.Log.Trace }},

	{"limits.max_sessions", live, integer(0, maxSessions), func(s scope) any { return &s.c.Limits.MaxSessions }},
	{"limits.drain_delay", live, duration(0, maxLife), func(s scope) any { return &s.c.Limits.DrainDelay }},
	{"limits.drain_timeout", live, duration(0, maxLife), func(s scope) any { return &s.c.Limits.DrainTimeout }},

	{"dns.servers", live, dnsServers, func(s scope) any { return &s.c.DNS.Servers }},
	{"dns.search", live, searchList, func(s scope) any { return &s.c.DNS.Search }},
	{"dns.timeout", live, duration(0, maxLookup), func(s scope) any { return &s.c.DNS.Timeout }},
	{"dns.attempts", live, integer(0, maxRetries), func(s scope) any { return &s.c.DNS.Attempts }},
	{"dns.ttl_min", live, duration(100*time.Millisecond, maxResolve), func(s scope) any { return &s.c.DNS.TTLMin }},
	{"dns.ttl_max", live, duration(time.Second, maxResolve), func(s scope) any { return &s.c.DNS.TTLMax }},
	{"dns.hold", live, duration(0, maxLife), func(s scope) any { return &s.c.DNS.Hold }},
	{"dns.concurrency", live, integer(2, maxLookups), func(s scope) any { return &s.c.DNS.Concurrency }},

	{"listener.*.bind", rebind, bindList, func(s scope) any { return &s.l.Bind }},
	{"listener.*.pool", live, poolName, func(s scope) any { return &s.l.Pool }},
	{"listener.*.relay", live, oneOf(RelayAuto, RelaySplice, RelayCopy), func(s scope) any { return &s.l.Relay }},
	{"listener.*.backlog", rebind, integer(0, maxBacklog), func(s scope) any { return &s.l.Backlog }},
	{"listener.*.max_sessions", live, integer(0, maxSessions), func(s scope) any { return &s.l.MaxSessions }},
	{"listener.*.wait_for_backend", live, duration(0, maxLife), func(s scope) any { return &s.l.WaitForBackend }},
	{"listener.*.max_waiting", live, integer(1, maxSessions), func(s scope) any { return &s.l.MaxWaiting }},
	{"listener.*.idle_timeout", live, duration(0, maxLife), func(s scope) any { return &s.l.IdleTimeout }},
	{"listener.*.half_closed_timeout", live, duration(0, maxLife), func(s scope) any { return &s.l.HalfClosedTimeout }},
	{"listener.*.first_byte_timeout", live, duration(0, maxLife), func(s scope) any { return &s.l.FirstByteTimeout }},
	{"listener.*.max_duration", live, duration(0, maxLife), func(s scope) any { return &s.l.MaxDuration }},
	{"listener.*.max_duration_jitter", live, fraction, func(s scope) any { return &s.l.MaxDurationJitter }},
	{"listener.*.keepalive", rebind, duration(0, maxKeepalive), func(s scope) any { return &s.l.Keepalive }},
	{"listener.*.keepalive_interval", rebind, duration(0, maxKeepalive), func(s scope) any { return &s.l.KeepaliveInterval }},
	{"listener.*.keepalive_count", rebind, integer(1, maxProbes), func(s scope) any { return &s.l.KeepaliveCount }},
	{"listener.*.user_timeout", rebind, duration(0, maxUserTimeout), func(s scope) any { return &s.l.UserTimeout }},
	{"listener.*.buffer", rebind, byteSize(minBuffer, maxBuffer), func(s scope) any { return &s.l.Buffer }},
	{"listener.*.fastopen", rebind, integer(0, maxBacklog), func(s scope) any { return &s.l.FastOpen }},
	{"listener.*.defer_accept", rebind, duration(0, maxDefer), func(s scope) any { return &s.l.DeferAccept }},
	{"listener.*.congestion", rebind, congestion, func(s scope) any { return &s.l.Congestion }},
	{"listener.*.tos", rebind, integer(0, 255), func(s scope) any { return &s.l.TOS }},
	{"listener.*.mark", rebind, integer(0, math.MaxInt32), func(s scope) any { return &s.l.Mark }},
	{"listener.*.interface", rebind, interfaceName, func(s scope) any { return &s.l.Interface }},
	{"listener.*.netns", rebind, netnsName, func(s scope) any { return &s.l.Netns }},
	{"listener.*.freebind", rebind, boolean, func(s scope) any { return &s.l.Freebind }},
	{"listener.*.ipv6_only", rebind, boolean, func(s scope) any { return &s.l.IPv6Only }},
	{"listener.*.mptcp", rebind, boolean, func(s scope) any { return &s.l.MPTCP }},
	{"listener.*.socket_mode", live, fileMode, func(s scope) any { return &s.l.SocketMode }},
	{"listener.*.socket_user", live, accountName, func(s scope) any { return &s.l.SocketUser }},
	{"listener.*.socket_group", live, accountName, func(s scope) any { return &s.l.SocketGroup }},
	{"listener.*.share", rebind, boolean, func(s scope) any { return &s.l.Share }},
	{"listener.*.proxy_protocol", live, oneOf(ProxyOff, ProxyOptional, ProxyRequired), func(s scope) any { return &s.l.ProxyProtocol }},
	{"listener.*.proxy_protocol_from", live, prefixList, func(s scope) any { return &s.l.ProxyProtocolFrom }},
	{"listener.*.starttls", live, oneOf(StartTLSOff, StartTLSPostgres), func(s scope) any { return &s.l.StartTLS }},
	{"listener.*.preamble_timeout", live, duration(minWait, maxPreamble), func(s scope) any { return &s.l.PreambleTimeout }},

	{"listener.*.route.*.pool", live, poolName, func(s scope) any { return &s.r.Pool }},
	{"listener.*.route.*.sni", live, sniList, func(s scope) any { return &s.r.SNI }},
	{"listener.*.route.*.alpn", live, alpnList, func(s scope) any { return &s.r.ALPN }},
	{"listener.*.route.*.source", live, prefixList, func(s scope) any { return &s.r.Source }},

	{"listener.*.allow", live, prefixList, func(s scope) any { return &s.l.Access.Allow }},
	{"listener.*.deny", live, prefixList, func(s scope) any { return &s.l.Access.Deny }},
	{"listener.*.allow_file", live, filePath, func(s scope) any { return &s.l.Access.AllowFile }},
	{"listener.*.deny_file", live, filePath, func(s scope) any { return &s.l.Access.DenyFile }},
	{"listener.*.refuse", live, oneOf(RefuseRST, RefuseFIN, RefuseSilent), func(s scope) any { return &s.l.Access.Refuse }},
	{"listener.*.rate", live, integer(0, maxRate), func(s scope) any { return &s.l.Limit.Rate }},
	{"listener.*.burst", live, integer(0, maxBurst), func(s scope) any { return &s.l.Limit.Burst }},
	{"listener.*.source_sessions", live, integer(0, maxSessions-1), func(s scope) any { return &s.l.Limit.SourceSessions }},
	{"listener.*.source_rate", live, integer(0, maxRate), func(s scope) any { return &s.l.Limit.SourceRate }},
	{"listener.*.source_burst", live, integer(0, maxBurst), func(s scope) any { return &s.l.Limit.SourceBurst }},
	{"listener.*.source_ipv4", live, integer(1, 32), func(s scope) any { return &s.l.Limit.SourceIPv4 }},
	{"listener.*.source_ipv6", live, integer(1, 128), func(s scope) any { return &s.l.Limit.SourceIPv6 }},
	{"listener.*.upload_rate", live, bandwidth, func(s scope) any { return &s.l.Bandwidth.Upload.Rate }},
	{"listener.*.upload_burst", live, bandwidthBurst, func(s scope) any { return &s.l.Bandwidth.Upload.Burst }},
	{"listener.*.download_rate", live, bandwidth, func(s scope) any { return &s.l.Bandwidth.Download.Rate }},
	{"listener.*.download_burst", live, bandwidthBurst, func(s scope) any { return &s.l.Bandwidth.Download.Burst }},
	{"listener.*.total_upload_rate", live, bandwidth, func(s scope) any { return &s.l.Bandwidth.TotalUpload.Rate }},
	{"listener.*.total_upload_burst", live, bandwidthBurst, func(s scope) any { return &s.l.Bandwidth.TotalUpload.Burst }},
	{"listener.*.total_download_rate", live, bandwidth, func(s scope) any { return &s.l.Bandwidth.TotalDownload.Rate }},
	{"listener.*.total_download_burst", live, bandwidthBurst, func(s scope) any { return &s.l.Bandwidth.TotalDownload.Burst }},
	{"listener.*.over", live, oneOf(OverRefuse, OverDelay), func(s scope) any { return &s.l.Limit.Over }},

	{"pool.*.backends", live, backendList, func(s scope) any { return &s.p.Backends }},
	{"pool.*.backends_file", live, filePath, func(s scope) any { return &s.p.BackendsFile }},
	{"pool.*.pick", live, oneOf(PickRoundRobin, PickLeastSessions, PickSourceHash, PickRandom2, PickFirst, PickFastest), func(s scope) any { return &s.p.Pick }},
	{"pool.*.max_load", live, maxLoad, func(s scope) any { return &s.p.MaxLoad }},
	{"pool.*.max_sessions", live, integer(0, maxSessions), func(s scope) any { return &s.p.MaxSessions }},
	{"pool.*.queue", live, integer(0, maxQueue), func(s scope) any { return &s.p.Queue }},
	{"pool.*.queue_timeout", live, duration(minWait, maxQueueing), func(s scope) any { return &s.p.QueueTimeout }},
	{"pool.*.connect_timeout", live, duration(minWait, maxConnect), func(s scope) any { return &s.p.ConnectTimeout }},
	{"pool.*.retries", live, integer(0, maxRetries), func(s scope) any { return &s.p.Retries }},
	{"pool.*.retry_budget", live, fraction, func(s scope) any { return &s.p.RetryBudget }},
	{"pool.*.resolve_interval", live, duration(0, maxResolve), func(s scope) any { return &s.p.ResolveInterval }},
	{"pool.*.keepalive", live, orListener(0, maxKeepalive), func(s scope) any { return &s.p.Keepalive }},
	{"pool.*.keepalive_interval", live, duration(0, maxKeepalive), func(s scope) any { return &s.p.KeepaliveInterval }},
	{"pool.*.keepalive_count", live, integer(1, maxProbes), func(s scope) any { return &s.p.KeepaliveCount }},
	{"pool.*.user_timeout", live, orListener(0, maxUserTimeout), func(s scope) any { return &s.p.UserTimeout }},
	{"pool.*.source", live, sourceAddresses, func(s scope) any { return &s.p.Source }},
	{"pool.*.source_ports", live, sourcePorts, func(s scope) any { return &s.p.SourcePorts }},
	{"pool.*.transparent", live, boolean, func(s scope) any { return &s.p.Transparent }},
	{"pool.*.mptcp", live, boolean, func(s scope) any { return &s.p.MPTCP }},
	{"pool.*.congestion", live, congestion, func(s scope) any { return &s.p.Congestion }},
	{"pool.*.tos", live, integer(0, 255), func(s scope) any { return &s.p.TOS }},
	{"pool.*.mark", live, integer(0, math.MaxInt32), func(s scope) any { return &s.p.Mark }},
	{"pool.*.interface", live, interfaceName, func(s scope) any { return &s.p.Interface }},
	{"pool.*.netns", live, netnsName, func(s scope) any { return &s.p.Netns }},
	{"pool.*.on_down", live, oneOf(OnDownStay, OnDownCut), func(s scope) any { return &s.p.OnDown }},
	{"pool.*.panic_below", live, fraction, func(s scope) any { return &s.p.PanicBelow }},
	{"pool.*.slow_start", live, duration(0, maxSlowStart), func(s scope) any { return &s.p.SlowStart }},
	{"pool.*.send_proxy", live, oneOf(SendProxyOff, SendProxyV1, SendProxyV2), func(s scope) any { return &s.p.SendProxy }},
	{"pool.*.send_proxy_tlvs", live, tlvList, func(s scope) any { return &s.p.SendProxyTLVs }},
	{"pool.*.leave", live, oneOf(LeaveDrain, LeaveCut), func(s scope) any { return &s.p.Leave }},

	{"pool.*.rebalance.per_second", live, integer(0, MaxRebalance), func(s scope) any { return &s.p.Rebalance.PerSecond }},
	{"pool.*.rebalance.share", live, fraction, func(s scope) any { return &s.p.Rebalance.Share }},
	{"pool.*.rebalance.jitter", live, fraction, func(s scope) any { return &s.p.Rebalance.Jitter }},

	{"pool.*.ejection.connect_failures", live, integer(1, maxInARow), func(s scope) any { return &s.p.Ejection.ConnectFailures }},
	{"pool.*.ejection.early", live, duration(0, maxEjection), func(s scope) any { return &s.p.Ejection.Early }},
	{"pool.*.ejection.early_closes", live, integer(1, maxInARow), func(s scope) any { return &s.p.Ejection.EarlyCloses }},
	{"pool.*.ejection.time", live, duration(minInterval, maxEjection), func(s scope) any { return &s.p.Ejection.Time }},
	{"pool.*.ejection.max_time", live, duration(minInterval, maxEjection), func(s scope) any { return &s.p.Ejection.MaxTime }},
	{"pool.*.ejection.jitter", live, fraction, func(s scope) any { return &s.p.Ejection.Jitter }},
	{"pool.*.ejection.max_share", live, fraction, func(s scope) any { return &s.p.Ejection.MaxShare }},

	{"pool.*.health.check", live, oneOf(CheckOff, CheckTCP, CheckHTTP, CheckHTTPS, CheckTLS, CheckPostgres, CheckMySQL, CheckRedis, CheckGRPC, CheckCommand), func(s scope) any { return &s.p.Health.Check }},
	{"pool.*.health.port", live, integer(0, 65535), func(s scope) any { return &s.p.Health.Port }},
	{"pool.*.health.interval", live, duration(minInterval, maxInterval), func(s scope) any { return &s.p.Health.Interval }},
	{"pool.*.health.fast_interval", live, duration(0, maxInterval), func(s scope) any { return &s.p.Health.FastInterval }},
	{"pool.*.health.jitter", live, fraction, func(s scope) any { return &s.p.Health.Jitter }},
	{"pool.*.health.timeout", live, duration(minWait, maxConnect), func(s scope) any { return &s.p.Health.Timeout }},
	{"pool.*.health.rise", live, integer(1, maxInARow), func(s scope) any { return &s.p.Health.Rise }},
	{"pool.*.health.fall", live, integer(1, maxInARow), func(s scope) any { return &s.p.Health.Fall }},
	{"pool.*.health.start", live, oneOf(StartUp, StartDown), func(s scope) any { return &s.p.Health.Start }},
	{"pool.*.health.send", live, checkPayload, func(s scope) any { return &s.p.Health.Send }},
	{"pool.*.health.expect", live, checkPattern, func(s scope) any { return &s.p.Health.Expect }},
	{"pool.*.health.method", live, checkMethod, func(s scope) any { return &s.p.Health.Method }},
	{"pool.*.health.path", live, checkPath, func(s scope) any { return &s.p.Health.Path }},
	{"pool.*.health.host", live, checkHost, func(s scope) any { return &s.p.Health.Host }},
	{"pool.*.health.status", live, checkStatuses, func(s scope) any { return &s.p.Health.Status }},
	{"pool.*.health.body", live, checkExpression, func(s scope) any { return &s.p.Health.Body }},
	{"pool.*.health.server_name", live, checkServerName, func(s scope) any { return &s.p.Health.ServerName }},
	{"pool.*.health.alpn", live, checkALPN, func(s scope) any { return &s.p.Health.ALPN }},
	{"pool.*.health.service", live, checkService, func(s scope) any { return &s.p.Health.Service }},
	{"pool.*.health.user", live, checkUser, func(s scope) any { return &s.p.Health.User }},
	{"pool.*.health.command", live, checkCommand, func(s scope) any { return &s.p.Health.Command }},
	{"pool.*.health.verify", live, boolean, func(s scope) any { return &s.p.Health.Verify }},
}

// key is the last word of the path.
func (o option) key() string { return o.path[strings.LastIndex(o.path, ".")+1:] }

// optionAt finds the option of a pattern such as "listener.*.bind".
func optionAt(pattern string) (option, bool) {
	i := slices.IndexFunc(options, func(o option) bool { return o.path == pattern })
	if i < 0 {
		return option{}, false
	}
	return options[i], true
}

// keysOf lists the keys that may stand in the table of a pattern ("" is the top
// level), in the order of options. A table of named tables has the one key "*".
func keysOf(pattern string) []string {
	var keys []string
	for _, o := range options {
		rest := o.path
		if pattern != "" {
			var inside bool
			if rest, inside = strings.CutPrefix(o.path, pattern+"."); !inside {
				continue
			}
		}
		key, _, _ := strings.Cut(rest, ".")
		if !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return keys
}

// tablesWith lists the tables in which a key is at home, as a file writes them.
func tablesWith(key string) []string {
	var tables []string
	for _, o := range options {
		if table, is := strings.CutSuffix(o.path, "."+key); is {
			tables = append(tables, header(table))
		}
	}
	return tables
}

// header writes a pattern as the line that opens its table.
func header(pattern string) string {
	return "[" + strings.ReplaceAll(pattern, "*", "NAME") + "]"
}
