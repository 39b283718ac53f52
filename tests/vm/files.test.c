// SPDX-License-Identifier: GPL-2.0
/*
 * Tests that the exports reject other files, with the errors that
 * include/linux/tuntap_ring.h documents.
 *
 *  +------------ network namespace ------------+
 *  |                                            |
 *  |  t0 (tap)     m0 (macvtap) on v0 == v1     |
 *  |   |            |                           |
 *  |  tun file     tap file     pipe, NULL, ... |
 *  +------------------------------------------- +
 */

#include <fcntl.h>
#include <limits.h>
#include "kselftest_harness.h"
#include "util.h"

FIXTURE(files)
{
	int tun;
	int tap;
	int pipe[2];
};

FIXTURE_SETUP(files)
{
	enter_namespaces();
	self->tun = tun_create("t0", IFF_TAP | IFF_NO_PI, 10);
	run("ip link add v0 type veth peer name v1");
	run("ip link add link v0 name m0 type macvtap mode bridge");
	self->tap = tap_open("m0");
	ASSERT_EQ(0, pipe(self->pipe));
}

FIXTURE_TEARDOWN(files)
{
	close(self->pipe[0]);
	close(self->pipe[1]);
	close(self->tap);
	close(self->tun);
}

/* The same error for every n: vhost_net calls with 0 to identify a file. */
static const int most[] = { 0, 1, 64, -1, INT_MIN, INT_MAX };

#define EXPECT_RESULT(result, file, driver)				\
do {									\
	struct end __end = {						\
		.fd = (file),						\
		.kind = TUNTAP_RING_TEST_##driver,			\
	};								\
									\
	for (int __i = 0; __i < ARRAY_SIZE(most); __i++)		\
		EXPECT_EQ(result, consume(__end, most[__i], NULL, 0));	\
} while (0)

TEST_F(files, null_is_ebadf)
{
	EXPECT_RESULT(-EBADF, -1, TUN);
	EXPECT_RESULT(-EBADF, -1, TAP);
}

TEST_F(files, pipe_is_einval)
{
	EXPECT_RESULT(-EINVAL, self->pipe[0], TUN);
	EXPECT_RESULT(-EINVAL, self->pipe[0], TAP);
}

TEST_F(files, socket_is_einval)
{
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	ASSERT_LE(0, fd);
	EXPECT_RESULT(-EINVAL, fd, TUN);
	EXPECT_RESULT(-EINVAL, fd, TAP);
	close(fd);
}

/* A file of the same driver core, with other operations. */
TEST_F(files, misc_device_is_einval)
{
	EXPECT_RESULT(-EINVAL, test_device(), TUN);
	EXPECT_RESULT(-EINVAL, test_device(), TAP);
}

TEST_F(files, file_of_the_other_driver_is_einval)
{
	EXPECT_RESULT(-EINVAL, self->tap, TUN);
	EXPECT_RESULT(-EINVAL, self->tun, TAP);
	EXPECT_RESULT(0, self->tun, TUN);
	EXPECT_RESULT(0, self->tap, TAP);
}

TEST_F(files, tun_file_without_a_device_returns_0)
{
	int fd = tun_open();

	EXPECT_RESULT(0, fd, TUN);
	EXPECT_RESULT(-EINVAL, fd, TAP);
	close(fd);
}

TEST_F(files, rejected_calls_for_entries_are_counted)
{
	struct end end = { .fd = self->pipe[0] };
	uint64_t calls = counter("calls"), rejected = counter("rejected");

	for (int i = 0; i < 5; i++)
		ASSERT_EQ(-EINVAL, consume(end, 64, NULL, 0));
	end.fd = -1;
	ASSERT_EQ(-EBADF, consume(end, 1, NULL, 0));
	EXPECT_EQ(rejected + 6, counter("rejected"));
	EXPECT_EQ(calls, counter("calls"));
}

/* vhost_net makes such calls for each backend. */
TEST_F(files, rejected_calls_for_no_entries_are_not_counted)
{
	const int fds[] = { self->pipe[0], self->tun, self->tap, -1 };
	uint64_t rejected = counter("rejected");

	for (int i = 0; i < ARRAY_SIZE(fds); i++) {
		struct end end = { .fd = fds[i], .kind = TUNTAP_RING_TEST_TUN };

		consume(end, 0, NULL, 0);
		end.kind = TUNTAP_RING_TEST_TAP;
		consume(end, 0, NULL, 0);
		consume(end, -1, NULL, 0);
	}
	EXPECT_EQ(rejected, counter("rejected"));
}

TEST_HARNESS_MAIN
