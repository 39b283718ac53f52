/* SPDX-License-Identifier: GPL-2.0 */
#ifndef TUNTAP_RING_KUNIT_H
#define TUNTAP_RING_KUNIT_H

#include <linux/build_bug.h>
#include <linux/log2.h>
#include <linux/netdevice.h>
#include <linux/prandom.h>
#include <linux/ptr_ring.h>
#include <kunit/test.h>

/* Represents a tun file: a ring, and the device and queue above it. */
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

/* The outcome of a call, besides the returned entries. */
struct tuntap_ring_kunit_outcome {
	int freed;		/* slots */
	int wake;		/* enum tuntap_ring_kunit_wake */
};

/* consumer.rs asserts the same. */
static_assert(sizeof(struct tuntap_ring_kunit_end) == 24 &&
	      offsetof(struct tuntap_ring_kunit_end, owner) == 23);
static_assert(sizeof(struct tuntap_ring_kunit_outcome) == 8);

/* Calls consume_batched() of src/consume.rs. */
int tuntap_ring_kunit_consume(struct tuntap_ring_kunit_end *end, void **array,
			      int n, struct tuntap_ring_kunit_outcome *outcome);

/* Returns cons_cnt of the tun file that has this ring. */
int *tuntap_ring_kunit_cons_cnt(struct ptr_ring *ring);

extern unsigned long tuntap_ring_kunit_operations;
extern unsigned long tuntap_ring_kunit_seed;

/* Seeds a test, and prints the seed. */
void tuntap_ring_kunit_randomize(struct kunit *test, struct rnd_state *rnd);

/* Creates a device that is up, but not registered. It is freed with the test. */
struct net_device *tuntap_ring_kunit_device(struct kunit *test, int queues);

/* Entries are numbers, converted to pointers; never NULL. */
static inline void *number_to_entry(unsigned long number)
{
	return (void *)(number + 1);
}

static inline unsigned long entry_to_number(const void *entry)
{
	return (unsigned long)entry - 1;
}

/* Returns a number from 0 to LIMIT - 1. */
static inline unsigned int below(struct rnd_state *rnd, unsigned int limit)
{
	return ((u64)prandom_u32_state(rnd) * limit) >> 32;
}

/* Returns a number from 1 to MOST; all orders of magnitude are equally likely. */
static inline unsigned int magnitude(struct rnd_state *rnd, unsigned int most)
{
	unsigned int bits = fls(most);

	return min(1 + below(rnd, 1U << (1 + below(rnd, bits))), most);
}

/* Returns the distance of tuntap_ring's checkpoints. */
static inline int stride_of(const struct ptr_ring *ring)
{
	return ring->size < 8 ? 1 : rounddown_pow_of_two(ring->size / 8);
}

/*
 * Counts the FREED slots, since the tail was at TAIL, as tuntap_ring does: from
 * checkpoint to checkpoint.
 */
static inline int freed_at_checkpoint(const struct ptr_ring *ring, int tail, int freed)
{
	int stride = stride_of(ring);

	return freed + tail % stride - ring->consumer_tail % stride;
}

/*
 * Produces an entry as tun_net_xmit() of Linux 7.3 does under the producer lock,
 * which the caller holds. Returns the result of __ptr_ring_produce().
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
