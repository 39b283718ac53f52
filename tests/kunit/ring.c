// SPDX-License-Identifier: GPL-2.0
/*
 * Compares tuntap_ring's consumer with the kernel's __ptr_ring_consume_batched():
 * applies the same random operations to two rings, and compares them after each.
 *
 *                  +--> tested    --> src/consume.rs ------------------+
 *   operations ----|                                                   +--> equal?
 *                  +--> reference --> __ptr_ring_consume_batched() ----+
 *
 * Whole rings are compared, also large ones: a memcmp() of 4,096 slots takes less
 * time than the operations that fill them.
 *
 * The kernel's function does not wake the queue and does not change cons_cnt. The
 * test has its own rules for both, expect_wake(). By design, tuntap_ring differs
 * from tun's own consumer:
 *
 *  - cons_cnt counts freed slots, from checkpoint to checkpoint, and not consumed
 *    entries, see TunDevice::add_freed() (tun.c here compares it with tun);
 *  - the queue is checked only if the tail passed a checkpoint or the ring is
 *    empty;
 *  - the queue is not woken while the ring is full.
 *
 * One call takes at most a ring-full. No entry is produced during a call here, so
 * the kernel's function does not take more either.
 */

#include <linux/math64.h>

#include "kunit.h"

#define MOST_SLOTS	4096
#define MOST_REQUESTED	(MOST_SLOTS + 64)

struct pair {
	struct kunit *test;
	struct rnd_state rnd;
	unsigned long step;

	struct ptr_ring tested;
	struct ptr_ring reference;
	unsigned long produced;

	/* The entries of the last call, and the number that may be unconsumed. */
	void *out[MOST_REQUESTED];
	void *expected[MOST_REQUESTED];
	int held;

	/* The device and the queue above the tested ring. */
	struct tuntap_ring_kunit_end end;
	struct net_device *dev;
	struct netdev_queue *queue;
	int cons_cnt;

	/* Counted to detect a test without effect. */
	unsigned long consumed;
	unsigned long wakes;
	unsigned long unconsumed;
	unsigned long resizes;
};

/* The destroyed entries, in order. ptr_ring passes only the entry to its callback. */
static struct {
	unsigned long count;
	unsigned long hash;
} destroyed_tested, destroyed_reference;

static void destroy_tested(void *entry)
{
	destroyed_tested.count++;
	destroyed_tested.hash = 31 * destroyed_tested.hash + (unsigned long)entry;
}

static void destroy_reference(void *entry)
{
	destroyed_reference.count++;
	destroyed_reference.hash = 31 * destroyed_reference.hash + (unsigned long)entry;
}

static void cleanup_ring(void *ring)
{
	ptr_ring_cleanup(ring, NULL);
}

/* Returns the name of the first difference of the rings, or NULL. */
static const char *difference(const struct pair *t)
{
	const struct ptr_ring *a = &t->tested, *b = &t->reference;

	if (a->consumer_head != b->consumer_head)
		return "consumer_head";
	if (a->consumer_tail != b->consumer_tail)
		return "consumer_tail";
	if (a->producer != b->producer)
		return "producer";
	if (a->size != b->size || a->batch != b->batch)
		return "geometry";
	if (memcmp(a->queue, b->queue, a->size * sizeof(*a->queue)))
		return "slots";
	if (memcmp(&destroyed_tested, &destroyed_reference, sizeof(destroyed_tested)))
		return "entries destroyed";
	return NULL;
}

#define FAIL(t, fmt, ...)						\
	KUNIT_FAIL_AND_ABORT((t)->test,					\
		"step %lu, ring of %d by %d, head %d, tail %d: " fmt,	\
		(t)->step, (t)->reference.size, (t)->reference.batch,		\
		(t)->reference.consumer_head, (t)->reference.consumer_tail,	\
		##__VA_ARGS__)

static bool is_running(const struct pair *t)
{
	return test_bit(__LINK_STATE_START, &t->dev->state);
}

/* Returns a number of entries; small numbers are more likely. */
static int amount(struct pair *t)
{
	int most = below(&t->rnd, 4) ? 16 : t->reference.size;

	return 1 + below(&t->rnd, most + 1);
}

static void produce(struct pair *t)
{
	bool may_stop = t->end.backpressure && t->end.dev && is_running(t);
	int n = amount(t);

	while (n--) {
		void *entry = number_to_entry(t->produced);
		int tested, reference;

		/* Most packets come through the qdisc, some bypass it. */
		if (netif_tx_queue_stopped(t->queue) && below(&t->rnd, 8))
			return;
		spin_lock_bh(&t->tested.producer_lock);
		tested = produce_and_stop(&t->tested, entry, t->queue, may_stop);
		spin_unlock_bh(&t->tested.producer_lock);
		reference = ptr_ring_produce(&t->reference, entry);
		if (tested != reference)
			FAIL(t, "producing: %d, not %d", tested, reference);
		if (reference)
			return;
		t->produced++;
	}
}

/* Returns the expected wake, according to the reference ring. */
static int expect_wake(struct pair *t, int taken, int passed)
{
	struct ptr_ring *ring = &t->reference;
	bool is_empty = __ptr_ring_empty(ring);

	/* A call that passed no checkpoint checks the queue only if it emptied the ring. */
	if (!passed && (!taken || !is_empty))
		return WAKE_NOT_NEEDED;
	if (!t->end.dev || !t->end.backpressure || !is_running(t) ||
	    !t->end.owner || t->end.queue_index)
		return WAKE_NOT_NEEDED;
	if (!netif_tx_queue_stopped(t->queue))
		return WAKE_NOT_NEEDED;
	t->cons_cnt += passed;
	if (t->cons_cnt < ring->size / 2 && !is_empty)
		return WAKE_NOT_NEEDED;
	/* No other CPU fills the ring between the decision and the wake. */
	t->cons_cnt = 0;
	return WAKE_DONE;
}

static void consume(struct pair *t)
{
	int n = min(amount(t), MOST_REQUESTED), tail, taken, expected, freed, wake;
	struct tuntap_ring_kunit_outcome outcome;
	bool was_stopped;

	spin_lock(&t->reference.consumer_lock);
	tail = t->reference.consumer_tail;
	freed = t->reference.consumer_head - tail;
	expected = __ptr_ring_consume_batched(&t->reference, t->expected, n);
	freed += expected - (t->reference.consumer_head - t->reference.consumer_tail);
	spin_unlock(&t->reference.consumer_lock);

	was_stopped = netif_tx_queue_stopped(t->queue);
	wake = expect_wake(t, expected,
			   freed_at_checkpoint(&t->reference, tail, freed));
	taken = tuntap_ring_kunit_consume(&t->end, t->out, n, &outcome);

	if (taken != expected)
		FAIL(t, "consuming %d: %d, not %d", n, taken, expected);
	if (memcmp(t->out, t->expected, taken * sizeof(*t->out)))
		FAIL(t, "consuming %d: other entries, or another order", n);
	if (outcome.freed != freed)
		FAIL(t, "consuming %d: %d freed, not %d", n, outcome.freed, freed);
	if (outcome.wake != wake)
		FAIL(t, "consuming %d: wake %d, not %d", n, outcome.wake, wake);
	if (netif_tx_queue_stopped(t->queue) !=
	    (was_stopped && wake != WAKE_DONE))
		FAIL(t, "consuming %d: the queue does not match the returned wake", n);
	t->held = taken;
	t->consumed += taken;
	t->wakes += wake == WAKE_DONE;
}

/* Unconsumes the last entries of the last call, as vhost-net does. */
static void unconsume(struct pair *t)
{
	int n = below(&t->rnd, t->held + 1);

	ptr_ring_unconsume(&t->tested, t->out + t->held - n, n, destroy_tested);
	ptr_ring_unconsume(&t->reference, t->expected + t->held - n, n,
			   destroy_reference);
	t->unconsumed += n;
	t->held = 0;
}

/* Half of the sizes are small, as small rings have the corner cases. */
static int random_size(struct pair *t)
{
	if (!below(&t->rnd, 64))
		return 0;
	return magnitude(&t->rnd, below(&t->rnd, 2) ? 64 : MOST_SLOTS);
}

static void resize_pair(struct pair *t, int size)
{
	KUNIT_ASSERT_EQ(t->test, 0, ptr_ring_resize(&t->tested, size, GFP_KERNEL,
						    destroy_tested));
	KUNIT_ASSERT_EQ(t->test, 0, ptr_ring_resize(&t->reference, size,
						    GFP_KERNEL,
						    destroy_reference));
}

static void resize(struct pair *t)
{
	resize_pair(t, random_size(t));
	/* As tun_force_wake_queue(). At times the queue stays stopped. */
	if (below(&t->rnd, 2)) {
		t->end.cons_cnt = 0;
		t->cons_cnt = 0;
		if (is_running(t))
			netif_tx_wake_queue(t->queue);
	}
	t->resizes++;
}

/* Sets batches that this kernel does not use, so the tail may lag by more than a batch. */
static void rebatch(struct pair *t)
{
	int batch = 1 << below(&t->rnd, 7);

	t->tested.batch = batch;
	t->reference.batch = batch;
}

/* Changes device, queue and flag above the ring. Most of the time all are present. */
static void change_scene(struct pair *t)
{
	t->end.dev = below(&t->rnd, 8) ? t->dev : NULL;
	t->end.backpressure = below(&t->rnd, 8);
	t->end.owner = below(&t->rnd, 8);
	/* The device has one queue. */
	t->end.queue_index = below(&t->rnd, 8) ? 0 : 1 + below(&t->rnd, 255);
	if (below(&t->rnd, 8))
		set_bit(__LINK_STATE_START, &t->dev->state);
	else
		clear_bit(__LINK_STATE_START, &t->dev->state);
}

static void operate(struct pair *t)
{
	switch (below(&t->rnd, 256)) {
	case 0:
		return resize(t);
	case 1:
		return rebatch(t);
	case 2 ... 5:
		return change_scene(t);
	case 6 ... 30:
		return unconsume(t);
	case 31 ... 142:
		return produce(t);
	default:
		return consume(t);
	}
}

static struct pair *make_pair(struct kunit *test, int size)
{
	struct pair *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, t);
	t->test = test;
	memset(&destroyed_tested, 0, sizeof(destroyed_tested));
	memset(&destroyed_reference, 0, sizeof(destroyed_reference));
	KUNIT_ASSERT_EQ(test, 0, ptr_ring_init(&t->tested, size, GFP_KERNEL));
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, cleanup_ring,
							   &t->tested));
	KUNIT_ASSERT_EQ(test, 0, ptr_ring_init(&t->reference, size, GFP_KERNEL));
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, cleanup_ring,
							   &t->reference));
	t->dev = tuntap_ring_kunit_device(test, 1);
	t->queue = netdev_get_tx_queue(t->dev, 0);
	t->end = (struct tuntap_ring_kunit_end) {
		.ring = &t->tested,
		.dev = t->dev,
		.backpressure = true,
		.owner = true,
	};
	return t;
}

static void check(struct pair *t)
{
	const char *what = difference(t);

	if (what)
		FAIL(t, "the rings differ: %s", what);
	if (t->end.cons_cnt != t->cons_cnt)
		FAIL(t, "cons_cnt is %d, not %d", t->end.cons_cnt, t->cons_cnt);
}

static void random_operations_match_ptr_ring(struct kunit *test)
{
	u64 start = ktime_get_ns(), took;
	struct pair *t = make_pair(test, 256);

	tuntap_ring_kunit_randomize(test, &t->rnd);
	for (; t->step < tuntap_ring_kunit_operations; t->step++) {
		operate(t);
		check(t);
		if (!(t->step % 1024))
			cond_resched();
	}
	took = div_u64(ktime_get_ns() - start, NSEC_PER_MSEC);
	kunit_info(test, "%lu operations in %llu ms: %lu entries consumed, %lu unconsumed, %lu destroyed, %lu resizes, %lu wakes",
		   t->step, took, t->consumed, t->unconsumed,
		   destroyed_tested.count, t->resizes, t->wakes);
	if (tuntap_ring_kunit_operations < 100000)
		return;
	/* With this many operations, each kind of event must occur. */
	KUNIT_EXPECT_GT(test, t->consumed, 0);
	KUNIT_EXPECT_GT(test, t->unconsumed, 0);
	KUNIT_EXPECT_GT(test, destroyed_tested.count, 0);
	KUNIT_EXPECT_GT(test, t->resizes, 0);
	KUNIT_EXPECT_GT(test, t->wakes, 0);
}

static void produce_pair(struct pair *t)
{
	void *entry = number_to_entry(t->produced++);
	int tested = ptr_ring_produce(&t->tested, entry);
	int reference = ptr_ring_produce(&t->reference, entry);

	if (tested != reference)
		FAIL(t, "producing: %d, not %d", tested, reference);
}

static int consume_pair(struct pair *t, int n)
{
	struct tuntap_ring_kunit_outcome outcome;
	int taken = tuntap_ring_kunit_consume(&t->end, t->out, n, &outcome);
	int expected = ptr_ring_consume_batched(&t->reference, t->expected, n);

	if (taken != expected ||
	    memcmp(t->out, t->expected, taken * sizeof(*t->out)))
		FAIL(t, "consuming %d: %d, not %d, or others", n, taken, expected);
	check(t);
	t->step++;
	return taken;
}

/* Fills the rings with FILL entries from slot OFFSET on, and takes N entries per call. */
static void fill_and_drain(struct pair *t, int size, int batch, int offset,
			   int fill, int n)
{
	resize_pair(t, size);
	t->tested.batch = batch;
	t->reference.batch = batch;
	while (offset--) {
		produce_pair(t);
		consume_pair(t, 1);
	}
	while (fill--)
		produce_pair(t);
	while (consume_pair(t, n))
		;
}

/* Tests each geometry of small rings. */
static void every_small_ring_matches_ptr_ring(struct kunit *test)
{
	struct pair *t = make_pair(test, 1);
	int size, batch, offset, fill, n;

	for (size = 1; size <= 12; size++) {
		for (batch = 1; batch <= size + 1; batch *= 2)
			for (offset = 0; offset < size; offset++)
				for (fill = 0; fill <= size; fill++)
					for (n = 1; n <= fill + 1; n++)
						fill_and_drain(t, size, batch,
							       offset, fill, n);
		cond_resched();
	}
	kunit_info(test, "%lu calls", t->step);
}

/* Calls for no entry, for negative numbers, and with an empty ring. */
static void takes_nothing_for_n_below_1(struct kunit *test)
{
	static const int most[] = { 0, -1, INT_MIN };
	struct pair *t = make_pair(test, 0);
	int i;

	consume_pair(t, 64);
	resize_pair(t, 8);
	consume_pair(t, 64);
	produce_pair(t);
	for (i = 0; i < ARRAY_SIZE(most); i++)
		consume_pair(t, most[i]);
	KUNIT_EXPECT_EQ(test, 1, consume_pair(t, 64));
}

/*
 * The index of a file may exceed the number of its device's queues. Here the
 * memory after the last queue has more queues, so a missing check is detected.
 */
static void queue_beyond_num_tx_queues_is_not_woken(struct kunit *test)
{
	struct pair *t = make_pair(test, 4);
	struct tuntap_ring_kunit_outcome outcome;
	const int queues = 4;
	int i;

	t->end.dev = tuntap_ring_kunit_device(test, queues);
	t->end.dev->num_tx_queues = 1;
	for (i = 0; i < queues; i++)
		netif_tx_stop_queue(&t->end.dev->_tx[i]);
	for (i = queues - 1; i >= 0; i--) {
		t->end.queue_index = i;
		KUNIT_EXPECT_EQ(test, 0, ptr_ring_produce(&t->tested, t));
		KUNIT_EXPECT_EQ(test, 1, tuntap_ring_kunit_consume(&t->end,
								   t->out, 64,
								   &outcome));
		KUNIT_EXPECT_EQ(test, outcome.wake,
				i ? WAKE_NOT_NEEDED : WAKE_DONE);
		KUNIT_EXPECT_EQ(test, netif_tx_queue_stopped(&t->end.dev->_tx[i]),
				!!i);
	}
	t->end.dev->num_tx_queues = queues;
}

static struct kunit_case ring_cases[] = {
	KUNIT_CASE(takes_nothing_for_n_below_1),
	KUNIT_CASE(queue_beyond_num_tx_queues_is_not_woken),
	KUNIT_CASE(every_small_ring_matches_ptr_ring),
	KUNIT_CASE_SLOW(random_operations_match_ptr_ring),
	{}
};

static struct kunit_suite ring_suite = {
	.name = "tuntap_ring_as_ptr_ring",
	.test_cases = ring_cases,
};

kunit_test_suite(ring_suite);
