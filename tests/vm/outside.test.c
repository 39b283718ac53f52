// SPDX-License-Identifier: GPL-2.0
/*
 * Tests the trace points, and the files in debugfs that contain more than a
 * number.
 *
 *   packet socket ---> t0, IFF_BACKPRESSURE ---> ring ---> consumer ---> event
 *                       |                                     |
 *                       debugfs: stopped                      debugfs: batches, calls
 */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include "kselftest_harness.h"
#include "util.h"

#define DEVICE		"t0"
#define FLAGS		(IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE | IFF_BACKPRESSURE)
#define SIZE		64
#define TRACING		"/sys/kernel/tracing"
/* A separate trace buffer, without events of other programs. */
#define INSTANCE	TRACING "/instances/tuntap-ring-test"
#define BATCHES		9

static void write_to(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_TRUNC);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		fail("%s: %s", path, strerror(errno));
	close(fd);
}

/* Returns the events since the last call, a line each, without time and CPU. */
static const char *events(void)
{
	static char text[4096];
	char line[512], *event;
	FILE *file = fopen(INSTANCE "/trace", "r");

	if (!file)
		fail("no " INSTANCE "/trace");
	text[0] = 0;
	while (fgets(line, sizeof(line), file)) {
		event = strstr(line, ": ");
		if (line[0] != '#' && event && strlen(text) + strlen(event) < sizeof(text))
			strcat(text, event + 2);
	}
	fclose(file);
	write_to(INSTANCE "/trace", "\n");
	return text;
}

/* Returns the text of a file in debugfs. */
static const char *debugfs(const char *name)
{
	static char text[4096];
	char path[128];
	size_t length;
	FILE *file;

	snprintf(path, sizeof(path), "/sys/kernel/debug/tuntap_ring/%s", name);
	file = fopen(path, "r");
	if (!file)
		fail("%s: %s", path, strerror(errno));
	length = fread(text, 1, sizeof(text) - 1, file);
	text[length] = 0;
	fclose(file);
	return text;
}

/* Reads the counts in `batches`; each line must begin with its power of two. */
static void read_batches(uint64_t counts[BATCHES])
{
	char *text = strdup(debugfs("batches")), *rest = text, *line;
	unsigned long long least, count;
	int i = 0;

	while ((line = strsep(&rest, "\n")) && *line) {
		if (i == BATCHES || sscanf(line, "%llu %llu", &least, &count) != 2 ||
		    least != 1ULL << i)
			fail("line %d of batches: %s", i, line);
		counts[i++] = count;
	}
	if (i != BATCHES)
		fail("%d lines in batches", i);
	free(text);
}

FIXTURE(outside)
{
	struct end a;
	struct end b;
	struct sender sender;
};

FIXTURE_SETUP(outside)
{
	enter_namespaces();
	if (mount("tracefs", TRACING, "tracefs", 0, NULL))
		fail(TRACING ": %s", strerror(errno));
	/* A failed test leaves its instance. */
	rmdir(INSTANCE);
	if (mkdir(INSTANCE, 0700))
		fail(INSTANCE ": %s", strerror(errno));
	self->a.kind = TUNTAP_RING_TEST_TUN;
	self->b.kind = TUNTAP_RING_TEST_TUN;
	self->a.fd = tun_create(DEVICE, FLAGS, SIZE);
	self->b.fd = tun_open();
	tun_attach(self->b.fd, DEVICE, FLAGS);
	tun_steer_by_mark(self->a.fd);
	sender_open(&self->sender, DEVICE);
	write_to(INSTANCE "/events/tuntap_ring/enable", "1");
}

FIXTURE_TEARDOWN(outside)
{
	sender_close(&self->sender);
	close(self->a.fd);
	close(self->b.fd);
	write_to(INSTANCE "/events/tuntap_ring/enable", "0");
	EXPECT_EQ(0, rmdir(INSTANCE));
}

static void send_to(struct sender *sender, unsigned int queue, unsigned int count)
{
	sender_set_mark(sender, queue);
	send_frames(sender, 0, count);
}

TEST_F(outside, each_call_is_traced)
{
	send_to(&self->sender, 0, 20);
	ASSERT_EQ(16, consume(self->a, 16, NULL, 0));
	EXPECT_STREQ("consume_batched: device=t0 queue=0 asked=16 taken=16 freed=16\n", events());
	ASSERT_EQ(4, consume(self->a, 7, NULL, 0));
	ASSERT_EQ(0, consume(self->a, 64, NULL, 0));
	EXPECT_STREQ("consume_batched: device=t0 queue=0 asked=7 taken=4 freed=0\n"
		     "consume_batched: device=t0 queue=0 asked=64 taken=0 freed=0\n", events());
}

TEST_F(outside, trace_names_the_queue)
{
	send_to(&self->sender, 1, 3);
	ASSERT_EQ(0, consume(self->a, 1, NULL, 0));
	ASSERT_EQ(3, consume(self->b, 4, NULL, 0));
	EXPECT_STREQ("consume_batched: device=t0 queue=0 asked=1 taken=0 freed=0\n"
		     "consume_batched: device=t0 queue=1 asked=4 taken=3 freed=0\n", events());
}

/* Events have the current name. */
TEST_F(outside, trace_names_a_renamed_device)
{
	run("ip link set " DEVICE " down");
	run("ip link set " DEVICE " name a-longer-name");
	ASSERT_EQ(0, consume(self->a, 1, NULL, 0));
	EXPECT_STREQ("consume_batched: device=a-longer-name queue=0 asked=1 taken=0 freed=0\n",
		     events());
}

TEST_F(outside, trace_of_a_file_without_a_device_has_queue_minus_1)
{
	struct end end = { .kind = TUNTAP_RING_TEST_TUN, .fd = tun_open() };

	ASSERT_EQ(0, consume(end, 5, NULL, 0));
	EXPECT_STREQ("consume_batched: device= queue=-1 asked=5 taken=0 freed=0\n", events());
	close(end.fd);
}

/* Takes half of the ring at a time, then the rest. */
TEST_F(outside, each_wake_is_traced)
{
	send_to(&self->sender, 1, SIZE);
	ASSERT_TRUE(WAIT_UNTIL(is_stopped(DEVICE, 1)));
	ASSERT_EQ(16, consume(self->b, 16, NULL, 0));
	EXPECT_STREQ("consume_batched: device=t0 queue=1 asked=16 taken=16 freed=16\n", events());
	ASSERT_EQ(20, consume(self->b, 20, NULL, 0));
	EXPECT_FALSE(is_stopped(DEVICE, 1));
	EXPECT_STREQ("wake: device=t0 queue=1 consumed=32 fill=28\n"
		     "consume_batched: device=t0 queue=1 asked=20 taken=20 freed=16\n", events());
	ASSERT_EQ(28, consume(self->b, SIZE, NULL, 0));
	events();

	/* Empty after one call, with the head where the array starts again. */
	send_to(&self->sender, 1, SIZE);
	ASSERT_TRUE(WAIT_UNTIL(is_stopped(DEVICE, 1)));
	ASSERT_EQ(SIZE, consume(self->b, SIZE, NULL, 0));
	EXPECT_STREQ("wake: device=t0 queue=1 consumed=64 fill=0\n"
		     "consume_batched: device=t0 queue=1 asked=64 taken=64 freed=64\n", events());
}

/* The producer's index is below that of the head. */
TEST_F(outside, traced_fill_is_correct_across_the_array_end)
{
	send_to(&self->sender, 0, 48);
	ASSERT_EQ(48, consume(self->a, 48, NULL, 0));
	send_to(&self->sender, 0, SIZE);
	ASSERT_TRUE(WAIT_UNTIL(is_stopped(DEVICE, 0)));
	events();
	ASSERT_EQ(33, consume(self->a, 33, NULL, 0));
	EXPECT_STREQ("wake: device=t0 queue=0 consumed=32 fill=31\n"
		     "consume_batched: device=t0 queue=0 asked=33 taken=33 freed=32\n", events());
}

/* Without a device: calls for a tap file do not read it. */
TEST_F(outside, calls_for_a_tap_file_are_traced)
{
	struct end end = { .kind = TUNTAP_RING_TEST_TAP };

	run("ip link add v0 type veth peer name v1");
	run("ip link add link v0 name m0 type macvtap mode bridge");
	end.fd = tap_open("m0");
	ASSERT_EQ(0, consume(end, 8, NULL, 0));
	EXPECT_STREQ("consume_batched: device= queue=-1 asked=8 taken=0 freed=0\n", events());
	close(end.fd);
}

TEST_F(outside, disabled_events_are_not_traced)
{
	write_to(INSTANCE "/events/tuntap_ring/enable", "0");
	send_to(&self->sender, 0, SIZE);
	ASSERT_TRUE(WAIT_UNTIL(is_stopped(DEVICE, 0)));
	ASSERT_EQ(SIZE, consume(self->a, SIZE, NULL, 0));
	EXPECT_STREQ("", events());
	write_to(INSTANCE "/events/tuntap_ring/wake/enable", "1");
	send_to(&self->sender, 0, SIZE);
	ASSERT_TRUE(WAIT_UNTIL(is_stopped(DEVICE, 0)));
	ASSERT_EQ(SIZE, consume(self->a, SIZE, NULL, 0));
	EXPECT_STREQ("wake: device=t0 queue=0 consumed=64 fill=0\n", events());
}

/* Each call that takes entries is in one batch, by the highest power of two in their number. */
TEST_F(outside, batches_counts_calls_by_power_of_two)
{
	static const int sizes[] = { 0, 1, 2, 3, 4, 7, 8, 15, 16, 63, 64, 128, 255, 256, 700 };
	static const uint64_t expected[BATCHES] = { 1, 2, 2, 2, 1, 1, 1, 2, 2 };
	uint64_t before[BATCHES], after[BATCHES], calls = counter("calls");

	/* The ring has room for all frames, including consumed entries that are not freed yet. */
	set_txqueuelen(DEVICE, 1000);
	read_batches(before);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		send_to(&self->sender, 0, sizes[i]);
		ASSERT_EQ(sizes[i], consume(self->a, 1000, NULL, 0));
	}
	read_batches(after);
	for (int i = 0; i < BATCHES; i++) {
		EXPECT_EQ(before[i] + expected[i], after[i]) {
			TH_LOG("line %d", i);
		}
	}
	/* The first call took nothing, and is not counted. */
	EXPECT_EQ(calls + ARRAY_SIZE(sizes) - 1, counter("calls"));
}

TEST_F(outside, stopped_lists_queues_that_the_driver_stopped)
{
	EXPECT_STREQ("\n", debugfs("stopped"));
	send_to(&self->sender, 1, SIZE);
	ASSERT_TRUE(WAIT_UNTIL(is_stopped(DEVICE, 1)));
	EXPECT_STREQ("t0 1\n", debugfs("stopped"));
	send_to(&self->sender, 0, SIZE);
	ASSERT_TRUE(WAIT_UNTIL(is_stopped(DEVICE, 0)));
	EXPECT_STREQ("t0 0\nt0 1\n", debugfs("stopped"));
	ASSERT_EQ(SIZE, consume(self->b, SIZE, NULL, 0));
	EXPECT_STREQ("t0 0\n", debugfs("stopped"));
	/* Taking the link down also stops the queue, but that stop is not listed. */
	set_up(DEVICE, false);
	EXPECT_STREQ("\n", debugfs("stopped"));
}

TEST_HARNESS_MAIN
