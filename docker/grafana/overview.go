package main

// overview answers "is it well?": load, errors, duration, and how near the limits are.
var overview = board{
	slug: "overview", title: "Overview",
	about: "Load, errors, duration and limits of every listener. Click on a series for its accept balance.",
	rows: []row{
		{"Now", []panel{
			{kind: number, title: "Ready", width: 4, height: 5, unit: "percentunit", min: at(0), max: at(1), steps: good(0.5, 1),
				about:   "Part of the instances that take new connections.",
				queries: []query{{`avg(sluice_ready{INSTANCE})`, ""}}},
			{kind: number, title: "Accepts", width: 4, height: 5, unit: "cps",
				about:   "Connections accepted per second.",
				queries: []query{{`sum(rate(sluice_acceptor_accepted_connections_total{LISTENER}[$__rate_interval]))`, ""}}},
			{kind: number, title: "Sessions", width: 4, height: 5, unit: "short",
				about:   "Sessions that are open now.",
				queries: []query{{`sum(sluice_acceptor_active_connections{LISTENER})`, ""}}},
			{kind: number, title: "Failed sessions", width: 4, height: 5, unit: "percentunit", min: at(0), steps: bad(0.001, 0.01),
				about:   "Part of the ended sessions that found no backend to serve them, or ended by a fault of ours.",
				queries: []query{{`sum(rate(sluice_listener_closed_connections_total{LISTENER,reason=~"` + failures + `"}[$__rate_interval])) / sum(rate(sluice_listener_closed_connections_total{LISTENER}[$__rate_interval]))`, ""}}},
			{kind: number, title: "To clients", width: 4, height: 5, unit: "Bps",
				about:   "Bytes per second sent to clients.",
				queries: []query{{`sum(rate(sluice_listener_sent_bytes_total{LISTENER}[$__rate_interval]))`, ""}}},
			{kind: number, title: "Jain's index of accepts", width: 4, height: 5, unit: "none", min: at(0), max: at(1), steps: good(0.8, 0.95),
				about:   "How evenly acceptors share: 1 is even. The worst listener chosen.",
				queries: []query{{`min(instance_listener:sluice_accept_jain:ratio5m{LISTENER})`, ""}}},
		}},
		{"Alerts", []panel{
			{kind: number, title: "Alerts that fire", width: 4, height: 6, unit: "none", min: at(0), steps: bad(1, 2),
				about:   "How many alerts of sluice's fire now, warnings among them.",
				queries: []query{{`count(ALERTS{INSTANCE,alertname=~"Sluice.+",alertstate="firing"}) or vector(0)`, ""}}},
			{kind: table, title: "Firing", width: 20, height: 6, unit: "none",
				about:   "The alerts that fire now, and what about. Their runbooks stand in alerts.yml and in each notification.",
				queries: []query{{`ALERTS{INSTANCE,alertname=~"Sluice.+",alertstate="firing"}`, ""}}},
		}},
		{"Load", []panel{
			{kind: lines, title: "Accepts", width: 8, unit: "cps", min: at(0), link: toBalance,
				about:   "Connections accepted per second, by listener.",
				queries: []query{{`sum by (instance, listener) (rate(sluice_acceptor_accepted_connections_total{LISTENER}[$__rate_interval]))`, "{{instance}} {{listener}}"}}},
			{kind: lines, title: "Sessions", width: 8, unit: "short", min: at(0), link: toBalance,
				about: "Sessions open, and of these the ones of which one side has sent its end, and those that no backend took yet and that wait for one.",
				queries: []query{
					{`sum by (instance, listener) (sluice_acceptor_active_connections{LISTENER})`, "{{instance}} {{listener}}"},
					{`sum by (instance, listener) (sluice_listener_half_closed_connections{LISTENER})`, "{{instance}} {{listener}} half closed"},
					{`sum by (instance, listener) (sluice_listener_waiting_connections{LISTENER})`, "{{instance}} {{listener}} waiting"},
				}},
			{kind: lines, title: "Bytes", width: 8, unit: "Bps", min: at(0),
				about: "From and to clients, by how they were moved: through a pipe inside the kernel (splice), or through a buffer (copy).",
				queries: []query{
					{`sum by (path) (rate(sluice_listener_received_bytes_total{LISTENER}[$__rate_interval]))`, "from clients, {{path}}"},
					{`sum by (path) (rate(sluice_listener_sent_bytes_total{LISTENER}[$__rate_interval]))`, "to clients, {{path}}"},
				}},
		}},
		{"Bandwidth limits", []panel{
			{kind: lines, title: "Sessions held back", width: 12, unit: "short", min: at(0),
				about:   "Sessions that wait for a bandwidth limit of their listener, on average: seconds waited per second.",
				queries: []query{{`sum by (instance, listener, direction) (rate(sluice_listener_held_back_seconds_total{LISTENER}[$__rate_interval]))`, "{{instance}} {{listener}} {{direction}}"}}},
			{kind: lines, title: "Waits", width: 12, unit: "ops", min: at(0),
				about:   "Times per second that a session had to wait for it: a wait is a tenth of a second or so, more where many share a limit.",
				queries: []query{{`sum by (instance, listener, direction) (rate(sluice_listener_held_back_total{LISTENER}[$__rate_interval]))`, "{{instance}} {{listener}} {{direction}}"}}},
		}},
		{"Errors", []panel{
			{kind: lines, title: "Sessions ended", width: 12, unit: "cps", min: at(0), stack: true,
				about:   "By the one reason of each. client_eof and backend_eof are the normal ends.",
				queries: []query{{`sum by (reason) (rate(sluice_listener_closed_connections_total{LISTENER}[$__rate_interval]))`, "{{reason}}"}}},
			{kind: lines, title: "Failed sessions by listener", width: 12, unit: "percentunit", min: at(0), steps: bad(0.01, 0.05), link: toBalance,
				about:   "Part of each listener's ended sessions that found no backend to serve them, or ended by a fault of ours.",
				queries: []query{{`sum by (instance, listener) (rate(sluice_listener_closed_connections_total{LISTENER,reason=~"` + failures + `"}[$__rate_interval])) / (sum by (instance, listener) (rate(sluice_listener_closed_connections_total{LISTENER}[$__rate_interval])) > 0)`, "{{instance}} {{listener}}"}}},
			{kind: lines, title: "Not accepted", width: 24, unit: "cps", min: at(0),
				about: "Connections closed before they became sessions, failed calls of accept, and connections the kernel dropped.",
				queries: []query{
					{`sum by (listener, reason) (rate(sluice_listener_rejected_connections_total{LISTENER}[$__rate_interval]))`, "{{listener}} rejected: {{reason}}"},
					{`sum by (listener, reason) (rate(sluice_acceptor_accept_errors_total{LISTENER}[$__rate_interval]))`, "{{listener}} accept: {{reason}}"},
					{`sum by (listener) (rate(sluice_acceptor_queue_drops_total{LISTENER}[$__rate_interval]))`, "{{listener}} dropped by the kernel"},
				}},
		}},
		{"Beginnings", []panel{
			{kind: lines, title: "Sessions by route", width: 8, unit: "cps", min: at(0), stack: true,
				about:   "Sessions that took each of the 20 busiest routes. Those that took none went to their listener's own pool.",
				queries: []query{{`topk(20, sum by (listener, route) (rate(sluice_listener_routed_connections_total{LISTENER}[$__rate_interval])))`, "{{listener}} {{route}}"}}},
			{kind: lines, title: "Bytes by route", width: 8, unit: "Bps", min: at(0), stack: true,
				about:   "Bytes in both directions, of the sessions of the 20 busiest routes.",
				queries: []query{{`topk(20, sum by (listener, route) (rate(sluice_route_received_bytes_total{LISTENER}[$__rate_interval]) + rate(sluice_route_sent_bytes_total{LISTENER}[$__rate_interval])))`, "{{listener}} {{route}}"}}},
			{kind: lines, title: "Refused for how they began", width: 8, unit: "cps", min: at(0),
				about: "Sessions that ended for their PROXY header (missing, wrong, from a stranger), their ClientHello, or that they were late with it; those whose client the header named and who may not enter; and those whose backend was asked for TLS and did not say yes.",
				queries: []query{
					{`sum by (listener, reason) (rate(sluice_listener_closed_connections_total{LISTENER,reason=~"` + beginnings + `"}[$__rate_interval]))`, "{{listener}} {{reason}}"},
				}},
		}},
		{"Duration", []panel{
			{kind: lines, title: "Duration of sessions", width: 12, unit: "s", min: at(0),
				about: "From accept to the last close, of the sessions that ended.",
				queries: []query{
					{`histogram_quantile(0.5, sum by (listener, le) (rate(sluice_listener_connection_duration_seconds_bucket{LISTENER}[$__rate_interval])))`, "{{listener}} median"},
					{`histogram_quantile(0.95, sum by (listener, le) (rate(sluice_listener_connection_duration_seconds_bucket{LISTENER}[$__rate_interval])))`, "{{listener}} 95%"},
					{`histogram_quantile(0.99, sum by (listener, le) (rate(sluice_listener_connection_duration_seconds_bucket{LISTENER}[$__rate_interval])))`, "{{listener}} 99%"},
				}},
			{kind: buckets, title: "Duration of sessions, all", width: 12, unit: "s",
				about:   "How many sessions of each duration ended per second.",
				queries: []query{{`sum by (le) (rate(sluice_listener_connection_duration_seconds_bucket{LISTENER}[$__rate_interval]))`, "{{le}}"}}},
		}},
		{"Limits", []panel{
			{kind: lines, title: "Descriptors in use", width: 8, unit: "percentunit", min: at(0), max: at(1), steps: bad(0.6, 0.8),
				about:   "Of the limit of a process; the fullest of its processes. A session takes two.",
				queries: []query{{`max by (instance) (sluice_worker_open_fds{INSTANCE}) / max by (instance) (process_max_fds{INSTANCE})`, "{{instance}}"}}},
			{kind: lines, title: "Sessions by their limit", width: 8, unit: "percentunit", min: at(0), steps: bad(0.75, 0.9), link: toBalance,
				about: "Sessions that are open by max_sessions, of each listener and of the whole service, where there is such a limit. At 1 new ones are closed at once.",
				queries: []query{
					{`sum by (instance, listener) (sluice_acceptor_active_connections{LISTENER}) / (max by (instance, listener) (sluice_listener_max_sessions{LISTENER}) > 0)`, "{{instance}} {{listener}}"},
					{`sum by (instance) (sluice_acceptor_active_connections{INSTANCE}) / (max by (instance) (sluice_max_sessions{INSTANCE}) > 0)`, "{{instance}} in all"},
				}},
			{kind: lines, title: "Accept queues", width: 8, unit: "percentunit", min: at(0), steps: bad(0.5, 0.8), link: toBalance,
				about:   "The fullest accept queue of each listener. At 1 the kernel drops connections.",
				queries: []query{{`max by (instance, listener) (sluice_acceptor_queue_length{LISTENER} / sluice_acceptor_queue_limit{LISTENER})`, "{{instance}} {{listener}}"}}},
			{kind: table, title: "Limits of sessions", width: 24, height: 6, unit: "short",
				about: "max_sessions of each listener, and of the whole service where no listener is named; 0 is no limit.",
				queries: []query{
					{`max by (instance, listener) (sluice_listener_max_sessions{LISTENER}) or max by (instance) (sluice_max_sessions{INSTANCE})`, ""},
				}},
		}},
	},
}

// failures are the close reasons of sessions that were not served, as a pattern.
const failures = "connect_failed|connect_timeout|no_backend|worker_died|internal_error|loop|starttls_refused|starttls_timeout"

// beginnings are those of sessions that ended for what their clients, or for starttls their
// backends, said first.
const beginnings = "proxy_missing|proxy_malformed|proxy_untrusted|hello_malformed|preamble_timeout|denied|source_sessions|source_rate|rate|starttls_refused|starttls_timeout"

var toBalance = link{"Accept balance of ${__field.labels.listener}", acceptBalance.slug, "listener"}
