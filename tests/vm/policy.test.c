// SPDX-License-Identifier: GPL-2.0
/*
 * The parameter backpressure=: which devices have the flag, whoever opens them.
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

#define PARAMETER	"/sys/module/tuntap_ring/parameters/backpressure"
#define SIZE		16

/* Returns 0, or the error of the write. */
static int set_patterns(const char *text)
{
	int fd = open(PARAMETER, O_WRONLY | O_CLOEXEC), err = 0;

	if (fd < 0)
		fail("%s: %s", PARAMETER, strerror(errno));
	if (write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		err = errno;
	close(fd);
	return err;
}

static const char *patterns(void)
{
	static char text[4097];
	int fd = open(PARAMETER, O_RDONLY | O_CLOEXEC);
	ssize_t length = read(fd, text, sizeof(text) - 1);

	if (fd < 0 || length < 0)
		fail("%s: %s", PARAMETER, strerror(errno));
	close(fd);
	text[length] = '\0';
	return text;
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

TEST_F(policy, devices_that_are_there_have_the_flag_while_they_match)
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

TEST_F(policy, later_devices_have_the_flag)
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

/* In a process of its own, as the namespace of a thread is also that of its files in /sys. */
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

/* As QEMU's ifname=: the flags of a device are those of the last opener. */
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

	/* One that is down gets the flag when it comes up. */
	set_up("pa0", false);
	fd = create("pa0", variant->flags);
	set_up("pa0", true);
	EXPECT_TRUE(has_flag("pa0"));
	ASSERT_EQ(0, ioctl(fd, TUNSETPERSIST, 0));
	close(fd);
}

TEST_F(policy, device_that_is_made_again_has_the_flag)
{
	ASSERT_EQ(0, set_patterns("pa*"));
	for (int i = 0; i < 3; i++) {
		int fd = create("pa0", variant->flags);

		EXPECT_TRUE(has_flag("pa0"));
		close(fd);
	}
}

/* As systemd-networkd keeps a carrier: its detached queue stays, without the flag. */
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

/* Each queue is full, and stopped; without the flag they are woken, and drop again. */
static void clear_stopped(struct __test_metadata *_metadata, unsigned int queues)
{
	struct sender sender;
	unsigned int i;

	ASSERT_EQ(0, set_patterns("pa*"));
	tun_steer_by_mark(tun_create("pa0", IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE, SIZE));
	for (i = 1; i < queues; i++)
		create("pa0", IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE);
	/* Rings of files that came later have the size by now. */
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

/* A stop by taking the link down is not undone. */
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

TEST_HARNESS_MAIN
