// SPDX-License-Identifier: GPL-2.0
/*
 * Our consumer against the kernel's own __ptr_ring_consume_batched(): the same
 * random operations on two rings, and all of both compared after each.
 *
 *                  +--> ours   --> src/consume.rs ------------------+
 *   operations ----|                                                +--> equal?
 *                  +--> theirs --> __ptr_ring_consume_batched() ----+
 *
 * The comparison is of whole rings, also large ones: a memcmp() of 4,096 slots
 * takes less time than the operations that fill them.
 *
 * What is no part of a ring has no twin in the kernel's consumer, so the test
 * says it by rules of its own: when the queue is woken, and what cons_cnt is.
 * By design ours differs from tun's own consumer there, in that
 *
 *  - cons_cnt counts slots freed, from mark to mark, and not entries consumed,
 *    see TunDevice::add_freed() (tun.c here compares that with tun);
 *  - the queue is checked if the tail passed a checkpoint or the ring is empty, not
 *    always;
 *  - the queue is not woken while the ring is full.
 *
 * At most a ring-full is taken in one call. Nobody produces meanwhile here, so
 * the kernel's takes no more either.
 */

#include <linux/math64.h>

#include "kunit.h"

#define MOST_SLOTS	4096
#define MOST_ASKED	(MOST_SLOTS + 64)

struct twins {
	struct kunit *test;
	struct rnd_state rnd;
	unsigned long step;

	struct ptr_ring ours;
	struct ptr_ring theirs;
	unsigned long produced;

	/* What the last call handed out, and how many of that we still have. */
	void *out[MOST_ASKED];
	void *expected[MOST_ASKED];
	int held;

	/* Above the ring of ours. */
	struct tuntap_ring_kunit_end end;
	struct net_device *dev;
	struct netdev_queue *queue;
	int cons_cnt;

	/* So that a test that never gets anywhere is seen. */
	unsigned long consumed;
	unsigned long wakes;
	unsigned long handed_back;
	unsigned long resizes;
};

/* What ptr_ring destroys, in order; its callback is told no more than that. */
static struct {
	unsigned long count;
	unsigned long hash;
} destroyed_of_ours, destroyed_of_theirs;

static void destroy_ours(void *entry)
{
	destroyed_of_ours.count++;
	destroyed_of_ours.hash = 31 * destroyed_of_ours.hash +
				 (unsigned long)entry;
}

static void destroy_theirs(void *entry)
{
	destroyed_of_theirs.count++;
	destroyed_of_theirs.hash = 31 * destroyed_of_theirs.hash +
				   (unsigned long)entry;
}

static void cleanup_ring(void *ring)
{
	ptr_ring_cleanup(ring, NULL);
}

/* The first thing in which the rings differ, or NULL. */
static const char *difference(const struct twins *t)
{
	const struct ptr_ring *a = &t->ours, *b = &t->theirs;

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
	if (memcmp(&destroyed_of_ours, &destroyed_of_theirs,
		   sizeof(destroyed_of_ours)))
		return "entries destroyed";
	return NULL;
}

#define FAIL(t, fmt, ...)						\
	KUNIT_FAIL_AND_ABORT((t)->test,					\
		"step %lu, ring of %d by %d, head %d, tail %d: " fmt,	\
		(t)->step, (t)->theirs.size, (t)->theirs.batch,		\
		(t)->theirs.consumer_head, (t)->theirs.consumer_tail,	\
		##__VA_ARGS__)

static bool is_running(const struct twins *t)
{
	return test_bit(__LINK_STATE_START, &t->dev->state);
}

/* More often a few than many. */
static int amount(struct twins *t)
{
	int most = below(&t->rnd, 4) ? 16 : t->theirs.size;

	return 1 + below(&t->rnd, most + 1);
}

static void produce(struct twins *t)
{
	bool may_stop = t->end.backpressure && t->end.dev && is_running(t);
	int n = amount(t);

	while (n--) {
		void *entry = number_to_entry(t->produced);
		int ours, theirs;

		/* Through the qdisc, but for some who pass it by. */
		if (netif_tx_queue_stopped(t->queue) && below(&t->rnd, 8))
			return;
		spin_lock_bh(&t->ours.producer_lock);
		ours = produce_and_stop(&t->ours, entry, t->queue, may_stop);
		spin_unlock_bh(&t->ours.producer_lock);
		theirs = ptr_ring_produce(&t->theirs, entry);
		if (ours != theirs)
			FAIL(t, "producing: %d, not %d", ours, theirs);
		if (theirs)
			return;
		t->produced++;
	}
}

/* The rules of waking, on the ring of theirs; returns what is to happen. */
static int expect_wake(struct twins *t, int taken, int passed)
{
	struct ptr_ring *ring = &t->theirs;
	bool is_dry = __ptr_ring_empty(ring);

	/* A call that took nothing leaves the check to the one before. */
	if (!passed && (!taken || !is_dry))
		return WAKE_NOT_NEEDED;
	if (!t->end.dev || !t->end.backpressure || !is_running(t) ||
	    !t->end.owner || t->end.queue_index)
		return WAKE_NOT_NEEDED;
	if (!netif_tx_queue_stopped(t->queue))
		return WAKE_NOT_NEEDED;
	t->cons_cnt += passed;
	if (t->cons_cnt < ring->size / 2 && !is_dry)
		return WAKE_NOT_NEEDED;
	/* No other CPU fills the ring between the decision and the wake. */
	t->cons_cnt = 0;
	return WAKE_DONE;
}

static void consume(struct twins *t)
{
	int n = min(amount(t), MOST_ASKED), tail, taken, expected, freed, wake;
	struct tuntap_ring_kunit_outcome outcome;
	bool was_stopped;

	spin_lock(&t->theirs.consumer_lock);
	tail = t->theirs.consumer_tail;
	freed = t->theirs.consumer_head - tail;
	expected = __ptr_ring_consume_batched(&t->theirs, t->expected, n);
	freed += expected - (t->theirs.consumer_head - t->theirs.consumer_tail);
	spin_unlock(&t->theirs.consumer_lock);

	was_stopped = netif_tx_queue_stopped(t->queue);
	wake = expect_wake(t, expected,
			   from_mark_to_mark(&t->theirs, tail, freed));
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
		FAIL(t, "consuming %d: the queue is not as the call said", n);
	t->held = taken;
	t->consumed += taken;
	t->wakes += wake == WAKE_DONE;
}

/* The last of what was handed out, as vhost-net does; then it is gone. */
static void unconsume(struct twins *t)
{
	int n = below(&t->rnd, t->held + 1);

	ptr_ring_unconsume(&t->ours, t->out + t->held - n, n, destroy_ours);
	ptr_ring_unconsume(&t->theirs, t->expected + t->held - n, n,
			   destroy_theirs);
	t->handed_back += n;
	t->held = 0;
}

/* Half of the rings small, where the corner cases are. */
static int random_size(struct twins *t)
{
	if (!below(&t->rnd, 64))
		return 0;
	return magnitude(&t->rnd, below(&t->rnd, 2) ? 64 : MOST_SLOTS);
}

static void resize_pair(struct twins *t, int size)
{
	KUNIT_ASSERT_EQ(t->test, 0, ptr_ring_resize(&t->ours, size, GFP_KERNEL,
						    destroy_ours));
	KUNIT_ASSERT_EQ(t->test, 0, ptr_ring_resize(&t->theirs, size,
						    GFP_KERNEL,
						    destroy_theirs));
}

static void resize(struct twins *t)
{
	resize_pair(t, random_size(t));
	/* As tun_force_wake_queue(); at times without, so as to stay stopped. */
	if (below(&t->rnd, 2)) {
		t->end.cons_cnt = 0;
		t->cons_cnt = 0;
		if (is_running(t))
			netif_tx_wake_queue(t->queue);
	}
	t->resizes++;
}

/* Batches that this kernel does not use, and a tail that lags by more. */
static void rebatch(struct twins *t)
{
	int batch = 1 << below(&t->rnd, 7);

	t->ours.batch = batch;
	t->theirs.batch = batch;
}

/* What is above the ring changes; most of the time all of it is there. */
static void change_scene(struct twins *t)
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

static void operate(struct twins *t)
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

static struct twins *make_twins(struct kunit *test, int size)
{
	struct twins *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, t);
	t->test = test;
	memset(&destroyed_of_ours, 0, sizeof(destroyed_of_ours));
	memset(&destroyed_of_theirs, 0, sizeof(destroyed_of_theirs));
	KUNIT_ASSERT_EQ(test, 0, ptr_ring_init(&t->ours, size, GFP_KERNEL));
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, cleanup_ring,
							   &t->ours));
	KUNIT_ASSERT_EQ(test, 0, ptr_ring_init(&t->theirs, size, GFP_KERNEL));
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, cleanup_ring,
							   &t->theirs));
	t->dev = tuntap_ring_kunit_device(test, 1);
	t->queue = netdev_get_tx_queue(t->dev, 0);
	t->end = (struct tuntap_ring_kunit_end) {
		.ring = &t->ours,
		.dev = t->dev,
		.backpressure = true,
		.owner = true,
	};
	return t;
}

static void check(struct twins *t)
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
	struct twins *t = make_twins(test, 256);

	tuntap_ring_kunit_randomize(test, &t->rnd);
	for (; t->step < tuntap_ring_kunit_operations; t->step++) {
		operate(t);
		check(t);
		if (!(t->step % 1024))
			cond_resched();
	}
	took = div_u64(ktime_get_ns() - start, NSEC_PER_MSEC);
	kunit_info(test, "%lu operations in %llu ms: %lu entries consumed, %lu handed back, %lu destroyed, %lu resizes, %lu wakes",
		   t->step, took, t->consumed, t->handed_back,
		   destroyed_of_ours.count, t->resizes, t->wakes);
	if (tuntap_ring_kunit_operations < 100000)
		return;
	/* With so many, each kind of event has to occur. */
	KUNIT_EXPECT_GT(test, t->consumed, 0);
	KUNIT_EXPECT_GT(test, t->handed_back, 0);
	KUNIT_EXPECT_GT(test, destroyed_of_ours.count, 0);
	KUNIT_EXPECT_GT(test, t->resizes, 0);
	KUNIT_EXPECT_GT(test, t->wakes, 0);
}

static void produce_pair(struct twins *t)
{
	void *entry = number_to_entry(t->produced++);
	int ours = ptr_ring_produce(&t->ours, entry);
	int theirs = ptr_ring_produce(&t->theirs, entry);

	if (ours != theirs)
		FAIL(t, "producing: %d, not %d", ours, theirs);
}

static int consume_pair(struct twins *t, int n)
{
	struct tuntap_ring_kunit_outcome outcome;
	int taken = tuntap_ring_kunit_consume(&t->end, t->out, n, &outcome);
	int expected = ptr_ring_consume_batched(&t->theirs, t->expected, n);

	if (taken != expected ||
	    memcmp(t->out, t->expected, taken * sizeof(*t->out)))
		FAIL(t, "consuming %d: %d, not %d, or others", n, taken, expected);
	check(t);
	t->step++;
	return taken;
}

/* FILL entries from OFFSET on, taken N by N. */
static void fill_and_drain(struct twins *t, int size, int batch, int offset,
			   int fill, int n)
{
	resize_pair(t, size);
	t->ours.batch = batch;
	t->theirs.batch = batch;
	while (offset--) {
		produce_pair(t);
		consume_pair(t, 1);
	}
	while (fill--)
		produce_pair(t);
	while (consume_pair(t, n))
		;
}

/* Not by chance: small rings, each geometry of them. */
static void every_small_ring_matches_ptr_ring(struct kunit *test)
{
	struct twins *t = make_twins(test, 1);
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

/* Less than nothing, and nothing from nowhere. */
static void takes_nothing_for_n_below_1(struct kunit *test)
{
	static const int most[] = { 0, -1, INT_MIN };
	struct twins *t = make_twins(test, 0);
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
 * A file may have a higher index than its device has queues. There are queues
 * behind the last one here, so that a bound that is not kept is seen.
 */
static void queue_beyond_num_tx_queues_is_not_woken(struct kunit *test)
{
	struct twins *t = make_twins(test, 4);
	struct tuntap_ring_kunit_outcome outcome;
	const int queues = 4;
	int i;

	t->end.dev = tuntap_ring_kunit_device(test, queues);
	t->end.dev->num_tx_queues = 1;
	for (i = 0; i < queues; i++)
		netif_tx_stop_queue(&t->end.dev->_tx[i]);
	for (i = queues - 1; i >= 0; i--) {
		t->end.queue_index = i;
		KUNIT_EXPECT_EQ(test, 0, ptr_ring_produce(&t->ours, t));
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
