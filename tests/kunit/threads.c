// SPDX-License-Identifier: GPL-2.0
/*
 * A producer and our consumer, each on a CPU of its own.
 *
 *   CPU 1: kthread                         CPU 0: the test
 *
 *   unless the queue is stopped  ------->  take up to n
 *     produce, stop if full     the ring   wake if that is due
 *
 * The producer does what tun_net_xmit() of Linux 7.3 does behind a qdisc, which
 * asks it for nothing while the queue is stopped. So an entry that finds no
 * room says that the queue was running while the ring was full: nobody but the
 * producer stops it, and nobody but the consumer wakes it.
 */

#include <linux/cpumask.h>
#include <linux/jiffies.h>
#include <linux/kthread.h>
#include <linux/math64.h>

#include "kunit.h"

#define MOST_ASKED	64

/* Without an entry for so many seconds, the test has come to a halt. */
#define PATIENCE	20

/*
 * After so many seconds no more is produced than the fewest that show
 * something: on a host that is busy a ring of one entry takes its time, as
 * each entry waits for two threads to be run.
 */
#define DURATION	2
#define FEWEST		100

struct threads {
	struct kunit *test;
	struct rnd_state rnd;
	struct ptr_ring ring;
	struct tuntap_ring_kunit_end end;
	struct netdev_queue *queue;
	struct task_struct *other;

	/* How many are to be produced, before this time. */
	unsigned long entries;
	unsigned long deadline;

	/* The producer's, whom the other side asks when it is done. */
	unsigned long produced;
	unsigned long found_no_room;
	unsigned long stops;

	/* Where there are two consumers: which entries were handed out. */
	unsigned long *seen;
	atomic_long_t taken;
	atomic_long_t twice;

	/* The consumer's. */
	void *out[MOST_ASKED];
	unsigned long next;
	unsigned long lost;
	unsigned long wakes;
	unsigned long withheld;
};

static unsigned long lost;

static void count_lost(void *entry)
{
	lost++;
}

/* One entry, unless the queue is stopped or there are enough. */
static bool produce(struct threads *t)
{
	int ret;

	if (t->produced >= FEWEST && time_after(jiffies, t->deadline))
		WRITE_ONCE(t->entries, t->produced);
	if (t->produced == t->entries || netif_tx_queue_stopped(t->queue))
		return false;
	spin_lock_bh(&t->ring.producer_lock);
	ret = produce_and_stop(&t->ring, number_to_entry(t->produced), t->queue,
			       true);
	t->stops += netif_tx_queue_stopped(t->queue);
	spin_unlock_bh(&t->ring.producer_lock);
	if (ret)
		t->found_no_room++;
	else
		WRITE_ONCE(t->produced, t->produced + 1);
	return true;
}

static int keep_producing(void *data)
{
	while (!kthread_should_stop()) {
		if (!produce(data))
			cpu_relax();
		cond_resched();
	}
	return 0;
}

static void cleanup_ring(void *ring)
{
	ptr_ring_cleanup(ring, NULL);
}

static void stop_other(void *data)
{
	struct threads *t = data;

	if (t->other)
		kthread_stop(t->other);
	t->other = NULL;
}

/*
 * Whether the producer was left behind a dry ring. The last call found it dry,
 * and a producer stops with a full ring only: once both are so, nothing but a
 * wake that is missing can be the reason.
 */
static bool is_left_behind(struct threads *t)
{
	bool ret;

	spin_lock_bh(&t->ring.consumer_lock);
	spin_lock(&t->ring.producer_lock);
	ret = __ptr_ring_empty(&t->ring) && netif_tx_queue_stopped(t->queue);
	spin_unlock(&t->ring.producer_lock);
	spin_unlock_bh(&t->ring.consumer_lock);
	return ret;
}

static unsigned long enough(void)
{
	return max(tuntap_ring_kunit_operations / 20, 1000UL);
}

static void set_up(struct kunit *test, struct threads *t, int size,
		   int (*other)(void *data))
{
	struct net_device *dev;

	if (num_online_cpus() < 2)
		kunit_skip(test, "one CPU only");
	t->test = test;
	lost = 0;
	t->entries = enough();
	tuntap_ring_kunit_randomize(test, &t->rnd);
	KUNIT_ASSERT_EQ(test, 0, ptr_ring_init(&t->ring, size, GFP_KERNEL));
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, cleanup_ring,
							   &t->ring));
	dev = tuntap_ring_kunit_device(test, 1);
	t->queue = netdev_get_tx_queue(dev, 0);
	t->end = (struct tuntap_ring_kunit_end) {
		.ring = &t->ring,
		.dev = dev,
		.backpressure = true,
		.owner = true,
	};
	KUNIT_ASSERT_EQ(test, 0, set_cpus_allowed_ptr(current, cpumask_of(0)));
	t->other = kthread_create(other, t, "kunit");
	if (IS_ERR(t->other)) {
		t->other = NULL;
		KUNIT_FAIL_AND_ABORT(test, "no second thread");
	}
	kthread_bind(t->other, cpumask_next(0, cpu_online_mask));
	KUNIT_ASSERT_EQ(test, 0,
			kunit_add_action_or_reset(test, stop_other, t));
	t->deadline = jiffies + DURATION * HZ;
	wake_up_process(t->other);
}

/* One call; returns how many entries it took. */
static int consume(struct threads *t)
{
	struct tuntap_ring_kunit_outcome outcome;
	int n = 1 + below(&t->rnd, MOST_ASKED), taken, i;

	taken = tuntap_ring_kunit_consume(&t->end, t->out, n, &outcome);
	for (i = 0; i < taken; i++)
		if (entry_to_number(t->out[i]) != t->next++)
			KUNIT_FAIL_AND_ABORT(t->test, "got entry %lu, not %lu",
					     entry_to_number(t->out[i]),
					     t->next - 1);
	t->wakes += outcome.wake == WAKE_DONE;
	t->withheld += outcome.wake == WAKE_WITHHELD;
	if (!taken && is_left_behind(t))
		KUNIT_FAIL_AND_ABORT(t->test, "the queue is stopped, the ring dry, after entry %lu",
				     t->next);
	return taken;
}

/*
 * Hands back the last entries of a batch. They come again, in order, but for
 * the oldest of them, if the producer was faster: those are gone.
 */
static void hand_back(struct threads *t, int taken)
{
	int n = below(&t->rnd, taken + 1);
	unsigned long before = lost;

	ptr_ring_unconsume(&t->ring, t->out + taken - n, n, count_lost);
	t->next -= n - (lost - before);
}

static void run(struct kunit *test, int size, bool hands_back)
{
	struct threads *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);
	u64 start = ktime_get_ns(), took;
	unsigned long last;

	KUNIT_ASSERT_NOT_NULL(test, t);
	set_up(test, t, size, keep_producing);
	last = jiffies;
	while (t->next != READ_ONCE(t->entries)) {
		int taken = consume(t);

		if (hands_back && taken && !below(&t->rnd, 4))
			hand_back(t, taken);
		if (taken)
			last = jiffies;
		else if (time_after(jiffies, last + PATIENCE * HZ))
			KUNIT_FAIL_AND_ABORT(test, "no entry after %lu (%lu produced), the queue %s",
					     t->next, READ_ONCE(t->produced),
					     netif_tx_queue_stopped(t->queue) ?
					     "stopped" : "running");
		cond_resched();
	}
	took = div_u64(ktime_get_ns() - start, NSEC_PER_MSEC);
	stop_other(t);

	kunit_info(test, "%lu entries in %llu ms: %lu stops, %lu wakes, %lu withheld, %lu lost when handed back",
		   t->entries, took, t->stops, t->wakes, t->withheld, lost);
	KUNIT_EXPECT_GE(test, t->next, FEWEST);
	KUNIT_EXPECT_EQ(test, t->produced, t->next);
	KUNIT_EXPECT_TRUE(test, ptr_ring_empty(&t->ring));
	KUNIT_EXPECT_FALSE(test, netif_tx_queue_stopped(t->queue));
	/* A ring of one is full with each entry. */
	if (size == 1) {
		KUNIT_EXPECT_GT(test, t->stops, 0);
		KUNIT_EXPECT_GT(test, t->wakes, 0);
	}
	/* What is handed back may fill a ring whose queue runs. */
	if (!hands_back) {
		KUNIT_EXPECT_EQ(test, 0, t->found_no_room);
		KUNIT_EXPECT_EQ(test, 0, lost);
	}
}

/* Marks what was taken; each consumer gets its part of it in order. */
static int take_and_mark(struct threads *t, void **out, unsigned long *next)
{
	struct tuntap_ring_kunit_outcome outcome;
	int taken, i;

	taken = tuntap_ring_kunit_consume(&t->end, out, MOST_ASKED, &outcome);
	for (i = 0; i < taken; i++) {
		unsigned long number = entry_to_number(out[i]);

		if (number < *next || number >= t->entries ||
		    test_and_set_bit(number, t->seen))
			atomic_long_inc(&t->twice);
		*next = number + 1;
	}
	atomic_long_add(taken, &t->taken);
	return taken;
}

static int consume_as_well(void *data)
{
	struct threads *t = data;
	void *out[MOST_ASKED];
	unsigned long next = 0;

	while (!kthread_should_stop()) {
		if (!take_and_mark(t, out, &next))
			cpu_relax();
		cond_resched();
	}
	return 0;
}

/* Each entry goes to one of two consumers, who both go at it all the time. */
static void two_consumers_take_each_entry_once(struct kunit *test)
{
	struct threads *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);
	unsigned long last = jiffies, mine = 0;
	int taken;

	KUNIT_ASSERT_NOT_NULL(test, t);
	t->seen = kunit_kcalloc(test, BITS_TO_LONGS(enough()), sizeof(long),
				GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, t->seen);
	set_up(test, t, *(const int *)test->param_value, consume_as_well);
	while (atomic_long_read(&t->taken) < t->entries &&
	       !atomic_long_read(&t->twice)) {
		int n = MOST_ASKED;

		while (n-- && produce(t))
			last = jiffies;
		taken = take_and_mark(t, t->out, &t->next);
		if (taken)
			last = jiffies;
		mine += taken;
		if (time_after(jiffies, last + PATIENCE * HZ))
			KUNIT_FAIL_AND_ABORT(test, "%ld of %lu entries, and no more",
					     atomic_long_read(&t->taken),
					     t->entries);
		cond_resched();
	}
	stop_other(t);
	kunit_info(test, "%lu entries, %lu to the other consumer, %lu stops",
		   t->entries, t->entries - mine, t->stops);
	KUNIT_EXPECT_EQ(test, 0, atomic_long_read(&t->twice));
	KUNIT_EXPECT_GE(test, t->entries, FEWEST);
	KUNIT_EXPECT_EQ(test, t->entries, atomic_long_read(&t->taken));
	KUNIT_EXPECT_EQ(test, 0, t->found_no_room);
	KUNIT_EXPECT_TRUE(test, ptr_ring_empty(&t->ring));
	KUNIT_EXPECT_FALSE(test, netif_tx_queue_stopped(t->queue));
}

static const int sizes[] = {
	1, 2, 3, 7, 16, 31, 32, 33, 47, 58, 64, 100, 256, 1000, 4096
};

static void describe(const int *size, char *desc)
{
	snprintf(desc, KUNIT_PARAM_DESC_SIZE, "ring of %d", *size);
}

KUNIT_ARRAY_PARAM(ring, sizes, describe);

static void entries_arrive_once_and_in_order(struct kunit *test)
{
	run(test, *(const int *)test->param_value, false);
}

static void unconsumed_entries_arrive_again(struct kunit *test)
{
	run(test, *(const int *)test->param_value, true);
}

static struct kunit_case threads_cases[] = {
	KUNIT_CASE_PARAM_ATTR(entries_arrive_once_and_in_order, ring_gen_params,
			      { .speed = KUNIT_SPEED_SLOW }),
	KUNIT_CASE_PARAM_ATTR(unconsumed_entries_arrive_again, ring_gen_params,
			      { .speed = KUNIT_SPEED_SLOW }),
	KUNIT_CASE_PARAM_ATTR(two_consumers_take_each_entry_once, ring_gen_params,
			      { .speed = KUNIT_SPEED_SLOW }),
	{}
};

static struct kunit_suite threads_suite = {
	.name = "tuntap_ring_two_cpus",
	.test_cases = threads_cases,
};

kunit_test_suite(threads_suite);
