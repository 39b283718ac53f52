// SPDX-License-Identifier: GPL-2.0
/*
 * Tests consumers of a device that goes down, is deleted, has no qdisc, or
 * never stops its queue.
 *
 *  +-------------------- network namespace --------------------+
 *  |                                                            |
 *  |  packet socket ---> qdisc ---> t0 ---> ring ---> consumer  |
 *  |                     or none    up, down, gone              |
 *  +------------------------------------------------------------+
 */

#include <pthread.h>
#include <sys/ioctl.h>
#include "kselftest_harness.h"
#include "util.h"

#define DEVICE	"t0"
#define SIZE	40

FIXTURE(device)
{
	struct end end;
	struct sender sender;
	struct tuntap_ring_test_entry entries[2 * SIZE];
};

FIXTURE_VARIANT(device)
{
	int flags;
};

FIXTURE_VARIANT_ADD(device, backpressure)
{
	.flags = IFF_TAP | IFF_NO_PI | IFF_BACKPRESSURE,
};

FIXTURE_VARIANT_ADD(device, no_backpressure)
{
	.flags = IFF_TAP | IFF_NO_PI,
};

FIXTURE_SETUP(device)
{
	enter_namespaces();
	self->end.kind = TUNTAP_RING_TEST_TUN;
	self->end.fd = tun_create(DEVICE, variant->flags, SIZE);
	sender_open(&self->sender, DEVICE);
}

FIXTURE_TEARDOWN(device)
{
	sender_close(&self->sender);
	close(self->end.fd);
}

/* Consumes all entries of the ring: COUNT frames, numbered from FIRST on. */
#define CONSUME_ALL(count, first)					\
do {									\
	int __count = (count);						\
									\
	ASSERT_EQ(__count, consume(self->end, 2 * SIZE, self->entries,	\
				   2 * SIZE));				\
	ASSERT_TRUE(are_frames(self->entries, __count, first));		\
	ASSERT_EQ(0, consume(self->end, 1, NULL, 0));			\
} while (0)

/* A full ring stops the queue only with the flag; otherwise it drops. */
TEST_F(device, full_ring_stops_the_queue_only_with_backpressure)
{
	bool stops = variant->flags & IFF_BACKPRESSURE;
	uint64_t wakes = counter("wakes");

	send_frames(&self->sender, 0, SIZE + 10);
	EXPECT_EQ(stops, is_stopped(DEVICE, 0));
	EXPECT_EQ(stops ? 0 : 10, statistic(DEVICE, "tx_dropped"));
	ASSERT_EQ(SIZE, consume(self->end, SIZE, self->entries, SIZE));
	ASSERT_TRUE(are_frames(self->entries, SIZE, 0));
	EXPECT_EQ(wakes + stops, counter("wakes"));
	EXPECT_FALSE(is_stopped(DEVICE, 0));
	if (stops) {
		ASSERT_TRUE(WAIT_UNTIL(read_ring(self->end).producer == 10));
		ASSERT_EQ(10, consume(self->end, SIZE, self->entries, SIZE));
		ASSERT_TRUE(are_frames(self->entries, 10, SIZE));
	}
}

/* The driver has not made this stop: without the flag the consumer leaves it alone. */
TEST_F(device, foreign_stop_is_undone_only_with_backpressure)
{
	bool wakes = variant->flags & IFF_BACKPRESSURE;

	send_frames(&self->sender, 0, 5);
	stop_queue(DEVICE, 0);
	CONSUME_ALL(5, 0);
	EXPECT_EQ(!wakes, is_stopped(DEVICE, 0));
}

/* Without a qdisc no packet could wait, so the driver never stops. */
TEST_F(device, queue_is_never_stopped_without_a_qdisc)
{
	run("tc qdisc replace dev " DEVICE " root noqueue");
	for (int round = 0; round < 2; round++) {
		uint64_t dropped = statistic(DEVICE, "tx_dropped");
		int room = SIZE - read_ring(self->end).occupied;

		send_frames(&self->sender, 0, room + 10);
		EXPECT_FALSE(is_stopped(DEVICE, 0));
		EXPECT_EQ(dropped + 10, statistic(DEVICE, "tx_dropped"));
		CONSUME_ALL(room, 0);
		EXPECT_FALSE(is_stopped(DEVICE, 0));
	}
}

/* The consumer must not undo a stop by taking the link down. */
TEST_F(device, device_that_is_down_is_not_woken)
{
	uint64_t wakes = counter("wakes");
	int room;

	send_frames(&self->sender, 0, SIZE);
	set_up(DEVICE, false);
	ASSERT_TRUE(is_stopped(DEVICE, 0));
	/* Entries stay in the ring. */
	ASSERT_EQ(16, consume(self->end, 16, self->entries, SIZE));
	ASSERT_TRUE(are_frames(self->entries, 16, 0));
	EXPECT_TRUE(is_stopped(DEVICE, 0));
	CONSUME_ALL(SIZE - 16, 16);
	EXPECT_TRUE(is_stopped(DEVICE, 0));
	EXPECT_EQ(wakes, counter("wakes"));

	set_up(DEVICE, true);
	EXPECT_FALSE(is_stopped(DEVICE, 0));
	room = SIZE - read_ring(self->end).occupied;
	send_frames(&self->sender, 0, room);
	EXPECT_EQ(!!(variant->flags & IFF_BACKPRESSURE), is_stopped(DEVICE, 0));
	CONSUME_ALL(room, 0);
	EXPECT_FALSE(is_stopped(DEVICE, 0));
}

/* When the link comes up with a full ring, the queue is not stopped yet. */
TEST_F(device, queue_is_woken_after_up_with_a_full_ring)
{
	send_frames(&self->sender, 0, SIZE);
	set_up(DEVICE, false);
	set_up(DEVICE, true);
	EXPECT_FALSE(is_stopped(DEVICE, 0));
	/* This frame finds no room. */
	send_frames(&self->sender, SIZE, 1);
	EXPECT_EQ(1, statistic(DEVICE, "tx_dropped"));
	EXPECT_EQ(!!(variant->flags & IFF_BACKPRESSURE), is_stopped(DEVICE, 0));
	CONSUME_ALL(SIZE, 0);
	EXPECT_FALSE(is_stopped(DEVICE, 0));
}

/* The client still has the file open when the device is deleted. */
TEST_F(device, deleted_device_returns_0)
{
	static const int most[] = { 1, 64, 0, -1 };

	send_frames(&self->sender, 0, SIZE);
	run("ip link delete " DEVICE);
	for (int i = 0; i < ARRAY_SIZE(most); i++)
		EXPECT_EQ(0, consume(self->end, most[i], NULL, 0));
	EXPECT_EQ(0, read_ring(self->end).occupied);
}

/* Consumes until it is told to end. */
struct consumer {
	struct end end;
	bool ends;
	int wrong;
	unsigned int calls;
};

static void *consume_on(void *arg)
{
	struct consumer *consumer = arg;
	int taken;

	while (!__atomic_load_n(&consumer->ends, __ATOMIC_RELAXED)) {
		taken = consume(consumer->end, 64, NULL, 0);
		if (taken < 0 || taken > 64)
			consumer->wrong = taken;
		__atomic_fetch_add(&consumer->calls, 1, __ATOMIC_RELEASE);
	}
	return NULL;
}

/* Waits until the call in progress has returned. */
static bool call_ends(const struct consumer *consumer)
{
	unsigned int calls = __atomic_load_n(&consumer->calls, __ATOMIC_ACQUIRE);

	return WAIT_UNTIL(__atomic_load_n(&consumer->calls, __ATOMIC_ACQUIRE) != calls);
}

/* The device unregisters while a consumer is in the call. */
TEST_F(device, deletion_during_a_call_is_survived)
{
	struct consumer consumer = { .end = self->end };
	struct sender sender;
	pthread_t thread;

	ASSERT_EQ(0, pthread_create(&thread, NULL, consume_on, &consumer));
	for (int round = 0; round < 20; round++) {
		if (round) {
			tun_attach(self->end.fd, DEVICE, variant->flags);
			set_txqueuelen(DEVICE, SIZE);
			set_up(DEVICE, true);
		}
		sender_open(&sender, DEVICE);
		send_frames(&sender, 0, 2 * SIZE);
		/* The next call begins with this device. */
		ASSERT_TRUE(call_ends(&consumer));
		run("ip link delete " DEVICE);
		/* The next device may reuse the memory of this one. */
		ASSERT_TRUE(call_ends(&consumer));
		sender_close(&sender);
	}
	__atomic_store_n(&consumer.ends, true, __ATOMIC_RELAXED);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(0, consumer.wrong);
	EXPECT_EQ(0, consume(self->end, 64, NULL, 0));
}

/* The file is attached to a second device afterwards. */
TEST_F(device, second_device_of_a_file_is_served)
{
	struct sender sender;

	send_frames(&self->sender, 0, SIZE);
	run("ip link delete " DEVICE);
	ASSERT_EQ(0, consume(self->end, 64, NULL, 0));
	tun_attach(self->end.fd, "t1", variant->flags);
	set_txqueuelen("t1", SIZE);
	set_up("t1", true);
	sender_open(&sender, "t1");
	send_frames(&sender, 7, SIZE);
	EXPECT_EQ(!!(variant->flags & IFF_BACKPRESSURE), is_stopped("t1", 0));
	CONSUME_ALL(SIZE, 7);
	EXPECT_FALSE(is_stopped("t1", 0));
	sender_close(&sender);
}

/* A persistent device outlives its file. */
TEST_F(device, persistent_device_of_a_closed_file_is_served)
{
	ASSERT_EQ(0, ioctl(self->end.fd, TUNSETPERSIST, 1));
	send_frames(&self->sender, 0, SIZE);
	close(self->end.fd);
	self->end.fd = tun_open();
	tun_attach(self->end.fd, DEVICE, variant->flags);
	ASSERT_EQ(0, ioctl(self->end.fd, TUNSETPERSIST, 0));
	EXPECT_FALSE(is_stopped(DEVICE, 0));
	ASSERT_EQ(0, consume(self->end, 1, NULL, 0));
	send_frames(&self->sender, 0, SIZE);
	CONSUME_ALL(SIZE, 0);
	EXPECT_FALSE(is_stopped(DEVICE, 0));
}

/* Neither shrinking nor growing leaves the queue stopped forever. */
TEST_F(device, resize_of_a_full_ring_leaves_no_queue_stopped)
{
	static const unsigned int sizes[] = { 1, SIZE, 2, 3, 64, 1 };

	for (int i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct tuntap_ring_test_ring ring = read_ring(self->end);
		int room;

		send_frames(&self->sender, 0, ring.size - ring.occupied);
		set_txqueuelen(DEVICE, sizes[i]);
		EXPECT_FALSE(is_stopped(DEVICE, 0));
		while (consume(self->end, SIZE, NULL, 0))
			;
		ring = read_ring(self->end);
		ASSERT_EQ(sizes[i], ring.size);
		room = ring.size - ring.occupied;
		send_frames(&self->sender, 5, room);
		CONSUME_ALL(room, 5);
		EXPECT_FALSE(is_stopped(DEVICE, 0));
	}
}

TEST_HARNESS_MAIN
