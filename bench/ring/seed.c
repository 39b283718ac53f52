// SPDX-License-Identifier: GPL-2.0
/*
 * The algorithm of the patch of 2025 that proposed tun_ring_consume_batched(),
 * written again for measurements. It consumes entry by entry. Where an entry
 * completes a batch, it checks the queue, frees the slots, and then wakes the
 * queue if it was stopped at the check. Documentation/protocol.rst explains the
 * errors of this order.
 */

#include "bench.h"

/* Returns whether __ptr_ring_discard_one() of one more entry frees slots. */
static inline bool frees_slots(const struct ptr_ring *ring)
{
	int head = ring->consumer_head + 1;

	return head - ring->consumer_tail >= ring->batch || head >= ring->size;
}

noinline int seed_consume_batched(struct seed_file *file, void **array, int n)
{
	struct ptr_ring *ring = file->ring;
	int taken = 0;

	spin_lock(&ring->consumer_lock);
	while (taken < n) {
		void *entry = __ptr_ring_peek(ring);
		struct netdev_queue *queue;

		if (!entry)
			break;
		array[taken++] = entry;
		if (likely(!frees_slots(ring))) {
			__ptr_ring_discard_one(ring);
			continue;
		}
		rcu_read_lock();
		queue = netdev_get_tx_queue(rcu_dereference(file->dev),
					    file->queue_index);
		if (unlikely(netif_tx_queue_stopped(queue))) {
			barrier();
			__ptr_ring_discard_one(ring);
			netif_tx_wake_queue(queue);
		} else {
			barrier();
			__ptr_ring_discard_one(ring);
		}
		rcu_read_unlock();
	}
	spin_unlock(&ring->consumer_lock);
	return taken;
}
