// SPDX-License-Identifier: GPL-2.0
/*
 * Tests the parameters backpressure=, stall_timeout= and autosize=: which devices have the flag,
 * with any opener, and how long their rings are.
 *
 *  +-- network namespace --+      +---- another -----+
 *  |  pa0, pa1, ...  match |      |                  |
 *  |  pb0            not   | ---> |  a device moves  |
 *  +-----------------------+      +------------------+
 */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include "kselftest_harness.h"
#include "util.h"

#define SIZE	16

static int open_parameter(const char *name, int flags)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/sys/module/tuntap_ring/parameters/%s", name);
	fd = open(path, flags | O_CLOEXEC);
	if (fd < 0)
		fail("%s: %s", path, strerror(errno));
	return fd;
}

/* Returns 0, or the errno of the write. */
static int set_parameter(const char *name, const char *text)
{
	int fd = open_parameter(name, O_WRONLY), err = 0;

	if (write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		err = errno;
	close(fd);
	return err;
}

static const char *parameter(const char *name)
{
	static char text[4097];
	int fd = open_parameter(name, O_RDONLY);
	ssize_t length = read(fd, text, sizeof(text) - 1);

	if (length < 0)
		fail("%s: %s", name, strerror(errno));
	close(fd);
	text[length] = '\0';
	return text;
}

static int set_patterns(const char *text)
{
	return set_parameter("backpressure", text);
}

static const char *patterns(void)
{
	return parameter("backpressure");
}

static int set_stall_timeout(const char *ms)
{
	return set_parameter("stall_timeout", ms);
}

static bool has_flag(const char *device)
{
	char path[64];
	unsigned int flags;
	FILE *file;

	snprintf(path, sizeof(path), "/sys/class/net/%s/tun_flags", device);
	file = fopen(path, "r");
	if (!file || fscanf(file, "%x", &flags) != 1)
		fail("%s: no flags", path);
	fclose(file);
	return flags & IFF_BACKPRESSURE;
}

static int create(const char *device, int flags)
{
	int fd = tun_open();

	tun_attach(fd, device, flags);
	return fd;
}

FIXTURE(policy)
{
};

FIXTURE_VARIANT(policy)
{
	int flags;
};

FIXTURE_VARIANT_ADD(policy, tap)
{
	.flags = IFF_TAP | IFF_NO_PI,
};

FIXTURE_VARIANT_ADD(policy, tun)
{
	.flags = IFF_TUN | IFF_NO_PI,
};

FIXTURE_SETUP(policy)
{
	enter_namespaces();
	ASSERT_EQ(0, set_patterns("\n"));
}

FIXTURE_TEARDOWN(policy)
{
	EXPECT_EQ(0, set_patterns("\n"));
}

TEST_F(policy, existing_devices_have_the_flag_while_they_match)
{
	create("pa0", variant->flags);
	create("pa1", variant->flags);
	create("pb0", variant->flags);
	ASSERT_EQ(0, set_patterns("pa*\n"));
	EXPECT_TRUE(has_flag("pa0"));
	EXPECT_TRUE(has_flag("pa1"));
	EXPECT_FALSE(has_flag("pb0"));
	ASSERT_EQ(0, set_patterns("x,pb[0-9],pa?1,pa1\n"));
	EXPECT_FALSE(has_flag("pa0"));
	EXPECT_TRUE(has_flag("pa1"));
	EXPECT_TRUE(has_flag("pb0"));
	ASSERT_EQ(0, set_patterns("\n"));
	EXPECT_FALSE(has_flag("pa1"));
	EXPECT_FALSE(has_flag("pb0"));
}

TEST_F(policy, new_devices_have_the_flag)
{
	ASSERT_EQ(0, set_patterns("pa*"));
	create("pa0", variant->flags);
	create("pb0", variant->flags);
	EXPECT_TRUE(has_flag("pa0"));
	EXPECT_FALSE(has_flag("pb0"));
}

TEST_F(policy, renamed_device_has_the_flag_while_it_matches)
{
	ASSERT_EQ(0, set_patterns("pa*"));
	create("pb0", variant->flags);
	run("ip link set pb0 name pa0");
	EXPECT_TRUE(has_flag("pa0"));
	run("ip link set pa0 name pb0");
	EXPECT_FALSE(has_flag("pb0"));
}

/* Runs in a separate process: the network namespace also selects the files in /sys. */
TEST_F(policy, moved_device_has_the_flag_while_it_matches)
{
	int fd = create("pa0", variant->flags), status;
	pid_t pid;

	ASSERT_EQ(0, set_patterns("pa*"));
	pid = fork();
	if (!pid) {
		enter_namespaces();
		run("ip link set lo up");
		kill(getpid(), SIGSTOP);
		if (!has_flag("pa0"))
			fail("no flag after the move");
		if (set_patterns("\n") || has_flag("pa0"))
			fail("still the flag, without a pattern");
		if (set_patterns("pa*") || !has_flag("pa0"))
			fail("no flag, with a pattern again");
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, WUNTRACED));
	ASSERT_TRUE(WIFSTOPPED(status));
	run("ip link set pa0 netns %d", pid);
	kill(pid, SIGCONT);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	close(fd);
}

/* QEMU's ifname= does this: a device has the flags of its last opener. */
TEST_F(policy, opener_without_the_flag_does_not_take_it_away)
{
	int fd = create("pa0", variant->flags);

	ASSERT_EQ(0, ioctl(fd, TUNSETPERSIST, 1));
	close(fd);
	ASSERT_EQ(0, set_patterns("pa*"));
	set_up("pa0", true);
	fd = create("pa0", variant->flags);
	EXPECT_TRUE(has_flag("pa0"));
	close(fd);

	/* A device that is down gets the flag when it comes up. */
	set_up("pa0", false);
	fd = create("pa0", variant->flags);
	set_up("pa0", true);
	EXPECT_TRUE(has_flag("pa0"));
	ASSERT_EQ(0, ioctl(fd, TUNSETPERSIST, 0));
	close(fd);
}

TEST_F(policy, recreated_device_has_the_flag)
{
	ASSERT_EQ(0, set_patterns("pa*"));
	for (int i = 0; i < 3; i++) {
		int fd = create("pa0", variant->flags);

		EXPECT_TRUE(has_flag("pa0"));
		close(fd);
	}
}

/* systemd-networkd keeps the carrier this way: its detached queue stays, without the flag. */
TEST_F(policy, device_that_a_detached_queue_holds_has_the_flag)
{
	int holder = create("pa0", variant->flags | IFF_MULTI_QUEUE), fd;

	tun_set_queue(holder, false);
	ASSERT_EQ(0, set_patterns("pa*"));
	EXPECT_TRUE(has_flag("pa0"));
	for (int i = 0; i < 3; i++) {
		fd = create("pa0", variant->flags | IFF_MULTI_QUEUE);
		set_up("pa0", true);
		EXPECT_TRUE(has_flag("pa0"));
		close(fd);
		EXPECT_TRUE(has_flag("pa0"));
	}
	ASSERT_EQ(0, set_patterns("\n"));
	EXPECT_FALSE(has_flag("pa0"));
	close(holder);
}

TEST_F(policy, flag_of_the_opener_stays)
{
	create("pa0", variant->flags | IFF_BACKPRESSURE);
	ASSERT_EQ(0, set_patterns("pa*"));
	EXPECT_TRUE(has_flag("pa0"));
	ASSERT_EQ(0, set_patterns("\n"));
	EXPECT_TRUE(has_flag("pa0"));
}

TEST_F(policy, bad_pattern_is_rejected_and_the_old_ones_stay)
{
	static const char *const bad[] = {
		",", "a,", ",a", "a,,b", "a b", "a\tb", "a/b", "a,b\nc",
	};

	create("pa0", variant->flags);
	ASSERT_EQ(0, set_patterns(" pa*,pc0 "));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		EXPECT_EQ(EINVAL, set_patterns(bad[i]))
			TH_LOG("'%s'", bad[i]);
	}
	EXPECT_STREQ("pa*,pc0\n", patterns());
	EXPECT_TRUE(has_flag("pa0"));
	ASSERT_EQ(0, set_patterns("\n"));
	EXPECT_STREQ("\n", patterns());
}

/* All queues are full and stopped; when the flag is cleared they are woken, and drop again. */
static void clear_stopped(struct __test_metadata *_metadata, unsigned int queues)
{
	struct sender sender;
	unsigned int i;

	/* No queue is released, even on a slow machine. */
	ASSERT_EQ(0, set_stall_timeout("0"));
	ASSERT_EQ(0, set_patterns("pa*"));
	tun_steer_by_mark(tun_create("pa0", IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE, SIZE));
	for (i = 1; i < queues; i++)
		create("pa0", IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE);
	/* By now rings of files opened later have this size, too. */
	run("tc qdisc replace dev pa0 root handle 1: mq");
	sender_open(&sender, "pa0");
	for (i = 0; i < queues; i++) {
		sender_set_mark(&sender, i);
		send_frames(&sender, 0, SIZE);
		ASSERT_TRUE(is_stopped("pa0", i))
			TH_LOG("queue %u", i);
	}
	ASSERT_EQ(0, statistic("pa0", "tx_dropped"));
	ASSERT_EQ(0, set_patterns("\n"));
	for (i = 0; i < queues; i++) {
		ASSERT_FALSE(is_stopped("pa0", i))
			TH_LOG("queue %u", i);
		sender_set_mark(&sender, i);
		send_frames(&sender, 0, 2);
		ASSERT_FALSE(is_stopped("pa0", i))
			TH_LOG("queue %u", i);
	}
	EXPECT_TRUE(WAIT_UNTIL(statistic("pa0", "tx_dropped") == 2 * queues));
	sender_close(&sender);
	ASSERT_EQ(0, set_stall_timeout("500"));
}

TEST(stopped_queues_are_woken_with_the_flag_cleared)
{
	enter_namespaces();
	clear_stopped(_metadata, 4);
}

TEST(all_of_256_stopped_queues_are_woken_with_the_flag_cleared)
{
	enter_namespaces();
	clear_stopped(_metadata, 256);
}

/* A stop by taking the link down must not be undone. */
TEST(device_that_is_down_is_not_woken_with_the_flag_cleared)
{
	enter_namespaces();
	ASSERT_EQ(0, set_patterns("pa*"));
	tun_create("pa0", IFF_TAP | IFF_NO_PI, SIZE);
	set_up("pa0", false);
	ASSERT_TRUE(is_stopped("pa0", 0));
	ASSERT_EQ(0, set_patterns("\n"));
	EXPECT_TRUE(is_stopped("pa0", 0));
}

TEST(thousand_devices_follow_the_patterns)
{
	struct rlimit files = { .rlim_cur = 2048, .rlim_max = 4096 };
	int devices = getenv("QUICK") ? 100 : 1000 / thinned();
	char name[IFNAMSIZ];
	int i;

	enter_namespaces();
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &files));
	ASSERT_EQ(0, set_patterns("pa*"));
	for (i = 0; i < devices; i++) {
		snprintf(name, sizeof(name), "p%c%d", i % 2 ? 'a' : 'b', i);
		create(name, IFF_TAP | IFF_NO_PI);
		ASSERT_EQ(i % 2, has_flag(name));
	}
	ASSERT_EQ(0, set_patterns("pb*"));
	for (i = 0; i < devices; i++) {
		snprintf(name, sizeof(name), "p%c%d", i % 2 ? 'a' : 'b', i);
		ASSERT_EQ(!(i % 2), has_flag(name));
	}
	ASSERT_EQ(0, set_patterns("\n"));
	for (i = 0; i < devices; i++) {
		snprintf(name, sizeof(name), "p%c%d", i % 2 ? 'a' : 'b', i);
		ASSERT_FALSE(has_flag(name));
	}
}

/* A device whose consumer does not read loses the flag that the pattern has set. */
FIXTURE(stalled)
{
	struct sender sender;
	uint64_t released;
	int fd;
};

FIXTURE_SETUP(stalled)
{
	enter_namespaces();
	ASSERT_EQ(0, set_patterns("pa*"));
	ASSERT_EQ(0, set_stall_timeout("20"));
	self->released = counter("released");
	self->fd = tun_create("pa0", IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE, SIZE);
	sender_open(&self->sender, "pa0");
	send_frames(&self->sender, 0, SIZE);
	ASSERT_TRUE(WAIT_UNTIL(!has_flag("pa0")));
}

FIXTURE_TEARDOWN(stalled)
{
	EXPECT_EQ(0, set_patterns("\n"));
	EXPECT_EQ(0, set_stall_timeout("500"));
	EXPECT_EQ(0, set_parameter("autosize", "Y"));
	sender_close(&self->sender);
}

static void take(int fd, int n)
{
	struct end end = { .fd = fd, .kind = TUNTAP_RING_TEST_TUN };

	if (consume(end, n, NULL, 0) != n)
		fail("%d entries did not come", n);
}

/* Waits for several scans. */
static void wait_for_scans(void)
{
	usleep(100000);
}

TEST_F(stalled, device_drops_until_its_ring_is_empty)
{
	EXPECT_EQ(self->released + 1, counter("released"));
	EXPECT_FALSE(is_stopped("pa0", 0));
	send_frames(&self->sender, SIZE, 2);
	EXPECT_TRUE(WAIT_UNTIL(statistic("pa0", "tx_dropped") == 2));
	EXPECT_FALSE(is_stopped("pa0", 0));
	take(self->fd, SIZE - 1);
	wait_for_scans();
	EXPECT_FALSE(has_flag("pa0"));
	take(self->fd, 1);
	EXPECT_TRUE(WAIT_UNTIL(has_flag("pa0")));
	/* The device is not released again, even on a slow machine. */
	EXPECT_EQ(0, set_stall_timeout("3600000"));
	send_frames(&self->sender, 2 * SIZE, SIZE);
	EXPECT_TRUE(is_stopped("pa0", 0));
	EXPECT_EQ(2, statistic("pa0", "tx_dropped"));
}

TEST_F(stalled, device_has_the_flag_again_after_a_ring_full_of_entries)
{
	int i;

	for (i = 0; i < SIZE; i++) {
		EXPECT_FALSE(has_flag("pa0"));
		take(self->fd, 1);
		/* The ring is never empty. */
		send_frames(&self->sender, 2 * SIZE + i, 1);
		/* A scan sees each entry. */
		wait_for_scans();
	}
	EXPECT_TRUE(WAIT_UNTIL(has_flag("pa0")));
}

TEST_F(stalled, device_stays_without_the_flag_after_events)
{
	set_up("pa0", false);
	set_up("pa0", true);
	EXPECT_FALSE(has_flag("pa0"));
	run("ip link set pa0 name pa1");
	EXPECT_FALSE(has_flag("pa1"));
	EXPECT_EQ(0, set_patterns("pa*,pb*"));
	EXPECT_FALSE(has_flag("pa1"));
	create("pa1", IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE);
	EXPECT_FALSE(has_flag("pa1"));
}

TEST_F(stalled, opener_that_sets_the_flag_keeps_it)
{
	ASSERT_EQ(0, ioctl(self->fd, TUNSETPERSIST, 1));
	/*
	 * A scan would set the flag of a device without a consumer again. Each of these two writes
	 * starts a scan; afterwards there is none.
	 */
	EXPECT_EQ(0, set_parameter("autosize", "N"));
	EXPECT_EQ(0, set_stall_timeout("3600000"));
	sleep(1);
	close(self->fd);
	create("pa0", IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE | IFF_BACKPRESSURE);
	EXPECT_TRUE(has_flag("pa0"));
	EXPECT_EQ(0, set_patterns("\n"));
	EXPECT_TRUE(has_flag("pa0"));
}

TEST_F(stalled, device_that_no_longer_matches_does_not_have_the_flag_again)
{
	EXPECT_EQ(0, set_patterns("\n"));
	take(self->fd, SIZE);
	wait_for_scans();
	EXPECT_FALSE(has_flag("pa0"));
}

TEST_F(stalled, device_has_the_flag_again_without_a_time_out)
{
	EXPECT_EQ(0, set_stall_timeout("0"));
	EXPECT_TRUE(WAIT_UNTIL(has_flag("pa0")));
}

TEST_F(stalled, deleted_device_is_forgotten)
{
	close(self->fd);
	wait_for_scans();
	EXPECT_EQ(0, set_patterns("pb*"));
	create("pa0", IFF_TAP | IFF_NO_PI);
	EXPECT_FALSE(has_flag("pa0"));
}

#define LONG	500
#define SHORT	64

/* A device whose consumer empties the ring once the queue is stopped, so it needs few slots. */
FIXTURE(sized)
{
	struct sender sender;
	uint64_t sent;
	uint64_t taken;
	int fd;
};

FIXTURE_SETUP(sized)
{
	enter_namespaces();
	ASSERT_EQ(0, set_patterns("pa*"));
	ASSERT_EQ(0, set_stall_timeout("0"));
	self->fd = tun_create("pa0", IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE, LONG);
	/* The default qdisc may drop waiting packets. */
	run("tc qdisc replace dev pa0 root pfifo limit 1000");
	sender_open(&self->sender, "pa0");
}

FIXTURE_TEARDOWN(sized)
{
	EXPECT_EQ(0, set_patterns("\n"));
	EXPECT_EQ(0, set_stall_timeout("500"));
	EXPECT_EQ(0, set_parameter("autosize", "Y"));
	sender_close(&self->sender);
}

static struct tuntap_ring_test_ring ring(int fd)
{
	struct end end = { .fd = fd, .kind = TUNTAP_RING_TEST_TUN };

	return read_ring(end);
}

static unsigned int slots(int fd)
{
	return ring(fd).size;
}

static void fill(struct _test_data_sized *self)
{
	while (!is_stopped("pa0", 0))
		send_frames(&self->sender, self->sent++, 1);
}

/* Takes all frames, and checks their order. */
static void empty(struct _test_data_sized *self)
{
	struct end end = { .fd = self->fd, .kind = TUNTAP_RING_TEST_TUN };
	struct tuntap_ring_test_entry entries[64];
	int n;

	while (self->taken < self->sent) {
		n = consume(end, 64, entries, 64);
		if (n <= 0)
			fail("frame %lu does not come: %d", self->taken, n);
		if (!are_frames(entries, n, self->taken))
			fail("frames from %lu on are not in order", self->taken);
		self->taken += n;
	}
}

/* Keeps sender and consumer busy for several scans. */
static void keep_busy(struct _test_data_sized *self)
{
	for (int i = 0; i < 100; i++) {
		fill(self);
		empty(self);
		usleep(5000);
	}
}

static bool is_shortened(struct _test_data_sized *self)
{
	for (int i = 0; i < 20000 && slots(self->fd) != SHORT; i++) {
		fill(self);
		empty(self);
	}
	return slots(self->fd) == SHORT;
}

TEST_F(sized, ring_has_no_more_slots_than_needed_while_the_device_matches)
{
	uint64_t resized = counter("resized");

	ASSERT_TRUE(is_shortened(self));
	EXPECT_LT(resized, counter("resized"));
	EXPECT_EQ(0, set_patterns("\n"));
	EXPECT_EQ(LONG, slots(self->fd));
	EXPECT_EQ(0, statistic("pa0", "tx_dropped"));
}

TEST_F(sized, entries_stay_when_the_ring_gets_its_size_back)
{
	ASSERT_TRUE(is_shortened(self));
	fill(self);
	/* The ring is full, except for consumed slots of a batch that is not freed yet. */
	EXPECT_GT(self->sent - self->taken + ring(self->fd).batch, slots(self->fd));
	EXPECT_EQ(0, set_patterns("\n"));
	EXPECT_EQ(LONG, slots(self->fd));
	EXPECT_FALSE(is_stopped("pa0", 0));
	send_frames(&self->sender, self->sent++, 1);
	empty(self);
	EXPECT_EQ(0, statistic("pa0", "tx_dropped"));
}

TEST_F(sized, ring_gets_its_size_back_without_autosize)
{
	ASSERT_TRUE(is_shortened(self));
	EXPECT_EQ(0, set_parameter("autosize", "N"));
	EXPECT_STREQ("N\n", parameter("autosize"));
	EXPECT_EQ(LONG, slots(self->fd));
	keep_busy(self);
	EXPECT_EQ(LONG, slots(self->fd));
	EXPECT_EQ(0, set_parameter("autosize", "Y"));
	EXPECT_TRUE(is_shortened(self));
	EXPECT_EQ(EINVAL, set_parameter("autosize", "x"));
}

TEST_F(sized, txqueuelen_takes_effect_at_once)
{
	ASSERT_TRUE(is_shortened(self));
	set_txqueuelen("pa0", 300);
	EXPECT_EQ(300, slots(self->fd));
	EXPECT_TRUE(is_shortened(self));
	set_txqueuelen("pa0", 20);
	EXPECT_EQ(20, slots(self->fd));
	keep_busy(self);
	EXPECT_EQ(20, slots(self->fd));
	EXPECT_EQ(0, statistic("pa0", "tx_dropped"));
}

TEST_F(sized, detached_ring_gets_its_size_back)
{
	ASSERT_TRUE(is_shortened(self));
	tun_set_queue(self->fd, false);
	EXPECT_GT(LONG, slots(self->fd));
	EXPECT_EQ(0, set_patterns("\n"));
	EXPECT_EQ(LONG, slots(self->fd));
	tun_set_queue(self->fd, true);
	EXPECT_EQ(LONG, slots(self->fd));
}

/* Only calls of tuntap_ring show how many slots a consumer needs; read() does not. */
TEST_F(sized, ring_without_calls_of_tuntap_ring_gets_its_size_back)
{
	ASSERT_TRUE(is_shortened(self));
	EXPECT_TRUE(WAIT_UNTIL(slots(self->fd) == LONG));
}

TEST(device_of_an_opener_with_the_flag_is_not_resized)
{
	FIXTURE_DATA(sized) self = {};

	enter_namespaces();
	ASSERT_EQ(0, set_patterns("pb*"));
	self.fd = tun_create("pa0", IFF_TAP | IFF_NO_PI | IFF_BACKPRESSURE, LONG);
	sender_open(&self.sender, "pa0");
	keep_busy(&self);
	EXPECT_EQ(LONG, slots(self.fd));
	sender_close(&self.sender);
	ASSERT_EQ(0, set_patterns("\n"));
}

/* tuntap_ring does not change a device whose opener has set the flag. */
TEST(device_of_an_opener_with_the_flag_is_not_released)
{
	struct sender sender;

	enter_namespaces();
	ASSERT_EQ(0, set_patterns("pa*"));
	ASSERT_EQ(0, set_stall_timeout("20"));
	tun_create("pb0", IFF_TAP | IFF_NO_PI | IFF_BACKPRESSURE, SIZE);
	sender_open(&sender, "pb0");
	send_frames(&sender, 0, SIZE);
	wait_for_scans();
	EXPECT_TRUE(has_flag("pb0"));
	EXPECT_TRUE(is_stopped("pb0", 0));
	sender_close(&sender);
	ASSERT_EQ(0, set_patterns("\n"));
	ASSERT_EQ(0, set_stall_timeout("500"));
}

TEST(bad_stall_timeout_is_rejected_and_the_old_one_stays)
{
	static const char *const bad[] = { "3600001", "-1", "x", "1.5", "\n" };

	ASSERT_EQ(0, set_stall_timeout("3600000\n"));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		EXPECT_EQ(EINVAL, set_stall_timeout(bad[i]))
			TH_LOG("'%s'", bad[i]);
	}
	EXPECT_STREQ("3600000\n", parameter("stall_timeout"));
	ASSERT_EQ(0, set_stall_timeout("500"));
	EXPECT_STREQ("500\n", parameter("stall_timeout"));
}

TEST_HARNESS_MAIN
