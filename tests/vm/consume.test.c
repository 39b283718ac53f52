// SPDX-License-Identifier: GPL-2.0
/*
 * Tests that every frame comes off a ring once, in order, and that slots are
 * freed where the kernel's ptr_ring_consume_batched() would free them.
 *
 *  +-------------------- network namespace --------------------+
 *  |                                                            |
 *  |  packet socket ---> qdisc ---> t0 ---> ring ---> consumer  |
 *  |                                tap or tun                  |
 *  +------------------------------------------------------------+
 */

#include <limits.h>
#include "kselftest_harness.h"
#include "util.h"

#define DEVICE	"t0"

FIXTURE(consume)
{
	struct end end;
	struct sender sender;
	struct tuntap_ring_test_entry entries[TUNTAP_RING_TEST_MAX];
	uint64_t sent;
	uint64_t seen;
};

FIXTURE_VARIANT(consume)
{
	int flags;
};

FIXTURE_VARIANT_ADD(consume, tap)
{
	.flags = IFF_TAP | IFF_NO_PI,
};

FIXTURE_VARIANT_ADD(consume, tun)
{
	.flags = IFF_TUN | IFF_NO_PI,
};

FIXTURE_SETUP(consume)
{
	enter_namespaces();
	self->end.kind = TUNTAP_RING_TEST_TUN;
	self->end.fd = tun_create(DEVICE, variant->flags, 500);
	sender_open(&self->sender, DEVICE);
}

FIXTURE_TEARDOWN(consume)
{
	sender_close(&self->sender);
	close(self->end.fd);
}

/* Sends the next COUNT frames. */
#define SEND(count)						\
do {								\
	unsigned int __count = (count);				\
								\
	send_frames(&self->sender, self->sent, __count);	\
	self->sent += __count;					\
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

TEST_F(consume, returns_one_frame)
{
	SEND(1);
	CONSUME(1, 64);
	EXPECT_FALSE(self->entries[0].is_xdp);
	CONSUME(0, 64);
}

TEST_F(consume, returns_0_from_an_empty_ring)
{
	static const int most[] = { 1, 16, 64, 4096, INT_MAX };

	for (int i = 0; i < ARRAY_SIZE(most); i++)
		CONSUME(0, most[i]);
}

TEST_F(consume, takes_nothing_for_n_below_1)
{
	static const int most[] = { 0, -1, -64, INT_MIN };

	SEND(3);
	for (int i = 0; i < ARRAY_SIZE(most); i++)
		CONSUME(0, most[i]);
	ASSERT_EQ(3, read_ring(self->end).occupied);
	CONSUME(3, 64);
}

TEST_F(consume, takes_all_frames_for_n_of_int_max)
{
	SEND(500);
	CONSUME(500, INT_MAX);
	SEND(7);
	CONSUME(7, INT_MAX);
	CONSUME(0, INT_MAX);
}

TEST_F(consume, takes_all_frames_of_a_full_ring)
{
	for (int round = 0; round < 3; round++) {
		SEND(500);
		ASSERT_FALSE(read_ring(self->end).has_room);
		CONSUME(500, 500);
		CONSUME(0, 1);
	}
	EXPECT_EQ(0, statistic(DEVICE, "tx_dropped"));
}

TEST_F(consume, takes_at_most_n_frames)
{
	static const int batches[] = { 1, 15, 16, 17, 63, 64, 65, 499, 501, 4096 };

	for (int i = 0; i < ARRAY_SIZE(batches); i++) {
		int left = 500, n;

		SEND(left);
		for (; left; left -= n) {
			n = left < batches[i] ? left : batches[i];
			CONSUME(n, batches[i]);
		}
		CONSUME(0, batches[i]);
	}
	EXPECT_EQ(0, statistic(DEVICE, "tx_dropped"));
}

TEST_F(consume, takes_all_frames_of_rings_of_any_size)
{
	static const int sizes[] = { 1, 2, 3, 4, 15, 16, 17, 31, 32, 33, 1000 };

	for (int i = 0; i < ARRAY_SIZE(sizes); i++) {
		set_txqueuelen(DEVICE, sizes[i]);
		ASSERT_EQ(sizes[i], read_ring(self->end).size);
		for (int round = 0; round < 3; round++) {
			SEND(sizes[i]);
			CONSUME(sizes[i], sizes[i] + 1);
			CONSUME(0, sizes[i] + 1);
		}
	}
	EXPECT_EQ(0, statistic(DEVICE, "tx_dropped"));
}

TEST_F(consume, returns_0_from_a_ring_without_slots)
{
	set_txqueuelen(DEVICE, 0);
	ASSERT_EQ(0, read_ring(self->end).size);
	send_frames(&self->sender, 0, 5);
	CONSUME(0, 1);
	CONSUME(0, 64);
	EXPECT_EQ(5, statistic(DEVICE, "tx_dropped"));

	set_txqueuelen(DEVICE, 8);
	SEND(8);
	CONSUME(8, 64);
}

/* Models the effect of __ptr_ring_discard_one() on the indices. */
static void discard(struct tuntap_ring_test_ring *ring, int n)
{
	while (n--) {
		ring->head++;
		if (ring->head - ring->tail >= ring->batch ||
		    ring->head >= ring->size) {
			ring->occupied -= ring->head - ring->tail;
			ring->tail = ring->head;
		}
		if (ring->head >= ring->size)
			ring->head = ring->tail = 0;
	}
}

TEST_F(consume, frees_slots_where_ptr_ring_does)
{
	static const int sizes[] = { 1, 2, 5, 31, 32, 37, 64, 100 };

	for (int i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct tuntap_ring_test_ring model, ring;
		int left = 0;

		set_txqueuelen(DEVICE, sizes[i]);
		model = read_ring(self->end);
		ASSERT_EQ(0, model.occupied);
		/* Numbers of frames that share no divisor with the size. */
		for (int round = 0; round < 150; round++) {
			int more = sizes[i] - model.occupied;
			int n = 1 + round * 7 % 23;

			if (more > 1 + round * 5 % 19)
				more = 1 + round * 5 % 19;
			SEND(more);
			model.occupied += more;
			left += more;
			if (n > left)
				n = left;
			CONSUME(n, n == left ? 64 : n);
			discard(&model, n);
			left -= n;

			ring = read_ring(self->end);
			ASSERT_EQ(model.head, ring.head);
			ASSERT_EQ(model.tail, ring.tail);
			ASSERT_EQ(model.occupied, ring.occupied);
		}
		CONSUME(left, 64 + left);
	}
	EXPECT_EQ(0, statistic(DEVICE, "tx_dropped"));
}

TEST_F(consume, takes_unconsumed_frames_again_in_order)
{
	struct tuntap_ring_test_entry back[13];

	/* A full ring at every offset of the head. */
	set_txqueuelen(DEVICE, 32);
	for (int offset = 0; offset < 32; offset++) {
		int left = 32, n;

		/* The first unconsumed frame moves the tail to the head. */
		SEND(1);
		ASSERT_EQ(1, consume_and_unconsume(self->end, 1, 1, self->entries, 1));
		ASSERT_EQ(offset, read_ring(self->end).head);
		ASSERT_EQ(offset, read_ring(self->end).tail);
		SEND(31);
		n = consume_and_unconsume(self->end, 16, ARRAY_SIZE(back),
					  self->entries, TUNTAP_RING_TEST_MAX);
		ASSERT_EQ(16, n);
		ASSERT_TRUE(are_frames(self->entries, n, self->seen));
		self->seen += n - ARRAY_SIZE(back);
		left -= n - ARRAY_SIZE(back);
		memcpy(back, self->entries + n - ARRAY_SIZE(back), sizeof(back));
		CONSUME(left, 64);
		ASSERT_EQ(0, memcmp(back, self->entries, sizeof(back)));
		SEND(1);
		CONSUME(1, 1);
	}
	EXPECT_EQ(0, statistic(DEVICE, "tx_dropped"));
}

TEST_F(consume, takes_the_frames_that_a_resize_keeps)
{
	set_txqueuelen(DEVICE, 40);
	SEND(40);
	CONSUME(20, 20);
	SEND(10);
	/* The remaining entries move to the new ring. */
	set_txqueuelen(DEVICE, 100);
	SEND(70);
	CONSUME(100, 4096);
	/* A ring that keeps only the oldest entry. */
	SEND(100);
	set_txqueuelen(DEVICE, 10);
	CONSUME(10, 64);
	self->seen += 90;
	SEND(10);
	CONSUME(10, 64);
}

TEST_F(consume, counts_calls_and_entries)
{
	uint64_t calls = counter("calls"), entries = counter("entries");
	uint64_t wakes = counter("wakes"), rejected = counter("rejected");

	SEND(20);
	CONSUME(16, 16);
	CONSUME(4, 16);
	CONSUME(0, 16);
	/* The last call takes nothing, and is not counted. */
	EXPECT_EQ(calls + 2, counter("calls"));
	EXPECT_EQ(entries + 20, counter("entries"));
	EXPECT_EQ(wakes, counter("wakes"));
	EXPECT_EQ(rejected, counter("rejected"));
}

/*
 *  packet socket ---> v1 ===veth=== v0, XDP: redirect ---> t0 ---> ring
 */
FIXTURE(xdp)
{
	struct end end;
	struct sender sender;
};

FIXTURE_SETUP(xdp)
{
	enter_namespaces();
	self->end.kind = TUNTAP_RING_TEST_TUN;
	self->end.fd = tun_create(DEVICE, IFF_TAP | IFF_NO_PI | IFF_BACKPRESSURE, 100);
	run("ip link add v0 type veth peer name v1");
	set_up("v0", true);
	set_up("v1", true);
	xdp_redirect("v0", DEVICE);
	sender_open(&self->sender, "v1");
}

FIXTURE_TEARDOWN(xdp)
{
	sender_close(&self->sender);
	close(self->end.fd);
}

TEST_F(xdp, xdp_frames_are_tagged)
{
	struct tuntap_ring_test_entry entries[64];

	send_frames(&self->sender, 0, 40);
	ASSERT_TRUE(WAIT_UNTIL(read_ring(self->end).occupied == 40));
	ASSERT_EQ(40, consume(self->end, 64, entries, 64));
	ASSERT_TRUE(are_frames(entries, 40, 0));
	for (int i = 0; i < 40; i++) {
		EXPECT_TRUE(entries[i].is_xdp);
		EXPECT_EQ(1, entries[i].entry & 1);
	}
}

TEST_F(xdp, xdp_frames_and_packets_stay_in_order)
{
	struct tuntap_ring_test_entry entries[64];
	struct sender direct;

	sender_open(&direct, DEVICE);
	for (int i = 0; i < 20; i++) {
		send_frames(i % 2 ? &direct : &self->sender, i, 1);
		ASSERT_TRUE(WAIT_UNTIL(read_ring(self->end).occupied == i + 1));
	}
	/* Tagged pointers are unconsumed unchanged, too. */
	ASSERT_EQ(20, consume_and_unconsume(self->end, 64, 15, entries, 64));
	ASSERT_EQ(15, consume(self->end, 64, entries, 64));
	ASSERT_TRUE(are_frames(entries, 15, 5));
	for (int i = 0; i < 15; i++)
		EXPECT_EQ((i + 5) % 2 == 0, entries[i].is_xdp);
	sender_close(&direct);
}

/* XDP fills the ring without stopping the queue. */
TEST_F(xdp, ring_filled_by_xdp_stops_at_the_next_packet)
{
	struct tuntap_ring_test_entry entries[128];
	struct sender direct;

	sender_open(&direct, DEVICE);
	send_frames(&self->sender, 0, 99);
	ASSERT_TRUE(WAIT_UNTIL(read_ring(self->end).occupied == 99));
	ASSERT_FALSE(is_stopped(DEVICE, 0));
	send_frames(&direct, 99, 1);
	ASSERT_TRUE(WAIT_UNTIL(is_stopped(DEVICE, 0)));
	ASSERT_EQ(100, consume(self->end, 128, entries, 128));
	ASSERT_TRUE(are_frames(entries, 100, 0));
	EXPECT_FALSE(is_stopped(DEVICE, 0));
	sender_close(&direct);
}

TEST_HARNESS_MAIN
