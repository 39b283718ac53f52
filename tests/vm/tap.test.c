// SPDX-License-Identifier: GPL-2.0
/*
 * Tests the rings of macvtap and ipvtap. A receive handler fills them; the only
 * transmit queue of the device carries the opposite direction. Only this test
 * stops that queue, and no consumer wakes it.
 *
 *  +---------------------- network namespace ----------------------+
 *  |                                                                |
 *  |  packet socket ---> v1 ===veth=== v0                           |
 *  |                                   |                            |
 *  |                                   m0  macvtap or ipvtap,       |
 *  |                                   |   queue 0                  |
 *  |                        +----------+----------+                 |
 *  |                        ring 0     ring 1     ring 2 ...        |
 *  |                        |          |          |                 |
 *  |                        file 0     file 1     file 2 ...        |
 *  +----------------------------------------------------------------+
 */

#include <limits.h>
#include "kselftest_harness.h"
#include "util.h"

#define DEVICE	"m0"
#define ADDRESS	0xc0000203	/* 192.0.2.3 */
#define SIZE	32
#define FILES	4

FIXTURE(tap)
{
	struct end file[FILES];
	struct sender sender;
	struct tuntap_ring_test_entry entries[2 * SIZE];
};

FIXTURE_VARIANT(tap)
{
	const char *type;
};

FIXTURE_VARIANT_ADD(tap, macvtap)
{
	.type = "macvtap mode bridge",
};

FIXTURE_VARIANT_ADD(tap, ipvtap)
{
	.type = "ipvtap mode l2",
};

FIXTURE_SETUP(tap)
{
	enter_namespaces();
	run("ip link add v0 type veth peer name v1");
	run("ip link add link v0 name " DEVICE " type %s", variant->type);
	run("ip address add 192.0.2.3/24 dev " DEVICE);
	set_txqueuelen(DEVICE, SIZE);
	set_up("v0", true);
	set_up("v1", true);
	set_up(DEVICE, true);
	for (int i = 0; i < FILES; i++) {
		self->file[i].kind = TUNTAP_RING_TEST_TAP;
		self->file[i].fd = -1;
	}
	self->file[0].fd = tap_open(DEVICE);
	sender_open(&self->sender, "v1");
	sender_set_destination(&self->sender, DEVICE);
	sender_set_address(&self->sender, ADDRESS);
}

FIXTURE_TEARDOWN(tap)
{
	sender_close(&self->sender);
	for (int i = 0; i < FILES; i++)
		if (self->file[i].fd >= 0)
			close(self->file[i].fd);
}

/* Sends COUNT frames, and waits until they are in the ring of file 0. */
#define SEND(first, count)						\
do {									\
	int __occupied = read_ring(self->file[0]).occupied;		\
									\
	send_frames(&self->sender, first, count);			\
	ASSERT_TRUE(WAIT_UNTIL(read_ring(self->file[0]).occupied ==	\
			 __occupied + (count))) {			\
		TH_LOG("%d of %d in the ring",				\
		       read_ring(self->file[0]).occupied,		\
		       __occupied + (int)(count));			\
	}								\
} while (0)

/* Consumes up to N from file 0, and expects COUNT frames. */
#define CONSUME(first, count, n)					\
do {									\
	int __count = (count);						\
									\
	ASSERT_EQ(__count, consume(self->file[0], n, self->entries,	\
				   2 * SIZE));				\
	ASSERT_TRUE(are_frames(self->entries, __count, first));		\
} while (0)

TEST_F(tap, takes_all_frames_in_order)
{
	static const int batches[] = { 1, 15, 16, 17, 31, 32, 64, INT_MAX };
	uint64_t sent = 0;

	for (int i = 0; i < ARRAY_SIZE(batches); i++) {
		int n = SIZE - read_ring(self->file[0]).occupied, taken;

		SEND(sent, n);
		for (; n; n -= taken, sent += taken) {
			taken = n < batches[i] ? n : batches[i];
			CONSUME(sent, taken, batches[i]);
			ASSERT_FALSE(self->entries[0].is_xdp);
		}
		CONSUME(sent, 0, batches[i]);
	}
	/* The queue was never stopped. */
	EXPECT_FALSE(is_stopped(DEVICE, 0));
}

TEST_F(tap, takes_nothing_for_n_below_1)
{
	SEND(0, 3);
	CONSUME(0, 0, 0);
	CONSUME(0, 0, -1);
	CONSUME(0, 0, INT_MIN);
	CONSUME(0, 3, 64);
}

TEST_F(tap, takes_unconsumed_frames_again_in_order)
{
	SEND(0, SIZE);
	ASSERT_EQ(20, consume_and_unconsume(self->file[0], 20, 15,
					    self->entries, SIZE));
	CONSUME(5, SIZE - 5, 64);
	CONSUME(0, 0, 64);
}

/*
 * No driver stops the queue of such a device, so no call checks it: a queue that
 * a test has stopped stays stopped, whether the ring is half empty or empty.
 */
TEST_F(tap, wakes_no_queue)
{
	int fd = watch(self->file[0], DEVICE, 0);
	uint64_t withheld = counter("withheld"), wakes = counter("wakes");

	SEND(0, SIZE);
	stop_queue(DEVICE, 0);
	for (int i = 0; i < SIZE; i++) {
		CONSUME(i, 1, 1);
		ASSERT_TRUE(is_stopped(DEVICE, 0));
	}
	CONSUME(0, 0, 64);
	SEND(0, SIZE);
	CONSUME(0, SIZE, 64);
	EXPECT_TRUE(is_stopped(DEVICE, 0));
	EXPECT_EQ(0, watched(fd).wakes);
	EXPECT_EQ(wakes, counter("wakes"));
	EXPECT_EQ(withheld, counter("withheld"));
	close(fd);
}

/* A device has more files than queues: each file's entries arrive, in order. */
TEST_F(tap, takes_frames_of_each_file)
{
	int taken[FILES] = {}, total = 0;

	ASSERT_EQ(1, num_tx_queues(DEVICE));
	for (int i = 1; i < FILES; i++)
		self->file[i].fd = tap_open(DEVICE);

	/* The file is chosen by a hash of the flow. */
	for (int flow = 1; flow <= 64; flow++) {
		sender_set_flow(&self->sender, flow);
		send_frames(&self->sender, flow, 1);
	}
	ASSERT_TRUE(WAIT_UNTIL(({
		total = 0;
		for (int i = 0; i < FILES; i++)
			total += read_ring(self->file[i]).occupied;
		total == 64;
	})));

	for (int i = FILES - 1; i >= 0; i--) {
		taken[i] = consume(self->file[i], 2 * SIZE, self->entries, 2 * SIZE);
		ASSERT_LT(0, taken[i]);
		for (int n = 1; n < taken[i]; n++)
			ASSERT_LT(self->entries[n - 1].number, self->entries[n].number);
		total -= taken[i];
		ASSERT_EQ(0, consume(self->file[i], SIZE, NULL, 0));
	}
	EXPECT_EQ(0, total);
}

/* The only file of the device, detached: its entries stay with it. */
TEST_F(tap, detached_file_keeps_its_frames)
{
	SEND(0, SIZE);
	tun_set_queue(self->file[0].fd, false);
	CONSUME(0, SIZE, 64);
	CONSUME(0, 0, 64);
	tun_set_queue(self->file[0].fd, true);
	CONSUME(0, 0, 64);
}

TEST_F(tap, takes_frames_of_a_device_that_is_down)
{
	SEND(0, SIZE);
	set_up(DEVICE, false);
	CONSUME(0, SIZE, 64);
	CONSUME(0, 0, 64);
}

/* Files, and the entries in their rings, outlive their device. */
TEST_F(tap, frames_outlive_their_device)
{
	SEND(0, SIZE);
	run("ip link delete " DEVICE);
	CONSUME(0, 16, 16);
	CONSUME(16, SIZE - 16, 64);
	CONSUME(0, 0, 64);
	CONSUME(0, 0, -1);
}

/* Remaining entries are freed with the file. */
TEST_F(tap, closing_frees_frames_of_a_deleted_device)
{
	SEND(0, SIZE);
	run("ip link delete v0");
	CONSUME(0, 5, 5);
}

TEST_F(tap, takes_frames_of_rings_of_any_size)
{
	static const unsigned int sizes[] = { 1, 2, 31, 32, 1 };

	for (int i = 0; i < ARRAY_SIZE(sizes); i++) {
		set_txqueuelen(DEVICE, sizes[i]);
		ASSERT_EQ(sizes[i], read_ring(self->file[0]).size);
		SEND(3, sizes[i]);
		CONSUME(3, sizes[i], 64);
	}
	set_txqueuelen(DEVICE, 0);
	CONSUME(0, 0, 64);
}

TEST_HARNESS_MAIN
