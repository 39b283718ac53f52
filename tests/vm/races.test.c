// SPDX-License-Identifier: GPL-2.0
/*
 * Tests a consumer and a flood that go on while the device changes. Frames may
 * be lost with a queue or a qdisc, but none arrives twice or out of order, and
 * afterwards frames arrive again.
 *
 *  +------------------------ network namespace -------------------------+
 *  |                                                                     |
 *  |  thread:           +--> queue 0 --> ring 0 --> thread: consumer     |
 *  |  packet socket --> t0                                               |
 *  |                    +--> queue 1 --> ring 1 --> thread: consumer     |
 *  |                    |                                                |
 *  |  test: resizes, takes down and up, detaches and attaches, deletes   |
 *  +---------------------------------------------------------------------+
 */

#include <fcntl.h>
#include <pthread.h>
#include "kselftest_harness.h"
#include "util.h"

#define DEVICE	"t0"
#define FLAGS	(IFF_TAP | IFF_NO_PI | IFF_BACKPRESSURE | IFF_MULTI_QUEUE)
#define SIZE	32
#define FILES	2

/* How often the device changes under traffic; less often on a custom kernel. */
#define ROUNDS	(thinned() > 1 ? 10 : 24)

struct consumer {
	pthread_t thread;
	struct end end;
	bool *ends;
	bool *pauses;
	bool is_pausing;
	uint64_t next;		/* lowest number that may arrive */
	uint64_t disordered;
	uint64_t taken;
	unsigned int calls;
};

struct flood {
	pthread_t thread;
	struct sender sender;
	struct consumer *consumers;
	uint64_t next;
	bool ends;
};

FIXTURE(races)
{
	struct consumer consumers[FILES];
	struct flood flood;
	bool consumers_end;
	bool consumers_pause;
};

#define READ(variable)		__atomic_load_n(&(variable), __ATOMIC_RELAXED)
#define WRITE(variable, value)	__atomic_store_n(&(variable), value, __ATOMIC_RELAXED)

static void *consume_until_end(void *arg)
{
	struct tuntap_ring_test_entry entries[64];
	struct consumer *consumer = arg;
	int n;

	while (!READ(*consumer->ends)) {
		WRITE(consumer->is_pausing, READ(*consumer->pauses));
		if (consumer->is_pausing) {
			sched_yield();
			continue;
		}
		n = consume(consumer->end, 1 + consumer->taken % 64, entries, 64);
		if (n < 0)
			fail("consumer: %d", n);
		if (!n)
			sched_yield();
		for (int i = 0; i < n; i++) {
			if (entries[i].number < consumer->next)
				consumer->disordered++;
			WRITE(consumer->next, entries[i].number + 1);
		}
		WRITE(consumer->taken, consumer->taken + n);
		WRITE(consumer->calls, consumer->calls + 1);
	}
	return NULL;
}

/* Sends bursts that fill a ring, one for each call of a consumer. */
static void *send_until_end(void *arg)
{
	struct flood *flood = arg;
	struct consumer *consumers = flood->consumers;
	unsigned int calls;

	while (!READ(flood->ends)) {
		calls = READ(consumers[0].calls) + READ(consumers[1].calls);
		for (int i = 0; i < SIZE; i++) {
			send_frame(&flood->sender, flood->next);
			WRITE(flood->next, flood->next + 1);
		}
		while (READ(consumers[0].calls) + READ(consumers[1].calls) == calls &&
		       !READ(*consumers[0].pauses) && !READ(flood->ends))
			sched_yield();
	}
	return NULL;
}

static void open_sender(struct sender *sender)
{
	sender_open(sender, DEVICE);
	/* A send must not wait for room in a queue that is stopped or deleted. */
	if (fcntl(sender->fd, F_SETFL, O_NONBLOCK))
		fail("O_NONBLOCK");
}

FIXTURE_SETUP(races)
{
	enter_namespaces();
	for (int i = 0; i < FILES; i++) {
		self->consumers[i].end.kind = TUNTAP_RING_TEST_TUN;
		self->consumers[i].end.fd = tun_open();
		self->consumers[i].ends = &self->consumers_end;
		self->consumers[i].pauses = &self->consumers_pause;
		tun_attach(self->consumers[i].end.fd, DEVICE, FLAGS);
	}
	tun_steer_by_mark(self->consumers[0].end.fd);
	set_txqueuelen(DEVICE, SIZE);
	set_up(DEVICE, true);
	self->flood.consumers = self->consumers;
	open_sender(&self->flood.sender);
	/* Opens the test device before threads start. */
	test_device();
}

FIXTURE_TEARDOWN(races)
{
	sender_close(&self->flood.sender);
	for (int i = 0; i < FILES; i++)
		close(self->consumers[i].end.fd);
}

/* Starts a flood to queue 0. */
#define START_FLOOD()						\
	ASSERT_EQ(0, pthread_create(&self->flood.thread, NULL,	\
				    send_until_end, &self->flood))

/* Starts consumers of the first COUNT files. */
#define START_CONSUMERS(count)						\
do {									\
	for (int __i = 0; __i < (count); __i++)				\
		ASSERT_EQ(0, pthread_create(&self->consumers[__i].thread,\
					    NULL, consume_until_end,	\
					    &self->consumers[__i]));	\
} while (0)

#define END_FLOOD()						\
do {								\
	WRITE(self->flood.ends, true);				\
	ASSERT_EQ(0, pthread_join(self->flood.thread, NULL));	\
} while (0)

#define END_CONSUMERS(count)						\
do {									\
	WRITE(self->consumers_end, true);				\
	for (int __i = 0; __i < (count); __i++) {			\
		ASSERT_EQ(0, pthread_join(self->consumers[__i].thread, NULL));\
		EXPECT_EQ(0, self->consumers[__i].disordered);		\
		EXPECT_LT(0, self->consumers[__i].taken);		\
	}								\
} while (0)

/* Lets the first COUNT consumers pause until the flood has stopped queue 0. */
#define PAUSE_UNTIL_STOPPED(count)					\
do {									\
	WRITE(self->consumers_pause, true);				\
	for (int __i = 0; __i < (count); __i++)				\
		ASSERT_TRUE(WAIT_UNTIL(READ(self->consumers[__i].is_pausing)));\
	ASSERT_TRUE(WAIT_UNTIL(is_stopped(DEVICE, 0)));			\
} while (0)

#define GO_ON()	WRITE(self->consumers_pause, false)

/* Waits until a consumer has taken another frame. */
#define TAKES_MORE(consumer)						\
do {									\
	uint64_t __taken = READ((consumer).taken);			\
									\
	ASSERT_TRUE(WAIT_UNTIL(READ((consumer).taken) != __taken)) {	\
		TH_LOG("no frame after %llu, queue 0 is stopped: %d",	\
		       (unsigned long long)__taken, is_stopped(DEVICE, 0));\
	}								\
} while (0)

/*
 * Whether frames that are sent now arrive, from any file. Sends several: the
 * qdisc may drop a frame that has waited too long.
 */
static bool gets_through(struct flood *flood)
{
	struct consumer *consumers = flood->consumers;
	uint64_t first = flood->next;

	return WAIT_UNTIL_OR_STALL(({
		send_frame(&flood->sender, flood->next++);
		READ(consumers[0].next) > first || READ(consumers[1].next) > first;
	}), READ(consumers[0].taken) + READ(consumers[1].taken));
}

TEST_F(races, traffic_goes_on_after_resizes)
{
	static const unsigned int sizes[] = { 1, 100, 2, 33, 1000, 16, 3 };

	START_CONSUMERS(1);
	START_FLOOD();
	for (int i = 0; i < ROUNDS; i++) {
		/* Every other time the ring is full, and the queue stopped. */
		if (i % 2)
			PAUSE_UNTIL_STOPPED(1);
		set_txqueuelen(DEVICE, sizes[i % ARRAY_SIZE(sizes)]);
		GO_ON();
		TAKES_MORE(self->consumers[0]);
	}
	END_FLOOD();
	EXPECT_TRUE(gets_through(&self->flood));
	EXPECT_TRUE(WAIT_UNTIL(!is_stopped(DEVICE, 0)));
	END_CONSUMERS(1);
}

TEST_F(races, traffic_goes_on_after_down_and_up)
{
	uint64_t sent;

	START_CONSUMERS(1);
	START_FLOOD();
	for (int i = 0; i < ROUNDS; i++) {
		if (i % 2)
			PAUSE_UNTIL_STOPPED(1);
		set_up(DEVICE, false);
		GO_ON();
		/* Neither sender nor consumer must undo that stop. */
		sent = READ(self->flood.next);
		ASSERT_TRUE(WAIT_UNTIL(READ(self->flood.next) > sent + SIZE));
		EXPECT_TRUE(is_stopped(DEVICE, 0));
		set_up(DEVICE, true);
		TAKES_MORE(self->consumers[0]);
	}
	END_FLOOD();
	EXPECT_TRUE(gets_through(&self->flood));
	EXPECT_TRUE(WAIT_UNTIL(!is_stopped(DEVICE, 0)));
	END_CONSUMERS(1);
}

/* Detaches each file in turn, so that the other one moves into slot 0. */
TEST_F(races, traffic_goes_on_after_detach_and_attach)
{
	START_CONSUMERS(2);
	START_FLOOD();
	for (int i = 0; i < ROUNDS; i++) {
		struct consumer *owner = &self->consumers[i % FILES];
		struct consumer *heir = &self->consumers[(i + 1) % FILES];

		TAKES_MORE(*owner);
		if (i / FILES % 2)
			PAUSE_UNTIL_STOPPED(2);
		tun_set_queue(owner->end.fd, false);
		GO_ON();
		TAKES_MORE(*heir);
		tun_set_queue(owner->end.fd, true);
	}
	END_FLOOD();
	EXPECT_TRUE(gets_through(&self->flood));
	EXPECT_TRUE(WAIT_UNTIL(!is_stopped(DEVICE, 0) && !is_stopped(DEVICE, 1)));
	END_CONSUMERS(2);
}

/* Attaches the same file to one new device after the other. */
TEST_F(races, traffic_goes_on_after_deletion_of_the_device)
{
	START_CONSUMERS(1);
	for (int i = 0; i < ROUNDS; i++) {
		EXPECT_TRUE(gets_through(&self->flood));
		if (i % 2) {
			WRITE(self->consumers_pause, true);
			ASSERT_TRUE(WAIT_UNTIL(READ(self->consumers[0].is_pausing)));
		}
		for (int n = 0; n < 500; n++)
			send_frame(&self->flood.sender, self->flood.next++);
		if (i % 2)
			ASSERT_TRUE(WAIT_UNTIL(is_stopped(DEVICE, 0)));
		run("ip link delete " DEVICE);
		GO_ON();
		tun_attach(self->consumers[0].end.fd, DEVICE, FLAGS);
		set_txqueuelen(DEVICE, SIZE);
		set_up(DEVICE, true);
		sender_close(&self->flood.sender);
		open_sender(&self->flood.sender);
	}
	EXPECT_TRUE(gets_through(&self->flood));
	EXPECT_TRUE(WAIT_UNTIL(!is_stopped(DEVICE, 0)));
	END_CONSUMERS(1);
}

TEST_HARNESS_MAIN
