/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Comes before each file of lib/kunit, and of the suites, where the kernel was built
 * without KUnit. Structures of the kernel are defined first, as they are there.
 */
#ifndef TUNTAP_RING_KUNIT_NO_KUNIT_H
#define TUNTAP_RING_KUNIT_NO_KUNIT_H

#include <linux/module.h>
#include <linux/sched.h>

#define CONFIG_KUNIT_MODULE			1
#define CONFIG_KUNIT_DEBUGFS			1
#define CONFIG_KUNIT_DEFAULT_ENABLED		1
#define CONFIG_KUNIT_AUTORUN_ENABLED		1
#define CONFIG_KUNIT_DEFAULT_TIMEOUT		300
#define CONFIG_KUNIT_DEFAULT_FILTER_GLOB	""
#define CONFIG_KUNIT_DEFAULT_FILTER		""
#define CONFIG_KUNIT_DEFAULT_FILTER_ACTION	""

/*
 * struct task_struct has no kunit_test. KUnit's threads write to no file
 * system, which would use this member.
 */
#define kunit_test	journal_info

#include <kunit/test.h>

/* The kernel runs no suites of a module, so load.c does. */
#undef kunit_test_suite
#define kunit_test_suite(suite) \
	struct kunit_suite *tuntap_ring_kunit_##suite = &(suite)

extern struct kunit_suite *tuntap_ring_kunit_ring_suite;
extern struct kunit_suite *tuntap_ring_kunit_threads_suite;
extern struct kunit_suite *tuntap_ring_kunit_tun_suite;

#endif
