// SPDX-License-Identifier: GPL-2.0
/*
 * Runs a producer and tuntap_ring's consumer on two CPUs.
 *
 *   CPU 1: kthread                         CPU 0: the test
 *
 *   unless the queue is stopped  ------->  take up to n
 *     produce, stop if full     the ring   wake if that is due
 *
 * The producer does the same as tun_net_xmit() of Linux 7.3 below a qdisc, which
 * sends no packet while the queue is stopped. Only the producer stops the queue,
 * and only the consumer wakes it. So an entry that finds no room shows that the
 * queue was running while the ring was full.
 */

#include <linux/cpumask.h>
#include <linux/delay.h>
#include <linux/jiffies.h>
#include <linux/kthread.h>
#include <linux/math64.h>

#include "kunit.h"

#define MOST_REQUESTED	64

/* A test fails after this number of seconds without progress. */
#define PATIENCE	300

/*
 * The number of times that a side checks again at once while it waits for the
 * other CPU. Then it sleeps in between: on a busy host both may share a processor.
 */
#define SPINS		1000

/*
 * The producer ends after this number of seconds, once it has produced the least
 * number of entries. If both CPUs share a processor of the host, each handover
 * takes milliseconds.
 */
#define ENOUGH_TIME	3

struct wait {
	unsigned int rounds;	/* since the last progress */
	unsigned long since;
};

struct threads {
	struct kunit *test;
	struct rnd_state rnd;
	struct ptr_ring ring;
	struct tuntap_ring_kunit_end end;
	struct netdev_queue *queue;
	struct task_struct *other;

	/* The number of entries to produce. The producer lowers it after ENOUGH_TIME. */
	unsigned long entries;
	unsigned long until;

	/* Written by the producer, and read by the other side at the end. */
	unsigned long produced;
	unsigned long found_no_room;
	unsigned long stops;

	/* With two consumers: the entries that were taken. */
	unsigned long *seen;
	atomic_long_t taken;
	atomic_long_t twice;

	/* The state of a single call on the other CPU. */
	bool has_begun;
	bool is_done;

	/* Written by the consumer. */
	void *out[MOST_REQUESTED];
	unsigned long next;
	unsigned long lost;
	unsigned long wakes;
	unsigned long suppressed;
};

static unsigned long lost;

static void count_lost(void *entry)
{
	lost++;
}

/* Waits for the other CPU; returns whether there was no progress for too long. */
static bool wait_for_other(struct wait *wait)
{
	if (!wait->rounds)
		wait->since = jiffies;
	if (wait->rounds++ < SPINS) {
		cpu_relax();
		cond_resched();
	} else {
		usleep_range(20, 100);
	}
	return time_after(jiffies, wait->since + PATIENCE * HZ);
}

/* Returns the least number of entries, with which the queue is stopped more than once. */
static unsigned long least(int size)
{
	return max(1000UL, 4UL * size);
}

/* Produces an entry, unless the queue is stopped or all entries were produced. */
static bool produce(struct threads *t)
{
	int ret;

	if (t->produced >= least(t->ring.size) && time_after(jiffies, t->until))
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
	struct wait wait = {};

	while (!kthread_should_stop()) {
		if (produce(data))
			wait.rounds = 0;
		else
			wait_for_other(&wait);
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
 * Returns whether the queue is stopped beside an empty ring, checked under both
 * locks. The last call found the ring empty, and the producer stops the queue only
 * when the ring is full, so a wake is missing.
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

static unsigned long enough(int size)
{
	return max(tuntap_ring_kunit_operations / 20, least(size));
}

/* Sets up ring, device and the other thread, which is not woken yet. */
static void set_up(struct kunit *test, struct threads *t, int size,
		   int (*other)(void *data))
{
	struct net_device *dev;

	if (num_online_cpus() < 2)
		kunit_skip(test, "one CPU only");
	t->test = test;
	lost = 0;
	t->entries = enough(size);
	t->until = jiffies + ENOUGH_TIME * HZ;
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
}

/* Makes one call, and returns the number of entries that it took. */
static int consume(struct threads *t)
{
	struct tuntap_ring_kunit_outcome outcome;
	int n = 1 + below(&t->rnd, MOST_REQUESTED), taken, i;

	taken = tuntap_ring_kunit_consume(&t->end, t->out, n, &outcome);
	for (i = 0; i < taken; i++)
		if (entry_to_number(t->out[i]) != t->next++)
			KUNIT_FAIL_AND_ABORT(t->test, "got entry %lu, not %lu",
					     entry_to_number(t->out[i]),
					     t->next - 1);
	t->wakes += outcome.wake == WAKE_DONE;
	t->suppressed += outcome.wake == WAKE_SUPPRESSED;
	if (!taken && is_left_behind(t))
		KUNIT_FAIL_AND_ABORT(t->test, "the queue is stopped, the ring empty, after entry %lu",
				     t->next);
	return taken;
}

/*
 * Unconsumes the last entries of a call. They come again, in order. If the producer
 * was faster, the oldest of them do not fit, and are destroyed.
 */
static void unconsume(struct threads *t, int taken)
{
	int n = below(&t->rnd, taken + 1);
	unsigned long before = lost;

	ptr_ring_unconsume(&t->ring, t->out + taken - n, n, count_lost);
	t->next -= n - (lost - before);
}

static void run(struct kunit *test, int size, bool unconsumes)
{
	struct threads *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);
	u64 start = ktime_get_ns(), took;
	struct wait wait = {};

	KUNIT_ASSERT_NOT_NULL(test, t);
	set_up(test, t, size, keep_producing);
	wake_up_process(t->other);
	/* With any speed of the two sides there is a stop to be undone. */
	while (!netif_tx_queue_stopped(t->queue))
		if (wait_for_other(&wait))
			KUNIT_FAIL_AND_ABORT(test, "no stop of the queue, %lu produced",
					     READ_ONCE(t->produced));
	wait.rounds = 0;
	while (t->next != READ_ONCE(t->entries)) {
		int taken = consume(t);

		if (unconsumes && taken && !below(&t->rnd, 4))
			unconsume(t, taken);
		if (taken)
			wait.rounds = 0;
		else if (wait_for_other(&wait))
			KUNIT_FAIL_AND_ABORT(test, "no entry after %lu (%lu produced), the queue %s",
					     t->next, READ_ONCE(t->produced),
					     netif_tx_queue_stopped(t->queue) ?
					     "stopped" : "running");
		cond_resched();
	}
	took = div_u64(ktime_get_ns() - start, NSEC_PER_MSEC);
	stop_other(t);

	kunit_info(test, "%lu entries in %llu ms: %lu stops, %lu wakes, %lu suppressed, %lu lost when unconsumed",
		   t->entries, took, t->stops, t->wakes, t->suppressed, lost);
	KUNIT_EXPECT_EQ(test, t->produced, t->next);
	KUNIT_EXPECT_TRUE(test, ptr_ring_empty(&t->ring));
	KUNIT_EXPECT_FALSE(test, netif_tx_queue_stopped(t->queue));
	KUNIT_EXPECT_GT(test, t->stops, 0);
	KUNIT_EXPECT_GT(test, t->wakes, 0);
	/* Unconsumed entries may fill a ring whose queue runs. */
	if (!unconsumes) {
		KUNIT_EXPECT_EQ(test, 0, t->found_no_room);
		KUNIT_EXPECT_EQ(test, 0, lost);
	}
}

/* Takes entries and records them. Each consumer gets its entries in order. */
static int take_and_record(struct threads *t, void **out, unsigned long *next)
{
	struct tuntap_ring_kunit_outcome outcome;
	int taken, i;

	taken = tuntap_ring_kunit_consume(&t->end, out, MOST_REQUESTED, &outcome);
	for (i = 0; i < taken; i++) {
		unsigned long number = entry_to_number(out[i]);

		if (number < *next || number >= READ_ONCE(t->entries) ||
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
	struct wait wait = {};
	void *out[MOST_REQUESTED];
	unsigned long next = 0;

	while (!kthread_should_stop()) {
		if (take_and_record(t, out, &next))
			wait.rounds = 0;
		else
			wait_for_other(&wait);
		cond_resched();
	}
	return 0;
}

/* Each entry goes to one of two consumers, which both call all the time. */
static void two_consumers_take_each_entry_once(struct kunit *test)
{
	struct threads *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);
	int size = *(const int *)test->param_value, taken;
	struct wait wait = {};
	unsigned long mine;

	KUNIT_ASSERT_NOT_NULL(test, t);
	t->seen = kunit_kcalloc(test, BITS_TO_LONGS(enough(size)), sizeof(long),
				GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, t->seen);
	set_up(test, t, size, consume_as_well);

	/* With any speed of the two consumers both get an entry. */
	KUNIT_ASSERT_TRUE(test, produce(t));
	mine = take_and_record(t, t->out, &t->next);
	KUNIT_ASSERT_EQ(test, 1, mine);
	wake_up_process(t->other);
	while (atomic_long_read(&t->taken) == mine)
		if (produce(t))
			wait.rounds = 0;
		else if (wait_for_other(&wait))
			KUNIT_FAIL_AND_ABORT(test, "the other consumer takes nothing");

	wait.rounds = 0;
	while (atomic_long_read(&t->taken) < READ_ONCE(t->entries) &&
	       !atomic_long_read(&t->twice)) {
		bool moved = false;
		int n = MOST_REQUESTED;

		while (n-- && produce(t))
			moved = true;
		taken = take_and_record(t, t->out, &t->next);
		mine += taken;
		if (moved || taken)
			wait.rounds = 0;
		else if (wait_for_other(&wait))
			KUNIT_FAIL_AND_ABORT(test, "%ld of %lu entries, and no more",
					     atomic_long_read(&t->taken),
					     t->entries);
		cond_resched();
	}
	stop_other(t);
	kunit_info(test, "%lu entries, %lu to the other consumer, %lu stops",
		   t->entries, t->entries - mine, t->stops);
	KUNIT_EXPECT_EQ(test, 0, atomic_long_read(&t->twice));
	KUNIT_EXPECT_EQ(test, t->entries, atomic_long_read(&t->taken));
	KUNIT_EXPECT_LT(test, mine, t->entries);
	KUNIT_EXPECT_EQ(test, 0, t->found_no_room);
	KUNIT_EXPECT_TRUE(test, ptr_ring_empty(&t->ring));
	KUNIT_EXPECT_FALSE(test, netif_tx_queue_stopped(t->queue));
}

static int consume_once(void *data)
{
	struct tuntap_ring_kunit_outcome outcome;
	struct threads *t = data;

	WRITE_ONCE(t->has_begun, true);
	atomic_long_set(&t->taken,
			tuntap_ring_kunit_consume(&t->end, t->out, MOST_REQUESTED,
						  &outcome));
	WRITE_ONCE(t->is_done, true);
	while (!kthread_should_stop())
		usleep_range(20, 100);
	return 0;
}

/*
 * The time in which a call must violate a rule if the lock does not show its
 * waiters: with PREEMPT_RT, and with the spinlocks of some VMs. There a slower call
 * is not detected.
 */
#define TIME_TO_ERR	(HZ / 10)

/*
 * Makes a call on the other CPU while a lock is held here; the call must wait
 * for it. LOCK is in a ring of one slot, which is full, below a stopped queue.
 */
static void call_under_lock(struct kunit *test, struct threads *t,
			    spinlock_t *lock)
{
	struct wait wait = {};
	bool is_woken, is_done;
	unsigned long since;

	spin_lock_bh(lock);
	since = jiffies;
	wake_up_process(t->other);
	do {
		if (!READ_ONCE(t->has_begun))
			since = jiffies;
		is_woken = !netif_tx_queue_stopped(t->queue);
		is_done = READ_ONCE(t->is_done);
		cpu_relax();
	} while (!is_woken && !is_done && !spin_is_contended(lock) &&
		 time_before(jiffies, since + TIME_TO_ERR));
	spin_unlock_bh(lock);
	KUNIT_EXPECT_FALSE_MSG(test, is_done, "the call ended under the lock of another CPU");
	KUNIT_EXPECT_FALSE_MSG(test, is_woken, "the queue was woken under the lock of another CPU");

	while (!READ_ONCE(t->is_done))
		if (wait_for_other(&wait))
			KUNIT_FAIL_AND_ABORT(test, "the call does not end");
	KUNIT_EXPECT_EQ(test, 1, atomic_long_read(&t->taken));
	KUNIT_EXPECT_FALSE(test, netif_tx_queue_stopped(t->queue));
}

static struct threads *set_up_one_call(struct kunit *test)
{
	struct threads *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, t);
	set_up(test, t, 1, consume_once);
	KUNIT_ASSERT_TRUE(test, produce(t));
	KUNIT_ASSERT_TRUE(test, netif_tx_queue_stopped(t->queue));
	return t;
}

static void call_waits_for_the_consumer_lock(struct kunit *test)
{
	struct threads *t = set_up_one_call(test);

	call_under_lock(test, t, &t->ring.consumer_lock);
}

static void wake_waits_for_the_producer_lock(struct kunit *test)
{
	struct threads *t = set_up_one_call(test);

	call_under_lock(test, t, &t->ring.producer_lock);
}

/* The default of Endpoint::most_suppressed() in src/consume.rs. */
#define MOST_SUPPRESSED	4

/* Makes a call at each request of the test. */
static int consume_on_request(void *data)
{
	struct tuntap_ring_kunit_outcome outcome;
	struct threads *t = data;
	struct wait wait = {};

	while (!kthread_should_stop()) {
		if (READ_ONCE(t->is_done)) {
			wait_for_other(&wait);
			continue;
		}
		wait.rounds = 0;
		tuntap_ring_kunit_consume(&t->end, t->out, MOST_REQUESTED, &outcome);
		t->wakes += outcome.wake == WAKE_DONE;
		t->suppressed += outcome.wake == WAKE_SUPPRESSED;
		/* Pairs with smp_load_acquire() in the test, which reads the counts. */
		smp_store_release(&t->is_done, true);
	}
	return 0;
}

/*
 * A sender that ignores the stop, as XDP does, has filled the ring again whenever
 * the consumer gets the producer lock.
 */
static void wake_is_suppressed_for_four_ring_fulls_at_most(struct kunit *test)
{
	struct threads *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);
	const int size = 8;
	struct wait wait = {};
	int calls;

	KUNIT_ASSERT_NOT_NULL(test, t);
	set_up(test, t, size, consume_on_request);
	while (produce(t))
		;
	KUNIT_ASSERT_TRUE(test, netif_tx_queue_stopped(t->queue));
	t->is_done = true;
	wake_up_process(t->other);
	for (calls = 0; calls < 2 * MOST_SUPPRESSED &&
	     netif_tx_queue_stopped(t->queue); calls++) {
		spin_lock_bh(&t->ring.producer_lock);
		WRITE_ONCE(t->is_done, false);
		/* Waits until the call has freed all slots; the producer's slot is the last. */
		while (__ptr_ring_check_produce(&t->ring) &&
		       !READ_ONCE(t->is_done))
			cpu_relax();
		while (!__ptr_ring_produce(&t->ring,
					   number_to_entry(t->produced)))
			t->produced++;
		spin_unlock_bh(&t->ring.producer_lock);
		wait.rounds = 0;
		/* Pairs with smp_store_release() in consume_on_request(). */
		while (!smp_load_acquire(&t->is_done))
			if (wait_for_other(&wait))
				KUNIT_FAIL_AND_ABORT(test, "the call does not end");
	}
	/* Each call has freed the whole ring. */
	KUNIT_EXPECT_EQ(test, calls, MOST_SUPPRESSED);
	KUNIT_EXPECT_EQ(test, t->suppressed, MOST_SUPPRESSED - 1);
	KUNIT_EXPECT_EQ(test, t->wakes, 1);
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
	KUNIT_CASE(call_waits_for_the_consumer_lock),
	KUNIT_CASE(wake_waits_for_the_producer_lock),
	KUNIT_CASE(wake_is_suppressed_for_four_ring_fulls_at_most),
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
