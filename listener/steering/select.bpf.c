//go:build ignore

// Steering: the kernel runs this program for every SYN of a listener's group and
// it picks the acceptor whose socket the connection will wait on. It also runs
// when a listening socket closes with connections waiting, to give each of them
// to another (SELECT_OR_MIGRATE); and for every other packet that belongs to no
// connection: the ACK that completes a SYN cookie, the RST of a peer that heard
// too late of an end.
//
// It reads the rows that acceptors write, and finds the group's sockets by seat,
// the number of an acceptor. It looks at flags and loads and at no clock: whether
// an acceptor hangs, the control plane finds out. When it picks nobody, the
// kernel's own hash does.
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
	__u64 round;    // what round_now was at its last pick
	__u64 pad1[6];
	// Written by acceptors and the control plane: a cache line of its own.
	__s64 gone;    // of what was picked, what is closed or will not come
	__u64 settled; // theirs
	__u64 flags;   // not 0: takes nothing new
	__u64 pad2[5];
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

__u64 steered_to; // a bit for each seat that may be picked; the control plane's
__u64 round_now;  // round_robin: the round that turns are being given in; least: picks so far

static __always_inline struct row *row_of(__u32 seat)
{
	return bpf_map_lookup_elem(&rows, &seat);
}

// The word that a pick moves forward, and by which another CPU's pick shows.
static __always_inline volatile __u64 *ticket_of(struct row *row)
{
	return policy == POLICY_LEAST ? &row->selected : &row->round;
}

// What the picked acceptor has the least of: turns; or connections, held and in
// flight, and of equals the one picked longest ago. (Loads stay below 2^30.)
static __always_inline __s64 rank_of(const struct row *row, __u64 ticket, __u64 now)
{
	if (policy == POLICY_ROUND_ROBIN)
		return ticket;
	return ((__s64)(ticket - row->gone) << 32) - (__u32)(now - row->round);
}

// One that was away for many rounds gets one turn, not all that it missed.
static __always_inline __u64 next_ticket(__u64 ticket)
{
	if (policy == POLICY_ROUND_ROBIN && ticket < round_now)
		return round_now;
	return ticket + 1;
}

#define NOBODY MAX_ACCEPTORS
#define NEVER (1LL << 62) // the rank of who is not to be picked: above all others

// What is searched, and what was found.
struct search {
	__u64 among; // a bit for each seat
	__u64 now;   // round_now as it began

	__u64 seat;   // the one with the lowest rank, or NOBODY
	__u64 ticket; // its ticket as it then was
	__s64 rank;
};

// All ones if x is below 0, else 0.
static __always_inline __u64 ones_if_negative(__s64 x)
{
	x >>= 63;
	asm volatile("" : "+r"(x)); // or the compiler makes a branch of it
	return x;
}

// The verifier walks every way through every round of a loop, in every place that
// calls it; this is what a listener costs as it begins, and made 10 ms of CPU once.
// So there are two loops of eight rounds, each in a function that is not static: such
// are verified once. And a round has no branch that goes on two ways. The loops stay
// loops: unrolled they are slower to translate.
#define PIECE 8
#define VERIFIED_ONCE __attribute__((noinline))

VERIFIED_ONCE int search_piece(struct search *s, __u32 from)
{
	if (!s)
		return 0;
#pragma nounroll
	for (__u32 n = 0; n < PIECE; n++) {
		__u32 seat = (from + n) % MAX_ACCEPTORS;
		struct row *row = row_of(seat);

		if (!row)
			return 0; // cannot be: all seats have a row
		__u64 ticket = *ticket_of(row);
		__u64 passed = row->flags | (~(s->among >> seat) & 1);
		__u64 never = ones_if_negative(passed | -passed);
		__s64 rank = (rank_of(row, ticket, s->now) & ~never) | (NEVER & never);
		__u64 lower = ones_if_negative(rank - s->rank);

		s->seat ^= (s->seat ^ seat) & lower;
		s->ticket ^= (s->ticket ^ ticket) & lower;
		s->rank ^= (s->rank ^ rank) & lower;
	}
	return 0;
}

VERIFIED_ONCE int search(struct search *s)
{
	if (!s)
		return 0;
	s->now = round_now;
	s->seat = NOBODY;
	s->rank = NEVER;
	for (__u32 from = 0; from < MAX_ACCEPTORS && s->among >> from; from += PIECE)
		search_piece(s, from);
	return 0;
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
	struct search s = {.among = steered_to};

	for (int try = 1; try <= MAX_TRIES; try++) {
		search(&s);
		if (s.seat >= NOBODY)
			break;
		__u32 seat = s.seat;
		__u64 ticket = s.ticket;
		if (bpf_sk_select_reuseport(ctx, &sockets, &seat, 0)) {
			s.among &= ~(1ULL << seat); // its socket has closed
			continue;
		}
		struct row *row = row_of(seat);
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
		} else {
			row->round = __sync_fetch_and_add(&round_now, 1) + 1;
		}
		break;
	}
	return SK_PASS; // to the socket selected; if none was, to the one that the hash gives
}

// Neither helper that this calls (bpf_map_lookup_elem, bpf_sk_select_reuseport) is
// kept for GPL programs, so it goes by the licence of the rest.
char _license[] SEC("license") = "Apache-2.0";
