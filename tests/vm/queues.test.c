// SPDX-License-Identifier: GPL-2.0
/*
 * Tests devices with several queues, and files that leave their queue: only the
 * file that owns a slot wakes the queue of that index.
 *
 *  +------------------ network namespace -------------------+
 *  |                                                         |
 *  |  packet socket,   mark 0 --> queue 0 --> file a or b    |
 *  |  steered by mark  mark 1 --> queue 1 --> file b         |
 *  |                   t0, IFF_MULTI_QUEUE | IFF_BACKPRESSURE|
 *  +---------------------------------------------------------+
 */

#include "kselftest_harness.h"
#include "util.h"

#define DEVICE	"t0"
#define FLAGS	(IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE | IFF_BACKPRESSURE)
#define SIZE	64

FIXTURE(queues)
{
	struct end a;
	struct end b;
	struct sender sender;
	struct tuntap_ring_test_entry entries[2 * SIZE];
};

FIXTURE_SETUP(queues)
{
	enter_namespaces();
	self->a.kind = TUNTAP_RING_TEST_TUN;
	self->b.kind = TUNTAP_RING_TEST_TUN;
	self->a.fd = tun_create(DEVICE, FLAGS, SIZE);
	self->b.fd = tun_open();
	tun_attach(self->b.fd, DEVICE, FLAGS);
	tun_steer_by_mark(self->a.fd);
	sender_open(&self->sender, DEVICE);
}

FIXTURE_TEARDOWN(queues)
{
	sender_close(&self->sender);
	close(self->a.fd);
	close(self->b.fd);
}

/* Sends COUNT frames to a queue. */
static void send_to(struct sender *sender, unsigned int queue,
		    unsigned int count)
{
	sender_set_mark(sender, queue);
	send_frames(sender, 1000 * queue, count);
}

TEST_F(queues, each_file_wakes_its_own_queue)
{
	send_to(&self->sender, 0, SIZE);
	ASSERT_TRUE(WAIT_UNTIL(is_stopped(DEVICE, 0)));
	EXPECT_FALSE(is_stopped(DEVICE, 1));
	send_to(&self->sender, 1, SIZE);
	ASSERT_TRUE(WAIT_UNTIL(is_stopped(DEVICE, 1)));

	ASSERT_EQ(SIZE, consume(self->b, SIZE, self->entries, SIZE));
	ASSERT_TRUE(are_frames(self->entries, SIZE, 1000));
	EXPECT_FALSE(is_stopped(DEVICE, 1));
	EXPECT_TRUE(is_stopped(DEVICE, 0));
	/* A call that finds the ring empty wakes no other queue either. */
	ASSERT_EQ(0, consume(self->b, SIZE, NULL, 0));
	EXPECT_TRUE(is_stopped(DEVICE, 0));

	ASSERT_EQ(SIZE, consume(self->a, SIZE, self->entries, SIZE));
	ASSERT_TRUE(are_frames(self->entries, SIZE, 0));
	EXPECT_FALSE(is_stopped(DEVICE, 0));
}

/*
 * File a leaves queue 0 stopped and b moves there with LEFT entries: fewer than
 * a batch, so draining them may free no slot. Each call requests N entries.
 */
#define TAKE_OVER(leave, left, n)					\
do {									\
	int __taken, __left = (left);					\
									\
	send_to(&self->sender, 1, __left);				\
	send_to(&self->sender, 0,					\
		SIZE - read_ring(self->a).occupied);			\
	ASSERT_TRUE(WAIT_UNTIL(is_stopped(DEVICE, 0)));			\
	leave;								\
	/* b must wake the queue: neither close nor detach does. */	\
	ASSERT_TRUE(is_stopped(DEVICE, 0));				\
	for (int __from = 1000; __left; __from += __taken) {		\
		ASSERT_TRUE(is_stopped(DEVICE, 0));			\
		__taken = consume(self->b, n, self->entries, SIZE);	\
		ASSERT_LT(0, __taken);					\
		ASSERT_TRUE(are_frames(self->entries, __taken, __from));\
		__left -= __taken;					\
	}								\
	ASSERT_FALSE(is_stopped(DEVICE, 0));				\
} while (0)

TEST_F(queues, queue_taken_over_by_detach_is_woken)
{
	static const int most[] = { 1, 4, 64 };
	struct end swap;

	for (int left = 1; left <= 16; left++) {
		TAKE_OVER(tun_set_queue(self->a.fd, false), left,
			  most[left % ARRAY_SIZE(most)]);
		/* File a attaches again, as the second. */
		tun_set_queue(self->a.fd, true);
		swap = self->a;
		self->a = self->b;
		self->b = swap;
	}
}

TEST_F(queues, queue_taken_over_by_close_is_woken)
{
	TAKE_OVER(close(self->a.fd), 3, 64);
}

/* A detached file is not the owner, though it still has index and device. */
TEST_F(queues, detached_file_wakes_no_queue)
{
	send_to(&self->sender, 0, 5);
	tun_set_queue(self->a.fd, false);
	/* Detaching has emptied its ring. */
	ASSERT_EQ(0, consume(self->a, SIZE, NULL, 0));
	send_to(&self->sender, 0, SIZE);
	ASSERT_TRUE(WAIT_UNTIL(is_stopped(DEVICE, 0)));
	ASSERT_EQ(SIZE, read_ring(self->b).occupied);

	for (int n = 1; n <= SIZE; n *= 4) {
		ASSERT_EQ(0, consume(self->a, n, NULL, 0));
		ASSERT_TRUE(is_stopped(DEVICE, 0));
	}
	ASSERT_EQ(SIZE, consume(self->b, SIZE, self->entries, SIZE));
	ASSERT_TRUE(are_frames(self->entries, SIZE, 0));
	EXPECT_FALSE(is_stopped(DEVICE, 0));
}

TEST_F(queues, reattached_file_wakes_its_new_queue)
{
	tun_set_queue(self->a.fd, false);
	tun_set_queue(self->a.fd, true);

	/* File a is the second now, and wakes only queue 1. */
	send_to(&self->sender, 0, SIZE);
	send_to(&self->sender, 1, SIZE);
	ASSERT_TRUE(WAIT_UNTIL(is_stopped(DEVICE, 0) && is_stopped(DEVICE, 1)));
	ASSERT_EQ(SIZE, consume(self->a, SIZE, self->entries, SIZE));
	ASSERT_TRUE(are_frames(self->entries, SIZE, 1000));
	EXPECT_FALSE(is_stopped(DEVICE, 1));
	EXPECT_TRUE(is_stopped(DEVICE, 0));
	ASSERT_EQ(SIZE, consume(self->b, SIZE, self->entries, SIZE));
	ASSERT_TRUE(are_frames(self->entries, SIZE, 0));
	EXPECT_FALSE(is_stopped(DEVICE, 0));
}

/* The only file of a device is detached. */
TEST_F(queues, only_file_wakes_its_queue_after_reattaching)
{
	close(self->b.fd);
	send_to(&self->sender, 0, SIZE);
	ASSERT_TRUE(WAIT_UNTIL(is_stopped(DEVICE, 0)));
	tun_set_queue(self->a.fd, false);
	EXPECT_EQ(0, consume(self->a, SIZE, NULL, 0));
	tun_set_queue(self->a.fd, true);
	EXPECT_FALSE(is_stopped(DEVICE, 0));
	send_to(&self->sender, 0, SIZE);
	ASSERT_TRUE(WAIT_UNTIL(is_stopped(DEVICE, 0)));
	ASSERT_EQ(SIZE, consume(self->a, SIZE, self->entries, SIZE));
	ASSERT_TRUE(are_frames(self->entries, SIZE, 0));
	EXPECT_FALSE(is_stopped(DEVICE, 0));
}

TEST_HARNESS_MAIN
