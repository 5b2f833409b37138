//go:build ignore

// Steering: the kernel runs this program for every SYN of a listener's group and
// it picks the acceptor whose socket the connection will wait on. It also runs
// when a listening socket closes with connections waiting, to give each of them
// to another (SELECT_OR_MIGRATE); and for every other packet that belongs to no
// connection: the ACK that completes a SYN cookie, the RST of a peer that heard
// too late of an end.
//
// It reads the rows that acceptors write, and finds the group's sockets by
// acceptor number. When it picks nobody, the kernel's own hash does.
//
// Needs Linux 5.14 (migration); of its other means mmapable arrays are of 5.5
// and atomic compare-and-swap of 5.12.

#include <linux/bpf.h>
#include <linux/tcp.h>
#include <bpf/bpf_helpers.h>

#define MAX_ACCEPTORS 64
#define MAX_TRIES 4

#define POLICY_LEAST 0
#define POLICY_ROUND_ROBIN 1

// One acceptor's row; Row in rows.go is the same in Go.
struct row {
	// Written here.
	__u64 selected; // times this acceptor was picked
	__u64 round;    // round_robin: the round it had its last turn in
	__u64 pad1[6];
	// Written by acceptors: a cache line of its own.
	__s64 gone;      // of what was picked, what is closed or will not come
	__u64 settled;   // theirs
	__u64 heartbeat; // CLOCK_MONOTONIC, in ns, of its last turn
	__u64 flags;     // not 0: takes nothing new
	__u64 pad2[4];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_ACCEPTORS);
	__type(key, __u32);
	__type(value, struct row);
} rows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_REUSEPORT_SOCKARRAY);
	__uint(max_entries, MAX_ACCEPTORS);
	__type(key, __u32);
	__type(value, __u64);
} sockets SEC(".maps");

const volatile __u32 policy;
const volatile __u64 hang_after; // ns without a turn; 0 = no acceptor ever counts as hung

__u32 acceptors; // rows in use are those below this number
__u32 rotation;  // advances with every search
__u64 round_now; // round_robin: the round that turns are being given in

static __always_inline struct row *row_of(__u32 acceptor)
{
	return bpf_map_lookup_elem(&rows, &acceptor);
}

static __always_inline int takes_more(const struct row *row, __u64 now)
{
	if (row->flags)
		return 0;
	return !hang_after || row->heartbeat + hang_after >= now;
}

// The word that a pick moves forward, and by which another CPU's pick shows.
static __always_inline volatile __u64 *ticket_of(struct row *row)
{
	return policy == POLICY_LEAST ? &row->selected : &row->round;
}

// What the picked acceptor has the least of: connections, held and in flight; or turns.
static __always_inline __s64 rank_of(const struct row *row, __u64 ticket)
{
	return policy == POLICY_ROUND_ROBIN ? ticket : ticket - row->gone;
}

// One that was away for many rounds gets one turn, not all that it missed.
static __always_inline __u64 next_ticket(__u64 ticket)
{
	if (policy == POLICY_ROUND_ROBIN && ticket < round_now)
		return round_now;
	return ticket + 1;
}

#define NOBODY MAX_ACCEPTORS

// The acceptor with the lowest rank, and its ticket as it then was. The search
// begins one further each time, so that ties are won by each in turn.
static __always_inline __u32 search(__u64 refused, __u64 now, __u64 *ticket)
{
	__u32 start = __sync_fetch_and_add(&rotation, 1);
	__u32 best = NOBODY;
	__s64 lowest = 0;

	for (__u32 n = 0; n < MAX_ACCEPTORS && n < acceptors; n++) {
		__u32 i = (start + n) % acceptors;
		struct row *row = row_of(i);

		if (!row || refused & 1ULL << i || !takes_more(row, now))
			continue;
		__u64 seen = *ticket_of(row);
		__s64 rank = rank_of(row, seen);
		if (best == NOBODY || rank < lowest) {
			best = i;
			lowest = rank;
			*ticket = seen;
		}
	}
	return best;
}

// Whether a connection will come of what the kernel asks a socket for. A stray
// packet must not count, and one that completes a SYN cookie need not: its SYN did.
static __always_inline int connection_comes(const struct sk_reuseport_md *ctx)
{
	const struct tcphdr *tcp = ctx->data;

	return ctx->migrating_sk || ((void *)(tcp + 1) <= ctx->data_end && tcp->syn);
}

SEC("sk_reuseport/migrate")
int select_acceptor(struct sk_reuseport_md *ctx)
{
	__u64 now = bpf_ktime_get_ns();
	__u64 refused = 0; // acceptors that turn out to have no socket, one bit each

	for (int try = 1; try <= MAX_TRIES; try++) {
		__u64 ticket = 0;
		__u32 acceptor = search(refused, now, &ticket);
		if (acceptor == NOBODY)
			break;
		if (bpf_sk_select_reuseport(ctx, &sockets, &acceptor, 0)) {
			refused |= 1ULL << acceptor;
			continue;
		}
		struct row *row = row_of(acceptor);
		if (!row || !connection_comes(ctx))
			break;
		// If another CPU picked the same one meanwhile, its rank is no longer
		// what the search saw: search again, and at the last try let it be.
		__u64 next = next_ticket(ticket);
		if (__sync_val_compare_and_swap(ticket_of(row), ticket, next) != ticket) {
			if (try < MAX_TRIES)
				continue;
			__sync_fetch_and_add(ticket_of(row), 1);
		}
		if (policy == POLICY_ROUND_ROBIN) {
			round_now = next;
			__sync_fetch_and_add(&row->selected, 1);
		}
		break;
	}
	return SK_PASS; // to the socket selected; if none was, to the one that the hash gives
}

char _license[] SEC("license") = "GPL";
