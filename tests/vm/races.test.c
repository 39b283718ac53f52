// SPDX-License-Identifier: GPL-2.0
/*
 * A consumer and a flood that go on while the device changes under them. What
 * is lost with a queue or a qdisc is lost, but nothing comes twice or out of
 * order, and when all is quiet again frames get through.
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

#include <pthread.h>
#include "kselftest_harness.h"
#include "util.h"

#define DEVICE	"t0"
#define FLAGS	(IFF_TAP | IFF_NO_PI | IFF_BACKPRESSURE | IFF_MULTI_QUEUE)
#define SIZE	32
#define FILES	2

/* How long a flood goes on. */
#define FLOOD_MS	1500

struct consumer {
	pthread_t thread;
	struct end end;
	bool *ends;
	uint64_t next;		/* a frame below that number would be wrong */
	uint64_t disordered;
	uint64_t taken;
};

struct flood {
	pthread_t thread;
	struct sender sender;
	uint64_t next;
	bool ends;
};

FIXTURE(races)
{
	struct consumer consumers[FILES];
	struct flood flood;
	bool consumers_end;
};

static bool is_set(bool *flag)
{
	return __atomic_load_n(flag, __ATOMIC_RELAXED);
}

static void set(bool *flag)
{
	__atomic_store_n(flag, true, __ATOMIC_RELAXED);
}

static void *consume_until_end(void *arg)
{
	struct tuntap_ring_test_entry entries[64];
	struct consumer *consumer = arg;
	int n;

	while (!is_set(consumer->ends)) {
		n = consume(consumer->end, 1 + consumer->taken % 64, entries, 64);
		if (n < 0)
			fail("consumer: %d", n);
		if (!n)
			sched_yield();
		for (int i = 0; i < n; i++) {
			if (entries[i].number < consumer->next)
				consumer->disordered++;
			__atomic_store_n(&consumer->next, entries[i].number + 1,
					 __ATOMIC_RELAXED);
		}
		consumer->taken += n;
	}
	return NULL;
}

static void *send_until_end(void *arg)
{
	struct flood *flood = arg;

	while (!is_set(&flood->ends)) {
		send_frame(&flood->sender, flood->next++);
		/* Not more than the qdisc is to hold. */
		if (flood->next % 32 == 0)
			usleep(500);
	}
	return NULL;
}

FIXTURE_SETUP(races)
{
	enter_namespaces();
	for (int i = 0; i < FILES; i++) {
		self->consumers[i].end.kind = TUNTAP_RING_TEST_TUN;
		self->consumers[i].end.fd = tun_open();
		tun_attach(self->consumers[i].end.fd, DEVICE, FLAGS);
	}
	tun_steer_by_mark(self->consumers[0].end.fd);
	set_txqueuelen(DEVICE, SIZE);
	set_up(DEVICE, true);
	sender_open(&self->flood.sender, DEVICE);
	/* Opened once, before there are threads. */
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
	for (int __i = 0; __i < (count); __i++) {			\
		self->consumers[__i].ends = &self->consumers_end;	\
		ASSERT_EQ(0, pthread_create(&self->consumers[__i].thread,\
					    NULL, consume_until_end,	\
					    &self->consumers[__i]));	\
	}								\
} while (0)

#define END_FLOOD()						\
do {								\
	set(&self->flood.ends);					\
	ASSERT_EQ(0, pthread_join(self->flood.thread, NULL));		\
} while (0)

#define END_CONSUMERS(count)						\
do {									\
	set(&self->consumers_end);					\
	for (int __i = 0; __i < (count); __i++) {			\
		ASSERT_EQ(0, pthread_join(self->consumers[__i].thread, NULL));\
		EXPECT_EQ(0, self->consumers[__i].disordered);		\
		EXPECT_LT(0, self->consumers[__i].taken);		\
	}								\
} while (0)

static bool has_seen(struct consumer *consumer, uint64_t number)
{
	return __atomic_load_n(&consumer->next, __ATOMIC_RELAXED) > number;
}

/*
 * Whether frames that are sent now come out, of whichever file. Not just one:
 * the qdisc may find that it has waited too long, and drop it.
 */
static bool gets_through(struct flood *flood, struct consumer *consumers)
{
	uint64_t first = flood->next, end = now_ms() + PATIENCE_MS;

	while (now_ms() < end) {
		send_frame(&flood->sender, flood->next++);
		if (has_seen(&consumers[0], first) || has_seen(&consumers[1], first))
			return true;
		usleep(20000);
	}
	return false;
}

TEST_F_TIMEOUT(races, resize, 120)
{
	static const unsigned int sizes[] = { 1, 100, 2, 33, 1000, 16, 3 };
	uint64_t end = now_ms() + FLOOD_MS;

	START_CONSUMERS(1);
	START_FLOOD();
	for (int i = 0; now_ms() < end; i++) {
		set_txqueuelen(DEVICE, sizes[i % ARRAY_SIZE(sizes)]);
		usleep(3000);
	}
	END_FLOOD();
	EXPECT_TRUE(gets_through(&self->flood, self->consumers));
	EXPECT_TRUE(POLL(!is_stopped(DEVICE, 0)));
	END_CONSUMERS(1);
}

TEST_F_TIMEOUT(races, down_and_up, 120)
{
	uint64_t end = now_ms() + FLOOD_MS;

	START_CONSUMERS(1);
	START_FLOOD();
	while (now_ms() < end) {
		set_up(DEVICE, false);
		usleep(1000);
		EXPECT_TRUE(is_stopped(DEVICE, 0));
		set_up(DEVICE, true);
		usleep(10000);
	}
	END_FLOOD();
	EXPECT_TRUE(gets_through(&self->flood, self->consumers));
	EXPECT_TRUE(POLL(!is_stopped(DEVICE, 0)));
	END_CONSUMERS(1);
}

/* Each in its turn, so that the other one moves into slot 0. */
TEST_F_TIMEOUT(races, detach_and_attach, 120)
{
	uint64_t end = now_ms() + FLOOD_MS;

	START_CONSUMERS(2);
	START_FLOOD();
	for (int i = 0; now_ms() < end; i++) {
		int fd = self->consumers[i % FILES].end.fd;

		tun_set_queue(fd, false);
		usleep(5000);
		tun_set_queue(fd, true);
		usleep(5000);
	}
	END_FLOOD();
	EXPECT_TRUE(gets_through(&self->flood, self->consumers));
	EXPECT_TRUE(POLL(!is_stopped(DEVICE, 0) && !is_stopped(DEVICE, 1)));
	END_CONSUMERS(2);
}

/* New devices for the same file, again and again. */
TEST_F_TIMEOUT(races, delete, 120)
{
	uint64_t end = now_ms() + FLOOD_MS;

	START_CONSUMERS(1);
	while (now_ms() < end) {
		for (int i = 0; i < 500; i++)
			send_frame(&self->flood.sender, self->flood.next++);
		run("ip link delete " DEVICE);
		tun_attach(self->consumers[0].end.fd, DEVICE, FLAGS);
		set_txqueuelen(DEVICE, SIZE);
		set_up(DEVICE, true);
		sender_close(&self->flood.sender);
		sender_open(&self->flood.sender, DEVICE);
	}
	EXPECT_TRUE(gets_through(&self->flood, self->consumers));
	EXPECT_TRUE(POLL(!is_stopped(DEVICE, 0)));
	END_CONSUMERS(1);
}

TEST_HARNESS_MAIN
