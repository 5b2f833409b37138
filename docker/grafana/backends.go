package main

// backends answers "is it them or us?": what each backend gets and how it answers.
var backends = board{
	slug: "backends", title: "Backends", pools: true,
	about: "What each backend is given, and how well it can be connected to.",
	rows: []row{
		{"Now", []panel{
			{kind: number, title: "Connections", width: 6, height: 5, unit: "cps",
				about:   "Connections to backends established per second.",
				queries: []query{{`sum(rate(sluice_backend_connections_total{POOL}[$__rate_interval]))`, ""}}},
			{kind: number, title: "Failed attempts", width: 6, height: 5, unit: "percentunit", min: at(0), steps: bad(0.01, 0.05),
				about:   "Part of the attempts to connect that failed. A session tries other backends before it fails.",
				queries: []query{{`sum(rate(sluice_backend_connect_errors_total{POOL}[$__rate_interval])) / sum(rate(sluice_backend_connect_attempts_total{POOL}[$__rate_interval]))`, ""}}},
			{kind: number, title: "Tried again", width: 6, height: 5, unit: "cps", steps: bad(0.1, 10),
				about:   "Attempts per second on a further backend after one failed.",
				queries: []query{{`sum(rate(sluice_pool_retries_total{POOL}[$__rate_interval]))`, ""}}},
			{kind: number, title: "No backend", width: 6, height: 5, unit: "cps", steps: bad(0.001, 1),
				about:   "Sessions per second that found no backend to pick.",
				queries: []query{{`sum(rate(sluice_pool_no_backend_total{POOL}[$__rate_interval]))`, ""}}},
		}},
		{"Picking", []panel{
			{kind: lines, title: "Connections", width: 8, unit: "cps", min: at(0),
				about:   "Established per second, by backend.",
				queries: []query{{`sum by (instance, pool, backend) (rate(sluice_backend_connections_total{POOL}[$__rate_interval]))`, "{{instance}} {{pool}} {{backend}}"}}},
			{kind: lines, title: "Sessions", width: 8, unit: "short", min: at(0),
				about:   "Sessions that hold the backend, connecting ones included.",
				queries: []query{{`sum by (instance, pool, backend) (sluice_backend_active_connections{POOL})`, "{{instance}} {{pool}} {{backend}}"}}},
			{kind: lines, title: "Connections by weight", width: 8, unit: "cps", min: at(0),
				about:   "Connections per second for each 1 of weight. With pick round_robin these lines lie on each other.",
				queries: []query{{`sum by (instance, pool, backend) (rate(sluice_backend_connections_total{POOL}[$__rate_interval])) / sum by (instance, pool, backend) (sluice_backend_weight{POOL})`, "{{instance}} {{pool}} {{backend}}"}}},
		}},
		{"Connecting", []panel{
			{kind: lines, title: "Errors", width: 8, unit: "cps", min: at(0),
				about:   "Attempts that failed, by backend and reason. refused: nothing listens. timeout: no answer in time. no_ports: no source port left.",
				queries: []query{{`sum by (pool, backend, reason) (rate(sluice_backend_connect_errors_total{POOL}[$__rate_interval]))`, "{{pool}} {{backend}} {{reason}}"}}},
			{kind: lines, title: "Time to connect", width: 8, unit: "s", min: at(0),
				about: "Of the attempts that succeeded. Steps of a second are lost SYN packets: the backend's accept queue overflows.",
				queries: []query{
					{`histogram_quantile(0.5, sum by (pool, backend, le) (rate(sluice_backend_connect_duration_seconds_bucket{POOL}[$__rate_interval])))`, "{{pool}} {{backend}} median"},
					{`histogram_quantile(0.99, sum by (pool, backend, le) (rate(sluice_backend_connect_duration_seconds_bucket{POOL}[$__rate_interval])))`, "{{pool}} {{backend}} 99%"},
				}},
			{kind: buckets, title: "Time to connect, all", width: 8, unit: "s",
				about:   "How many attempts of each duration succeeded per second.",
				queries: []query{{`sum by (le) (rate(sluice_backend_connect_duration_seconds_bucket{POOL}[$__rate_interval]))`, "{{le}}"}}},
		}},
		{"Bytes", []panel{
			{kind: lines, title: "From backends", width: 12, unit: "Bps", min: at(0),
				about:   "Bytes per second received from each backend.",
				queries: []query{{`sum by (instance, pool, backend) (rate(sluice_backend_received_bytes_total{POOL}[$__rate_interval]))`, "{{instance}} {{pool}} {{backend}}"}}},
			{kind: lines, title: "To backends", width: 12, unit: "Bps", min: at(0),
				about:   "Bytes per second sent to each backend.",
				queries: []query{{`sum by (instance, pool, backend) (rate(sluice_backend_sent_bytes_total{POOL}[$__rate_interval]))`, "{{instance}} {{pool}} {{backend}}"}}},
		}},
	},
}
