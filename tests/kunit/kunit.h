/* SPDX-License-Identifier: GPL-2.0 */
#ifndef TUNTAP_RING_KUNIT_H
#define TUNTAP_RING_KUNIT_H

#include <linux/build_bug.h>
#include <linux/log2.h>
#include <linux/netdevice.h>
#include <linux/prandom.h>
#include <linux/ptr_ring.h>
#include <kunit/test.h>

/* In place of a tun file: a ring, and the way from it to the queue above. */
struct tuntap_ring_kunit_end {
	struct ptr_ring *ring;
	struct net_device *dev;	/* NULL: the file has lost its device */
	int cons_cnt;		/* under the consumer lock */
	u16 queue_index;
	bool backpressure;	/* IFF_BACKPRESSURE is set */
	bool owner;		/* the file owns its queue */
};

enum tuntap_ring_kunit_wake {
	WAKE_NOT_NEEDED,
	WAKE_DONE,
	WAKE_SUPPRESSED,
};

/* What a call did, beside the entries that it returned. */
struct tuntap_ring_kunit_outcome {
	int freed;		/* slots */
	int wake;		/* enum tuntap_ring_kunit_wake */
};

/* As consumer.rs asserts. */
static_assert(sizeof(struct tuntap_ring_kunit_end) == 24 &&
	      offsetof(struct tuntap_ring_kunit_end, owner) == 23);
static_assert(sizeof(struct tuntap_ring_kunit_outcome) == 8);

/* Ours: consume_batched() of src/consume.rs. */
int tuntap_ring_kunit_consume(struct tuntap_ring_kunit_end *end, void **array,
			      int n, struct tuntap_ring_kunit_outcome *outcome);

/* cons_cnt of the tun file whose ring this is. */
int *tuntap_ring_kunit_cons_cnt(struct ptr_ring *ring);

extern unsigned long tuntap_ring_kunit_operations;
extern unsigned long tuntap_ring_kunit_seed;

/* Seeds a test, and says with what. */
void tuntap_ring_kunit_randomize(struct kunit *test, struct rnd_state *rnd);

/* A device that is up, though not registered; freed with the test. */
struct net_device *tuntap_ring_kunit_device(struct kunit *test, int queues);

/* Entries are numbers, as pointers; never NULL. */
static inline void *number_to_entry(unsigned long number)
{
	return (void *)(number + 1);
}

static inline unsigned long entry_to_number(const void *entry)
{
	return (unsigned long)entry - 1;
}

/* One of 0 to LIMIT - 1. */
static inline unsigned int below(struct rnd_state *rnd, unsigned int limit)
{
	return ((u64)prandom_u32_state(rnd) * limit) >> 32;
}

/* A number from 1 to MOST, each order of magnitude as likely as the others. */
static inline unsigned int magnitude(struct rnd_state *rnd, unsigned int most)
{
	unsigned int bits = fls(most);

	return min(1 + below(rnd, 1U << (1 + below(rnd, bits))), most);
}

/* How far apart the marks are at which our consumer looks at the queue. */
static inline int stride_of(const struct ptr_ring *ring)
{
	return ring->size < 8 ? 1 : rounddown_pow_of_two(ring->size / 8);
}

/*
 * FREED slots, since the tail was at TAIL, as our consumer counts them: from
 * mark to mark.
 */
static inline int from_mark_to_mark(const struct ptr_ring *ring, int tail, int freed)
{
	int stride = stride_of(ring);

	return freed + tail % stride - ring->consumer_tail % stride;
}

/*
 * What tun_net_xmit() of Linux 7.3 does under the producer lock, which is held,
 * for an entry of ours. Returns as __ptr_ring_produce().
 */
static inline int produce_and_stop(struct ptr_ring *ring, void *entry,
				   struct netdev_queue *queue, bool may_stop)
{
	int ret = __ptr_ring_produce(ring, entry);

	if (may_stop && __ptr_ring_check_produce(ring) == -ENOSPC) {
		netif_tx_stop_queue(queue);
		/* Pairs with smp_mb() in wants_wake(). */
		smp_mb__after_atomic();
		if (!__ptr_ring_check_produce(ring))
			netif_tx_wake_queue(queue);
	}
	return ret;
}

#endif
