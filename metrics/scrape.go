package metrics

import (
	"bufio"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Every name, help and label of /metrics. What Prometheus can work out is left
// to it: rates, sums over acceptors, shares, Jain's index and CV of counters and
// gauges that are there. Counters keep their series while the Topology has them.
var (
	acceptLabels = []string{"listener", "acceptor", "worker"}

	acceptorAccepted    = counter("acceptor_accepted_connections_total", "Connections returned by accept(2) on this acceptor.", acceptLabels...)
	acceptorActive      = gauge("acceptor_active_connections", "Client connections this acceptor holds a session for.", acceptLabels...)
	acceptorErrors      = counter("acceptor_accept_errors_total", "Failed accept(2) calls.", "listener", "acceptor", "worker", "reason")
	acceptorHandedOff   = counter("acceptor_handed_off_connections_total", "Connections accepted here and passed to another acceptor.", acceptLabels...)
	acceptorTaken       = counter("acceptor_taken_connections_total", "Connections passed here by another acceptor.", acceptLabels...)
	acceptorRescued     = counter("acceptor_rescued_connections_total", "Connections accepted here from the socket of an acceptor that hung.", acceptLabels...)
	acceptorWait        = histogram("acceptor_accept_wait_seconds", "Time connections spent in the accept queue, of every eighth and every rescued one; as fine as the kernel's jiffy.", acceptLabels...)
	acceptorQueueLength = gauge("acceptor_queue_length", "Connections waiting in this socket's accept queue.", acceptLabels...)
	acceptorQueueLimit  = gauge("acceptor_queue_limit", "Length at which the kernel drops: the smaller of backlog and net.core.somaxconn.", acceptLabels...)
	acceptorQueueDrops  = counter("acceptor_queue_drops_total", "Connections the kernel dropped on this socket, mostly for a full accept queue.", acceptLabels...)

	acceptorInfo             = gauge("acceptor_info", "The CPU an acceptor is pinned to, or any; constant 1.", "acceptor", "worker", "cpu")
	acceptorAccepting        = gauge("acceptor_accepting", "1 while it takes new connections.", "acceptor", "worker")
	acceptorHung             = gauge("acceptor_hung", "1 while it does not turn although something waits for it; a sibling then accepts that.", "acceptor", "worker")
	acceptorHangs            = counter("acceptor_hangs_total", "Times it was found not to turn.", "acceptor", "worker")
	acceptorTurns            = counter("acceptor_turns_total", "Turns of its event loop.", "acceptor", "worker")
	acceptorGeneration       = gauge("acceptor_generation", "Number of the plan it runs; behind config_generation while it has not turned since a change.", "acceptor", "worker")
	acceptorParked           = gauge("acceptor_parked", "1 while it has nothing to do and waits for as long as it takes.", "acceptor", "worker")
	acceptorLeaving          = gauge("acceptor_leaving", "1 while it finishes its sessions to end.", "acceptor", "worker")
	acceptorBatched          = gauge("acceptor_batched", "1 while the kernel schedules it in batches (SCHED_BATCH), as it does a busy one.", "acceptor", "worker")
	acceptorBackoffs         = counter("acceptor_accept_backoffs_total", "Times accepting paused for lack of descriptors or memory.", "acceptor", "worker")
	acceptorPipes            = gauge("acceptor_pipes", "Pipes for splice(2) that exist.", "acceptor", "worker")
	acceptorPipesInUse       = gauge("acceptor_pipes_in_use", "Pipes for splice(2) that sessions hold.", "acceptor", "worker")
	acceptorPipeFallbacks    = counter("acceptor_pipe_fallbacks_total", "Times a pipe was wanted, could not be had, and bytes were copied.", "acceptor", "worker")
	acceptorSourcesEvicted   = counter("acceptor_sources_evicted_total", "Sources whose rate was forgotten to make room for others.", "acceptor", "worker")
	acceptorSourcesUntracked = counter("acceptor_sources_untracked_total", "Sessions let in uncounted by the limits per source, for there was no room for their source.", "acceptor", "worker")
	acceptorSpliceDenied     = counter("acceptor_splice_denied_total", "Calls of splice(2) that this machine refuses; after the first all is copied.", "acceptor", "worker")
	acceptorSpill            = gauge("acceptor_spill_bytes", "Bytes held in memory because the receiver's socket was full.", "acceptor", "worker")

	listenerSteering    = gauge("listener_steering_info", "Steering asked for, steering in force, and why they differ; constant 1.", "listener", "requested", "effective", "reason")
	listenerMaxSessions = gauge("listener_max_sessions", "Configured limit, 0 = none.", "listener")
	listenerLeaving     = gauge("listener_leaving", "1 while it is no longer configured and its sessions finish.", "listener")
	listenerRejected    = counter("listener_rejected_connections_total", "Connections closed before they became sessions.", "listener", "reason")
	listenerClosed      = counter("listener_closed_connections_total", "Sessions ended, by their one reason.", "listener", "reason")
	listenerHalfClosed  = gauge("listener_half_closed_connections", "Sessions with one direction done and the other open.", "listener")
	listenerWaiting     = gauge("listener_waiting_connections", "Sessions that wait for a backend that takes them, or for another one of their source to end.", "listener")
	listenerWaited      = counter("listener_waited_connections_total", "Sessions that had to wait for a backend or their source, by how the wait ended.", "listener", "result")
	listenerReceived    = counter("listener_received_bytes_total", "Bytes from clients, by how they were moved.", "listener", "path")
	listenerSent        = counter("listener_sent_bytes_total", "Bytes to clients, by how they were moved.", "listener", "path")
	listenerHeldBack    = counter("listener_held_back_total", "Times that a session waited for a bandwidth limit.", "listener", "direction")
	listenerHeldSeconds = counter("listener_held_back_seconds_total", "Time that sessions waited for a bandwidth limit.", "listener", "direction")
	listenerDuration    = histogram("listener_connection_duration_seconds", "Accept to last close.", "listener")
	listenerRouted      = counter("listener_routed_connections_total", "Sessions that took a route; those that took none are not in it.", "listener", "route")
	routeActive         = gauge("route_active_connections", "Sessions that took a route and are open.", "listener", "route")
	routeReceived       = counter("route_received_bytes_total", "Bytes from the clients of a route.", "listener", "route")
	routeSent           = counter("route_sent_bytes_total", "Bytes to the clients of a route.", "listener", "route")

	// The one balance figure that Prometheus cannot work out well: chi-square
	// needs true counts over a common window, and increase() extrapolates from
	// scrapes. No sample while nothing was accepted, for 0 would say "even".
	listenerChiSquare = gauge("listener_accept_chi_square_ratio", "Chi-square per degree of freedom of the last minute's accepts over acceptors: 1 is what a fair hash gives, more is skew, less is evener.", "listener")

	backendLabels = []string{"pool", "backend", "address"}

	backendWeight        = gauge("backend_weight", "Configured weight.", "pool", "backend")
	backendAddresses     = gauge("backend_addresses", "Addresses its name stands for, 0 = it does not resolve.", "pool", "backend")
	backendAttempts      = counter("backend_connect_attempts_total", "Connections tried.", backendLabels...)
	backendConnectErrors = counter("backend_connect_errors_total", "Connections that did not come about.", "pool", "backend", "address", "reason")
	backendFailing       = gauge("backend_failing", "1 while it does not take connections, or is ejected: it is picked last, and probed.", backendLabels...)
	backendProbes        = counter("backend_probes_total", "Connections without a client, to see whether a failing address takes them again.", "pool", "backend", "address", "result")
	backendEjections     = counter("backend_ejections_total", "Times it began to be picked last.", "pool", "backend", "address", "reason")
	backendConnect       = histogram("backend_connect_duration_seconds", "Time to establish a connection.", backendLabels...)
	backendActive        = gauge("backend_active_connections", "Sessions that hold this address, connecting ones included.", backendLabels...)
	backendConnections   = counter("backend_connections_total", "Connections established.", backendLabels...)
	backendReceived      = counter("backend_received_bytes_total", "Bytes from the backend.", backendLabels...)
	backendSent          = counter("backend_sent_bytes_total", "Bytes to the backend.", backendLabels...)
	backendUp            = gauge("backend_up", "1 while its checks say that it is up; not there without checks.", backendLabels...)
	backendState         = gauge("backend_state_info", "What may be done with it: up, warming, down, panic, draining or disabled; constant 1.", "pool", "backend", "address", "state")
	backendCheckDuration = gauge("backend_check_duration_seconds", "Time that its last check took.", backendLabels...)
	backendCheckFailures = counter("backend_check_failures_total", "Checks that failed.", "pool", "backend", "address", "reason")
	backendCertificate   = gauge("backend_certificate_expiry_timestamp_seconds", "When the certificate that its last TLS check saw expires, since the epoch.", backendLabels...)
	poolPanic            = gauge("pool_panic", "1 while so few backends are healthy that all are used.", "pool")
	poolRetries          = counter("pool_retries_total", "Connections tried again on another backend.", "pool")
	poolUnpaid           = counter("pool_retries_refused_total", "Connections not tried again, for retry_budget is spent.", "pool")
	poolCapped           = counter("pool_ejections_capped_total", "Ejections that did not come about, for max_share of the pool is out.", "pool")
	poolQueueLength      = gauge("pool_queue_length", "Sessions that wait for a place at one of the pool's backends.", "pool")
	poolQueueLimit       = gauge("pool_queue_limit", "How many may.", "pool")
	poolQueueEnds        = counter("pool_queue_sessions_total", "Sessions that had to wait in the pool's queue, or were not let in, by how that ended.", "pool", "result")
	poolQueueWait        = histogram("pool_queue_wait_seconds", "Time that sessions waited which got a place.", "pool")
	backendMaxSessions   = gauge("backend_max_sessions", "Configured limit of each of its addresses, 0 = none.", "pool", "backend")
	poolNoBackend        = counter("pool_no_backend_total", "Sessions that found no backend to pick.", "pool")

	buildInfo          = gauge("build_info", "What runs; constant 1.", "version", "goversion")
	instanceInfo       = gauge("instance_info", "The name of this instance and the mode of its acceptors; constant 1.", "name", "mode")
	configInfo         = gauge("config_info", "The configuration in force; constant 1.", "path", "sha256")
	configGeneration   = gauge("config_generation", "Number of the plan in force; grows with each change.")
	configReloaded     = gauge("config_last_reload_successful", "1 if the last reload succeeded, or none was tried.")
	configReloadTime   = gauge("config_last_reload_success_timestamp_seconds", "When the configuration in force was put there, since the epoch.")
	configReloads      = counter("config_reloads_total", "Reloads, by how they ended: success, refused (it is wrong) or failed (it could not be put in force).", "result")
	serviceMaxSessions = gauge("max_sessions", "Configured limit over all listeners, 0 = none.")
	serviceReady       = gauge("ready", "1 while new connections are welcome.")
	serviceDraining    = gauge("draining", "1 while the service finishes its sessions to leave.")
	logDropped         = counter("log_dropped_total", "Lines that the log lost because its reader does not keep up.")
	accessLines        = counter("access_log_lines_total", "Lines of the access log that were made, lost ones included.")
	accessDropped      = counter("access_log_dropped_total", "Lines of the access log that were lost: overwritten (an acceptor was too far ahead), unwritten (a full disk or a stuck reader) or damaged.", "reason")
	adminShed          = counter("admin_shed_connections_total", "Connections to the admin endpoint closed because there were too many.")

	dnsLookups   = counter("dns_lookups_total", "Lookups of backend names by asking name servers, by how they ended.", "result")
	dnsAddresses = gauge("dns_addresses", "Addresses a name stands for.", "name")
	dnsAge       = gauge("dns_answer_age_seconds", "Time since a name server last said what a name stands for.", "name")
	dnsStale     = gauge("dns_stale", "1 while lookups fail and a name stands for what it did before.", "name")

	fileOK      = gauge("file_ok", "1 while what a followed file says is in force; 0: it is missing or faulty, and what it said before is.", "kind", "path")
	fileEntries = gauge("file_entries", "Backends or prefixes of a followed file that are in force.", "kind", "path")
	fileFaults  = counter("file_faults_total", "Times a followed file could not be taken.", "kind", "path")

	workersInState   = gauge("workers", "Processes that host acceptors.", "state")
	workerRestarts   = counter("worker_restarts_total", "Times a worker was started again after it ended by itself.", "worker")
	workerCPU        = counter("worker_cpu_seconds_total", "CPU time of the worker's process.", "worker")
	workerResident   = gauge("worker_resident_memory_bytes", "Resident memory of the worker's process, shared pages included.", "worker")
	workerPSS        = gauge("worker_proportional_memory_bytes", "Memory of the worker's process, shared pages divided by their users.", "worker")
	workerFDs        = gauge("worker_open_fds", "Open descriptors of the worker's process.", "worker")
	workerStarted    = gauge("worker_start_time_seconds", "Start of the worker's process, since the epoch.", "worker")
	netnsOverflows   = counter("netns_listen_overflows_total", "Connections refused by a full accept queue, of any program in this network namespace.")
	netnsDrops       = counter("netns_listen_drops_total", "Connections dropped while listening for any reason, of any program in this network namespace.")
	netnsMigrateReqs = counter("netns_tcp_migrate_requests_total", "Waiting connections of a closed socket moved, or not, to its group.", "result")
)

// What /metrics shows, as Service.Metrics says.
const (
	Full = "full" // every series there is

	// Compact leaves out the histogram of each backend and words that count 0: with
	// many backends that is nine series of ten. A rate over a series that came late
	// misses its first event.
	Compact = "compact"
)

// Scrape writes a Snapshot for Prometheus, as TextType says, with the families by name. An
// error is the writer's.
func Scrape(w io.Writer, s Snapshot) error {
	out := &sink{w: bufio.NewWriterSize(w, scrapeBuffer), compact: s.Metrics == Compact, family: &family{}}
	for _, f := range byName() {
		out.only, out.head = f, false
		switch f.about() {
		case "listener":
			for i := range s.Listeners {
				out.listener(&s.Listeners[i])
			}
		case "pool":
			for i := range s.Pools {
				out.pool(&s.Pools[i])
			}
		default:
			out.others(s)
		}
		if _, err := out.w.Write(nil); err != nil {
			return err // the client has gone
		}
	}
	return out.w.Flush()
}

// scrapeBuffer is what is written at once: as much as a socket takes.
const scrapeBuffer = 64 << 10

// byName is the catalog in the order of names.
var byName = sync.OnceValue(func() []*family {
	return slices.SortedFunc(slices.Values(catalog), func(a, b *family) int { return strings.Compare(a.name, b.name) })
})

// about is the first label: of what things the family tells.
func (f *family) about() string { return f.label(0) }

// label is the name of a label; "" = there are not so many.
func (f *family) label(i int) string {
	if i >= len(f.labels) {
		return ""
	}
	return f.labels[i]
}

func (out *sink) pool(p *PoolStats) {
	if out.only.label(1) == "backend" {
		for i := range p.Backends {
			out.backend(p.Name, &p.Backends[i])
		}
		return
	}
	out.flag(poolPanic, p.Panic, p.Name)
	out.value(poolRetries, float64(p.Retries), p.Name)
	out.value(poolUnpaid, float64(p.Unpaid), p.Name)
	out.value(poolCapped, float64(p.Capped), p.Name)
	out.value(poolNoBackend, float64(p.NoBackend), p.Name)
	out.poolQueue(p.Name, p.Queue)
}

// others are those of the service, of its acceptors and workers, and of its surroundings.
func (out *sink) others(s Snapshot) {
	for _, a := range s.Acceptors {
		out.acceptor(a)
	}
	out.service(s.Service)
	out.dns(s.DNS, s.Time)
	out.files(s.Files)
	out.workers(s.Workers)
	if n := s.Netns; n != nil {
		out.value(netnsOverflows, float64(n.ListenOverflows))
		out.value(netnsDrops, float64(n.ListenDrops))
		out.value(netnsMigrateReqs, float64(n.MigrationsDone), "success")
		out.value(netnsMigrateReqs, float64(n.MigrationsRefused), "failure")
	}
}

func (out *sink) listener(l *ListenerStats) {
	if out.only.label(1) == "acceptor" {
		out.share(l)
		return
	}
	st := l.Steering
	out.value(listenerSteering, 1, l.Name, st.Requested, st.Effective, st.Reason)
	out.value(listenerMaxSessions, float64(l.MaxSessions), l.Name)
	out.flag(listenerLeaving, l.Leaving, l.Name)
	out.counts(listenerRejected, l.Rejected, l.Name)
	out.counts(listenerClosed, l.Closed, l.Name)
	out.value(listenerHalfClosed, float64(l.HalfClosed), l.Name)
	out.value(listenerWaiting, float64(l.Waiting), l.Name)
	out.counts(listenerWaited, l.Waited, l.Name)
	out.counts(listenerReceived, l.Received, l.Name)
	out.counts(listenerSent, l.Sent, l.Name)
	for _, h := range l.HeldBack {
		out.value(listenerHeldBack, float64(h.Times), l.Name, h.Direction)
		out.value(listenerHeldSeconds, h.Seconds, l.Name, h.Direction)
	}
	out.histogram(listenerDuration, &l.Duration, l.Name)
	for _, r := range l.Routes {
		if r.ID != 0 {
			out.value(listenerRouted, float64(r.Sessions), l.Name, r.Name)
			out.value(routeActive, float64(r.Active), l.Name, r.Name)
			out.value(routeReceived, float64(r.Received), l.Name, r.Name)
			out.value(routeSent, float64(r.Sent), l.Name, r.Name)
		}
	}
	if accepts := l.Balance.Accepts; accepts.Total > 0 {
		out.value(listenerChiSquare, accepts.ChiSquare, l.Name)
	}
}

// share is what each acceptor has of a listener.
func (out *sink) share(l *ListenerStats) {
	for i := range l.Acceptors {
		a := &l.Acceptors[i]
		labels := []string{l.Name, strconv.Itoa(a.Number), strconv.Itoa(a.Worker)}
		out.value(acceptorAccepted, float64(a.Accepted), labels...)
		out.value(acceptorActive, float64(a.Active), labels...)
		out.counts(acceptorErrors, a.AcceptErrors, labels...)
		out.value(acceptorHandedOff, float64(a.HandedOff), labels...)
		out.value(acceptorTaken, float64(a.Taken), labels...)
		out.value(acceptorRescued, float64(a.Rescued), labels...)
		out.histogram(acceptorWait, &a.Wait, labels...)
		if q := a.Queue; q != nil {
			out.value(acceptorQueueLength, float64(q.Length), labels...)
			out.value(acceptorQueueLimit, float64(q.Limit), labels...)
			out.value(acceptorQueueDrops, float64(q.Drops), labels...)
		}
	}
}

func (out *sink) acceptor(a AcceptorStats) {
	cpu := "any"
	if a.CPU != nil {
		cpu = strconv.FormatInt(*a.CPU, 10)
	}
	labels := []string{strconv.Itoa(a.Number), strconv.Itoa(a.Worker)}
	out.value(acceptorInfo, 1, labels[0], labels[1], cpu)
	out.flag(acceptorAccepting, a.Accepting, labels...)
	out.flag(acceptorHung, a.Hung, labels...)
	out.value(acceptorHangs, float64(a.Hangs), labels...)
	out.value(acceptorTurns, float64(a.Turns), labels...)
	out.value(acceptorGeneration, float64(a.Generation), labels...)
	out.flag(acceptorParked, a.Parked, labels...)
	out.flag(acceptorLeaving, a.Leaving, labels...)
	out.flag(acceptorBatched, a.Batched, labels...)
	out.value(acceptorBackoffs, float64(a.Backoffs), labels...)
	out.value(acceptorPipes, float64(a.PipesOpen), labels...)
	out.value(acceptorPipesInUse, float64(a.PipesInUse), labels...)
	out.value(acceptorPipeFallbacks, float64(a.PipeFallbacks), labels...)
	out.value(acceptorSpliceDenied, float64(a.SpliceDenied), labels...)
	out.value(acceptorSourcesEvicted, float64(a.SourcesEvicted), labels...)
	out.value(acceptorSourcesUntracked, float64(a.SourcesUntracked), labels...)
	out.value(acceptorSpill, float64(a.SpillBytes), labels...)
}

func (out *sink) poolQueue(pool string, q *PoolQueueStats) {
	if q == nil {
		return
	}
	out.value(poolQueueLength, float64(q.Length), pool)
	out.value(poolQueueLimit, float64(q.Limit), pool)
	out.counts(poolQueueEnds, q.Ends, pool)
	out.histogram(poolQueueWait, &q.Wait, pool)
}

func (out *sink) backend(pool string, b *BackendStats) {
	out.value(backendWeight, float64(b.Weight), pool, b.Name)
	out.value(backendAddresses, float64(len(b.Targets)), pool, b.Name)
	out.value(backendMaxSessions, float64(b.MaxSessions), pool, b.Name)
	if b.Merged != nil {
		out.merged(pool, b.Name, b.Merged)
		return
	}
	for i := range b.Targets {
		t := &b.Targets[i]
		labels := []string{pool, b.Name, t.Address}
		out.figures(t, labels)
		out.flag(backendFailing, t.Failing, labels...)
		out.health(&t.Health, labels)
	}
}

// figures are what sessions did at one address, or at all that are merged.
func (out *sink) figures(t *TargetStats, labels []string) {
	out.value(backendAttempts, float64(t.Attempts), labels...)
	out.counts(backendConnectErrors, t.ConnectErrors, labels...)
	out.counts(backendProbes, t.Probes, labels...)
	out.counts(backendEjections, t.Ejections, labels...)
	if !out.compact {
		out.histogram(backendConnect, &t.Connect, labels...)
	}
	out.value(backendActive, float64(t.Active), labels...)
	out.value(backendConnections, float64(t.Sessions), labels...)
	out.value(backendReceived, float64(t.Received), labels...)
	out.value(backendSent, float64(t.Sent), labels...)
}

func (out *sink) health(h *Health, labels []string) {
	if out.only == backendState && h.State != "" {
		out.value(backendState, 1, append(labels[:len(labels):len(labels)], string(h.State))...)
	}
	c := h.Check
	if c == nil {
		return
	}
	out.flag(backendUp, c.Up, labels...)
	out.counts(backendCheckFailures, c.Failures, labels...)
	if !c.Last.IsZero() {
		out.value(backendCheckDuration, c.Seconds, labels...)
	}
	if !c.Certificate.IsZero() {
		out.value(backendCertificate, float64(c.Certificate.Unix()), labels...)
	}
}

func (out *sink) service(s Service) {
	out.value(buildInfo, 1, s.Version, s.GoVersion)
	out.value(instanceInfo, 1, utf8(s.Name), s.Mode)
	out.value(configInfo, 1, utf8(s.Config.Path), s.Config.SHA256)
	out.value(configGeneration, float64(s.Config.Generation))
	reload := s.Config.Reload
	out.flag(configReloaded, reload.Succeeded)
	out.value(configReloadTime, unixSeconds(reload.LastSuccess))
	for _, word := range reloadResults {
		out.value(configReloads, float64(reload.Results[word]), word)
	}
	out.value(serviceMaxSessions, float64(s.MaxSessions))
	out.flag(serviceReady, s.Ready)
	out.flag(serviceDraining, s.Draining)
	out.value(logDropped, float64(s.LinesLost))
	out.value(accessLines, float64(s.AccessLog.Lines))
	for _, word := range accessLosses {
		if n := s.AccessLog.Dropped[word]; n > 0 || !out.compact {
			out.value(accessDropped, float64(n), word)
		}
	}
	out.value(adminShed, float64(s.AdminShed))
}

func (out *sink) dns(d DNS, now time.Time) {
	for _, result := range slices.Sorted(maps.Keys(d.Lookups)) {
		out.value(dnsLookups, float64(d.Lookups[result]), result)
	}
	for _, n := range d.Names {
		name := utf8(n.Name)
		out.value(dnsAddresses, float64(n.Addresses), name)
		out.flag(dnsStale, n.Stale, name)
		if !n.Answered.IsZero() {
			out.value(dnsAge, now.Sub(n.Answered).Seconds(), name)
		}
	}
}

func (out *sink) files(all []File) {
	for _, f := range all {
		path := utf8(f.Path)
		out.flag(fileOK, f.OK, f.Kind, path)
		out.value(fileEntries, float64(f.Entries), f.Kind, path)
		out.value(fileFaults, float64(f.Faults), f.Kind, path)
	}
}

func unixSeconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1e3 }

// utf8 makes a label value of what came from the command line or the environment.
func utf8(s string) string { return strings.ToValidUTF8(s, "?") }

func (out *sink) workers(ws []Worker) {
	inState := map[WorkerState]int{}
	for _, w := range ws {
		inState[w.State]++
		number := strconv.Itoa(w.Number)
		out.value(workerRestarts, float64(w.Restarts), number)
		if w.PID == 0 {
			continue
		}
		out.value(workerCPU, w.CPUSeconds, number)
		out.value(workerResident, float64(w.ResidentBytes), number)
		out.value(workerFDs, float64(w.OpenFDs), number)
		out.value(workerStarted, unixSeconds(w.Started), number)
		if w.PSSBytes != 0 {
			out.value(workerPSS, float64(w.PSSBytes), number)
		}
	}
	for _, state := range workerStates {
		out.value(workersInState, float64(inState[state]), string(state))
	}
}
