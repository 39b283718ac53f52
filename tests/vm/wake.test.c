// SPDX-License-Identifier: GPL-2.0
/*
 * Tests stop and wake: a full ring stops the queue, and the consumer wakes it
 * when half the ring is free or the ring is empty, never while the ring is full.
 *
 *  +----------------------- network namespace -----------------------+
 *  |                                                                  |
 *  |  packet socket ---> qdisc ---> t0 -----------> ring ---> consumer|
 *  |                       |        IFF_BACKPRESSURE            |     |
 *  |                       +------<------ wake ------<----------+     |
 *  +------------------------------------------------------------------+
 */

#include <pthread.h>
#include <sched.h>
#include "kselftest_harness.h"
#include "util.h"

#define DEVICE	"t0"
#define FLAGS	(IFF_TAP | IFF_NO_PI | IFF_BACKPRESSURE)

/* Sends the next COUNT frames. */
#define SEND(count)						\
do {								\
	unsigned int __count = (count);				\
								\
	send_frames(&self->sender, self->sent, __count);	\
	self->sent += __count;					\
} while (0)

/* Sends as many frames as the ring has free slots, which stops the queue. */
#define FILL()							\
do {								\
	struct tuntap_ring_test_ring __ring;			\
								\
	__ring = read_ring(self->end);				\
	ASSERT_FALSE(is_stopped(DEVICE, 0));			\
	SEND(__ring.size - __ring.occupied);			\
	ASSERT_TRUE(WAIT_UNTIL(is_stopped(DEVICE, 0)));		\
	ASSERT_FALSE(read_ring(self->end).has_room);		\
} while (0)

/*
 * Unconsumes a frame to move the tail to the head. Otherwise a tail is at a
 * multiple of the batch.
 */
#define ALIGN()								\
do {									\
	SEND(1);							\
	ASSERT_EQ(1, consume_and_unconsume(self->end, 1, 1,		\
					   self->entries, 1));		\
	ASSERT_EQ(read_ring(self->end).head,				\
		  read_ring(self->end).tail);				\
} while (0)

/* Consumes up to N, and expects the next COUNT frames. */
#define CONSUME(count, n)						\
do {									\
	int __count = (count);						\
									\
	ASSERT_EQ(__count, consume(self->end, n, self->entries,		\
				   TUNTAP_RING_TEST_MAX));		\
	ASSERT_TRUE(are_frames(self->entries, __count, self->seen));	\
	self->seen += __count;						\
} while (0)

/* Consumes up to N entries, and expects them to be the next frames. */
#define CONSUME_SOME(n)							\
({									\
	int __taken = consume(self->end, n, self->entries,		\
			      TUNTAP_RING_TEST_MAX);			\
									\
	ASSERT_LE(0, __taken);						\
	ASSERT_TRUE(are_frames(self->entries, __taken, self->seen));	\
	self->seen += __taken;						\
	__taken;							\
})

/*
 * Waits for frames, and consumes up to N; 0 if none arrives. Detects a queue
 * that stays stopped beside the empty ring at once.
 */
#define CONSUME_NEXT(n)							\
({									\
	int __next = 0;							\
									\
	ASSERT_TRUE(WAIT_UNTIL((__next = CONSUME_SOME(n)) ||		\
			       is_left_stopped(self->end, DEVICE, 0)));	\
	__next;								\
})

FIXTURE(wake)
{
	struct end end;
	struct sender sender;
	struct tuntap_ring_test_entry entries[TUNTAP_RING_TEST_MAX];
	uint64_t sent;
	uint64_t seen;
	int watch;
};

FIXTURE_VARIANT(wake)
{
	int size;
};

FIXTURE_VARIANT_ADD(wake, size_1)
{
	.size = 1,
};

FIXTURE_VARIANT_ADD(wake, size_2)
{
	.size = 2,
};

FIXTURE_VARIANT_ADD(wake, size_3)
{
	.size = 3,
};

FIXTURE_VARIANT_ADD(wake, size_16)
{
	.size = 16,
};

FIXTURE_VARIANT_ADD(wake, size_33)
{
	.size = 33,
};

FIXTURE_VARIANT_ADD(wake, size_64)
{
	.size = 64,
};

FIXTURE_VARIANT_ADD(wake, size_1000)
{
	.size = 1000,
};

FIXTURE_SETUP(wake)
{
	enter_namespaces();
	self->end.kind = TUNTAP_RING_TEST_TUN;
	self->end.fd = tun_create(DEVICE, FLAGS, variant->size);
	/* A qdisc that never drops. */
	run("tc qdisc replace dev " DEVICE " root pfifo limit 100000");
	sender_open(&self->sender, DEVICE);
	self->watch = watch(self->end, DEVICE, 0);
}

FIXTURE_TEARDOWN(wake)
{
	sender_close(&self->sender);
	close(self->watch);
	close(self->end.fd);
}

/* The queue stops only once the ring is full; further packets wait in the qdisc. */
TEST_F(wake, full_ring_stops_the_queue)
{
	SEND(variant->size - 1);
	EXPECT_FALSE(is_stopped(DEVICE, 0));
	SEND(1);
	ASSERT_TRUE(WAIT_UNTIL(is_stopped(DEVICE, 0)));
	SEND(50);
	EXPECT_EQ(variant->size, read_ring(self->end).occupied);
	EXPECT_TRUE(is_stopped(DEVICE, 0));
	/* A call that requests nothing changes nothing. */
	CONSUME(0, 0);
	CONSUME(0, -1);
	EXPECT_TRUE(is_stopped(DEVICE, 0));
	EXPECT_EQ(0, watched(self->watch).wakes);
	EXPECT_EQ(0, statistic(DEVICE, "tx_dropped"));
}

/*
 * Takes entries one by one, from a full ring without a backlog, at every offset.
 * Freed slots are counted from checkpoint to checkpoint: checkpoints are a power
 * of two apart, about eight in the ring.
 */
TEST_F(wake, wakes_at_half_free_or_empty)
{
	int size = variant->size, freed, step = size > 100 ? size / 10 + 1 : 1;
	struct tuntap_ring_test_ring ring;
	unsigned int wakes = 0;
	int stride = 1;
	bool due;

	while (16 * stride <= size)
		stride *= 2;

	for (int offset = 0; offset < size; offset += step) {
		/* With a single slot, unconsuming would fill the ring. */
		if (size > 1)
			ALIGN();
		ASSERT_EQ(offset, read_ring(self->end).head);
		FILL();
		while (self->seen < self->sent) {
			CONSUME(1, 1);
			ring = read_ring(self->end);
			freed = size - ring.occupied;
			/* Slots before the first checkpoint do not count. */
			freed += offset % stride - ring.tail % stride;
			due = (freed && freed >= size / 2) ||
			      self->seen == self->sent;
			ASSERT_EQ(!due, is_stopped(DEVICE, 0)) {
				TH_LOG("head %d tail %d freed %d left %d",
				       ring.head, ring.tail, freed,
				       (int)(self->sent - self->seen));
			}
		}
		/* Only one wake, not one for each later call. */
		wakes++;
		ASSERT_EQ(wakes, watched(self->watch).wakes);
		/* Moves to the next offset. */
		for (int i = 0; i < step; i++) {
			SEND(1);
			/* A ring of a single slot is already full. */
			wakes += size == 1;
			ASSERT_EQ(size == 1, is_stopped(DEVICE, 0));
			CONSUME(1, 1);
		}
	}
	EXPECT_EQ(0, watched(self->watch).wakes_while_full);
	EXPECT_EQ(0, statistic(DEVICE, "tx_dropped"));
}

/* One call that takes a full ring, and requests that many entries or more. */
TEST_F(wake, wakes_once_for_one_call)
{
	static const int beyond[] = { 0, 1, 64, 2000 };

	for (int i = 0; i < ARRAY_SIZE(beyond); i++) {
		FILL();
		CONSUME(self->sent - self->seen, variant->size + beyond[i]);
		ASSERT_FALSE(is_stopped(DEVICE, 0));
		ASSERT_EQ(i + 1, watched(self->watch).wakes);
	}
}

/* More packets wait in the qdisc than in the ring. */
TEST_F(wake, backlog_arrives_once_and_in_order)
{
	static const int batches[] = { 1, 7, 16, 64, 4096 };

	for (int i = 0; i < ARRAY_SIZE(batches); i++) {
		SEND(2 * variant->size + 100);
		while (self->seen < self->sent) {
			ASSERT_LT(0, CONSUME_NEXT(batches[i])) {
				TH_LOG("the queue is stopped, the ring empty, after %d of %d",
				       (int)self->seen, (int)self->sent);
			}
		}
		CONSUME(0, batches[i]);
		ASSERT_FALSE(is_stopped(DEVICE, 0));
	}
	EXPECT_LT(0, watched(self->watch).wakes);
	EXPECT_EQ(0, watched(self->watch).wakes_while_full);
	EXPECT_EQ(0, statistic(DEVICE, "tx_dropped"));
}

struct flood {
	struct sender *sender;
	unsigned int count;
};

static void *flood(void *arg)
{
	struct flood *flood = arg;

	send_frames(flood->sender, 0, flood->count);
	return NULL;
}

/* Sender and consumer run concurrently. */
TEST_F(wake, flood_arrives_once_and_in_order)
{
	struct flood all = { .sender = &self->sender, .count = 8000 };
	pthread_t thread;

	ASSERT_EQ(0, pthread_create(&thread, NULL, flood, &all));
	/* Ensures that there is a wake, independent of the speed of either side. */
	ASSERT_TRUE(WAIT_UNTIL(is_stopped(DEVICE, 0)));
	for (int i = 0; self->seen < all.count; i++) {
		ASSERT_LT(0, CONSUME_NEXT(1 + i % 64)) {
			TH_LOG("the queue is stopped, the ring empty, after %d",
			       (int)self->seen);
		}
	}
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_LT(0, watched(self->watch).wakes);
	EXPECT_EQ(0, watched(self->watch).wakes_while_full);
	EXPECT_EQ(0, statistic(DEVICE, "tx_dropped"));
	EXPECT_FALSE(is_stopped(DEVICE, 0));
}

struct reader {
	struct end end;
	unsigned int count;
	unsigned int *total;
	uint8_t *seen;
	unsigned int own;	/* entries of this reader */
	unsigned int *others;	/* frames of the other reader, awaited before the second call */
	unsigned int most;	/* entries in a single call */
};

static unsigned int read_once(const unsigned int *number)
{
	return __atomic_load_n(number, __ATOMIC_RELAXED);
}

static void *read_all(void *arg)
{
	struct tuntap_ring_test_entry entries[64];
	struct reader *reader = arg;
	struct wait wait = {};
	int n;

	while (read_once(reader->total) < reader->count) {
		n = !reader->own || read_once(reader->others) ?
			    consume(reader->end, 5, entries, 64) : 0;
		if (n <= 0) {
			if (!wait_on(&wait, read_once(reader->total)))
				break;
			continue;
		}
		for (int i = 0; i < n; i++)
			if (entries[i].number < reader->count)
				__atomic_add_fetch(&reader->seen[entries[i].number],
						   1, __ATOMIC_RELAXED);
		__atomic_add_fetch(&reader->own, n, __ATOMIC_RELAXED);
		__atomic_add_fetch(reader->total, n, __ATOMIC_RELAXED);
	}
	return NULL;
}

/* Two consumers of one ring: each frame goes to one of them, and both get frames. */
TEST_F(wake, two_consumers_take_each_frame_once)
{
	static uint8_t seen[4000];
	unsigned int total = 0;
	struct flood all = { .sender = &self->sender, .count = sizeof(seen) };
	struct reader readers[2];
	pthread_t threads[3];

	for (int i = 0; i < ARRAY_SIZE(readers); i++)
		readers[i] = (struct reader) {
			.end = self->end,
			.count = all.count,
			.total = &total,
			.seen = seen,
			.others = &readers[!i].own,
		};
	/* Opens the test device before threads start. */
	test_device();
	ASSERT_EQ(0, pthread_create(&threads[0], NULL, flood, &all));
	ASSERT_TRUE(WAIT_UNTIL(is_stopped(DEVICE, 0)));
	ASSERT_EQ(0, pthread_create(&threads[1], NULL, read_all, &readers[0]));
	ASSERT_EQ(0, pthread_create(&threads[2], NULL, read_all, &readers[1]));
	for (int i = 0; i < ARRAY_SIZE(threads); i++)
		ASSERT_EQ(0, pthread_join(threads[i], NULL));
	ASSERT_EQ(all.count, total);
	for (int i = 0; i < sizeof(seen); i++)
		ASSERT_EQ(1, seen[i]);
	EXPECT_LT(0, watched(self->watch).wakes);
	EXPECT_EQ(0, watched(self->watch).wakes_while_full);
	EXPECT_EQ(0, statistic(DEVICE, "tx_dropped"));
	EXPECT_FALSE(is_stopped(DEVICE, 0));
}

static void *consume_once(void *arg)
{
	struct reader *reader = arg;
	struct tuntap_ring_test_entry entries[1024];

	*reader->total = consume(reader->end, reader->most, entries, 1024);
	return NULL;
}

/*
 * A consumer that has requested a wake is held. Meanwhile a second consumer takes
 * the last entry and wakes the queue, and the producer fills the ring and stops
 * the queue again. The first consumer must no longer wake the queue. A ring of
 * one slot has no entry for a second consumer, and a call that takes nothing
 * wakes no queue.
 */
TEST_F(wake, refilled_ring_is_not_woken)
{
	unsigned int total = 0, most = variant->size > 1 ? variant->size - 1 : 1;
	struct reader first = { .end = self->end, .total = &total, .most = most };
	uint64_t withheld = counter("withheld");
	struct tuntap_ring_test_entry last;
	struct tuntap_ring_test_ring ring;
	pthread_t thread;

	SEND(2 * variant->size);
	ASSERT_TRUE(WAIT_UNTIL(is_stopped(DEVICE, 0)));

	hold_next_consumer(self->watch);
	ASSERT_EQ(0, pthread_create(&thread, NULL, consume_once, &first));
	ASSERT_TRUE(WAIT_UNTIL(watched(self->watch).is_held));
	EXPECT_TRUE(is_stopped(DEVICE, 0));
	if (most == variant->size) {
		ASSERT_EQ(0, consume(self->end, 64, NULL, 0));
		EXPECT_EQ(0, watched(self->watch).wakes);
		release_consumer(self->watch);
		ASSERT_EQ(0, pthread_join(thread, NULL));
		EXPECT_EQ(1, watched(self->watch).wakes);
		return;
	}
	ASSERT_EQ(1, consume(self->end, 64, &last, 1));
	ASSERT_EQ(1, watched(self->watch).wakes);
	ASSERT_TRUE(WAIT_UNTIL(!read_ring(self->end).has_room &&
			 is_stopped(DEVICE, 0)));
	ASSERT_TRUE(watched(self->watch).is_held);
	release_consumer(self->watch);
	ASSERT_EQ(0, pthread_join(thread, NULL));

	EXPECT_EQ(most, total);
	EXPECT_EQ(1, watched(self->watch).wakes);
	EXPECT_EQ(0, watched(self->watch).wakes_while_full);
	EXPECT_TRUE(is_stopped(DEVICE, 0));
	EXPECT_EQ(withheld + 1, counter("withheld"));
	ring = read_ring(self->end);
	EXPECT_EQ(ring.size, ring.occupied);

	self->seen = variant->size;
	CONSUME(variant->size, 4096);
	EXPECT_FALSE(is_stopped(DEVICE, 0));
	EXPECT_EQ(0, statistic(DEVICE, "tx_dropped"));
}

/* Like the fixture wake, but each test sets the ring size. */
FIXTURE(offsets)
{
	struct end end;
	struct sender sender;
	struct tuntap_ring_test_entry entries[TUNTAP_RING_TEST_MAX];
	uint64_t sent;
	uint64_t seen;
	int watch;
};

FIXTURE_SETUP(offsets)
{
	enter_namespaces();
	self->end.kind = TUNTAP_RING_TEST_TUN;
	self->end.fd = tun_create(DEVICE, FLAGS, 32);
	sender_open(&self->sender, DEVICE);
	self->watch = watch(self->end, DEVICE, 0);
}

FIXTURE_TEARDOWN(offsets)
{
	sender_close(&self->sender);
	close(self->watch);
	close(self->end.fd);
}

/*
 * Unconsuming moves the tail off the multiples of a batch, and frees slots that
 * are not counted. The consumer can then empty the ring without having freed
 * half of it, or any slot: it must still wake the queue.
 */
TEST_F(offsets, ring_emptied_after_unconsume_is_woken)
{
	static const struct {
		int take;
		int unconsume;
		int times;
	} steps[] = { { 15, 1, 1 }, { 9, 9, 1 }, { 15, 1, 2 }, { 20, 5, 2 }, { 15, 1, 9 } };
	struct tuntap_ring_test_ring ring;
	int step = 0, n;

	for (int size = 32; size <= 58; size += thinned()) {
		set_txqueuelen(DEVICE, size);
		for (int offset = 0; offset < size; offset++) {
			step = (step + 1) % ARRAY_SIZE(steps);
			ALIGN();
			ASSERT_EQ(offset, read_ring(self->end).head);
			FILL();
			for (int i = 0; i < steps[step].times; i++) {
				if (self->sent - self->seen <= 15)
					break;
				n = consume_and_unconsume(self->end, steps[step].take,
							  steps[step].unconsume,
							  self->entries,
							  TUNTAP_RING_TEST_MAX);
				ASSERT_LE(steps[step].unconsume, n);
				ASSERT_TRUE(are_frames(self->entries, n, self->seen));
				self->seen += n - steps[step].unconsume;
			}
			while (self->seen < self->sent)
				CONSUME(1, 1);
			ASSERT_FALSE(is_stopped(DEVICE, 0)) {
				ring = read_ring(self->end);
				TH_LOG("size %d offset %d take %d unconsume %d: head %d tail %d",
				       size, offset, steps[step].take,
				       steps[step].unconsume, ring.head, ring.tail);
			}
			SEND(1);
			CONSUME(1, 1);
		}
	}
	EXPECT_EQ(0, watched(self->watch).wakes_while_full);
	EXPECT_EQ(0, statistic(DEVICE, "tx_dropped"));
}

/*
 * As wake.refilled_ring_is_not_woken, but there is some room when the first
 * consumer goes on: too little for a wake, and slots freed before the second
 * consumer's wake no longer count.
 */
TEST_F(offsets, wakes_only_at_half_free_after_another_wake)
{
	unsigned int total = 0;
	struct reader first = { .end = self->end, .total = &total, .most = 63 };
	struct tuntap_ring_test_entry last;
	pthread_t thread;

	set_txqueuelen(DEVICE, 64);
	run("tc qdisc replace dev " DEVICE " root pfifo limit 1000");
	SEND(128);
	ASSERT_TRUE(WAIT_UNTIL(is_stopped(DEVICE, 0)));

	hold_next_consumer(self->watch);
	ASSERT_EQ(0, pthread_create(&thread, NULL, consume_once, &first));
	ASSERT_TRUE(WAIT_UNTIL(watched(self->watch).is_held));
	ASSERT_EQ(1, consume(self->end, 64, &last, 1));
	ASSERT_TRUE(WAIT_UNTIL(!read_ring(self->end).has_room &&
			 is_stopped(DEVICE, 0)));
	self->seen = 64;
	CONSUME(16, 16);
	ASSERT_TRUE(read_ring(self->end).has_room);
	ASSERT_TRUE(watched(self->watch).is_held);
	release_consumer(self->watch);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(63, total);
	EXPECT_EQ(1, watched(self->watch).wakes);
	EXPECT_TRUE(is_stopped(DEVICE, 0));

	CONSUME(16, 16);
	EXPECT_EQ(2, watched(self->watch).wakes);
	EXPECT_FALSE(is_stopped(DEVICE, 0));
	CONSUME(32, 64);
}

/* read() and tuntap_ring use the same count of entries since the last wake. */
TEST_F(offsets, read_and_tuntap_ring_share_cons_cnt)
{
	char frame[128];
	int i;

	set_txqueuelen(DEVICE, 1000);
	SEND(1000);
	ASSERT_TRUE(WAIT_UNTIL(is_stopped(DEVICE, 0)));
	CONSUME(256, 256);
	for (i = 256; i < 499; i++)
		ASSERT_EQ(sizeof(self->sender.frame),
			  read(self->end.fd, frame, sizeof(frame)));
	EXPECT_TRUE(is_stopped(DEVICE, 0));
	ASSERT_LT(0, read(self->end.fd, frame, sizeof(frame)));
	EXPECT_FALSE(is_stopped(DEVICE, 0));
	EXPECT_EQ(0, watched(self->watch).wakes);
	self->seen = 500;
	CONSUME(500, 4096);

	/* The same with read() first. */
	SEND(1000);
	ASSERT_TRUE(WAIT_UNTIL(is_stopped(DEVICE, 0)));
	for (i = 0; i < 256; i++)
		ASSERT_LT(0, read(self->end.fd, frame, sizeof(frame)));
	EXPECT_TRUE(is_stopped(DEVICE, 0));
	self->seen += 256;
	CONSUME(240, 240);
	EXPECT_TRUE(is_stopped(DEVICE, 0));
	CONSUME(16, 16);
	EXPECT_FALSE(is_stopped(DEVICE, 0));
	EXPECT_EQ(1, watched(self->watch).wakes);
}

/* Runs on that CPU from here on. */
static bool run_on(int cpu)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	return !sched_setaffinity(0, sizeof(cpus), &cpus);
}

/*
 * The wake runs the qdisc, on whichever CPU packets were sent: waiting packets
 * arrive although no sender is active.
 */
TEST_F(offsets, backlog_of_another_cpu_arrives)
{
	set_txqueuelen(DEVICE, 100);
	run("tc qdisc replace dev " DEVICE " root pfifo limit 1000");
	for (int from = 0; from < 2; from++) {
		uint64_t wakes = counter("wakes");

		ASSERT_TRUE(run_on(from));
		/* So few more that they do not fill the ring again. */
		SEND(140);
		ASSERT_TRUE(WAIT_UNTIL(is_stopped(DEVICE, 0)));
		ASSERT_TRUE(run_on(0));
		CONSUME(64, 64);
		EXPECT_EQ(wakes + 1, counter("wakes"));
		while (self->seen < self->sent)
			ASSERT_LT(0, CONSUME_NEXT(1000));
		EXPECT_FALSE(is_stopped(DEVICE, 0));
	}
	EXPECT_EQ(2, watched(self->watch).wakes);
	EXPECT_EQ(0, watched(self->watch).wakes_while_full);
	EXPECT_EQ(0, statistic(DEVICE, "tx_dropped"));
}

/* The default qdisc, with settings that keep it from dropping. */
TEST_F(offsets, fq_codel_backlog_arrives_in_order)
{
	set_txqueuelen(DEVICE, 16);
	run("tc qdisc replace dev " DEVICE
	    " root fq_codel limit 10000 target 1000s interval 1000s");
	SEND(3000);
	for (int i = 0; self->seen < self->sent; i++) {
		int n = 1 + i % 20;

		ASSERT_LT(0, CONSUME_NEXT(n));
	}
	EXPECT_EQ(0, watched(self->watch).wakes_while_full);
	EXPECT_EQ(0, statistic(DEVICE, "tx_dropped"));
}

TEST_HARNESS_MAIN
