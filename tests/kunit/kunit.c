// SPDX-License-Identifier: GPL-2.0
/* Common parts of the suites: parameters, random numbers, and a device. */

#include <linux/etherdevice.h>
#include <linux/module.h>
#include <linux/random.h>
#include <net/sch_generic.h>

#include "kunit.h"

unsigned long tuntap_ring_kunit_operations = 10000000;
module_param_named(operations, tuntap_ring_kunit_operations, ulong, 0444);
MODULE_PARM_DESC(operations, "Operations on a ring in a test; slower tests do a part of them");

unsigned long tuntap_ring_kunit_seed;
module_param_named(seed, tuntap_ring_kunit_seed, ulong, 0444);
MODULE_PARM_DESC(seed, "Seed of the random numbers, to repeat a run; 0 is a random seed");

void tuntap_ring_kunit_randomize(struct kunit *test, struct rnd_state *rnd)
{
	/* prandom_seed_state() takes 32 bits. */
	while (!tuntap_ring_kunit_seed)
		tuntap_ring_kunit_seed = get_random_u32();
	prandom_seed_state(rnd, tuntap_ring_kunit_seed);
	kunit_info(test, "seed=%lu", tuntap_ring_kunit_seed);
}

static void free_device(void *dev)
{
	free_netdev(dev);
}

struct net_device *tuntap_ring_kunit_device(struct kunit *test, int queues)
{
	struct net_device *dev = alloc_netdev_mqs(0, "kunit%d", NET_NAME_ENUM,
						  ether_setup, queues, 1);
	int i;

	KUNIT_ASSERT_NOT_NULL(test, dev);
	KUNIT_ASSERT_EQ(test, 0,
			kunit_add_action_or_reset(test, free_device, dev));
	/* The parts of registering and opening the device that the tests need. */
	for (i = 0; i < queues; i++)
		RCU_INIT_POINTER(netdev_get_tx_queue(dev, i)->qdisc,
				 &noop_qdisc);
	set_bit(__LINK_STATE_START, &dev->state);
	return dev;
}

MODULE_AUTHOR("The tuntap-ring developers");
MODULE_DESCRIPTION("KUnit suites of tuntap_ring");
MODULE_LICENSE("GPL");
