// SPDX-License-Identifier: GPL-2.0
/* If tuntap_ring is not configured, the API is inline and rejects every file. */

#include <linux/module.h>
#include <linux/tuntap_ring.h>

static int __init fallback_init(void)
{
	return tun_ring_consume_batched(NULL, NULL, 1) ||
	       tap_ring_consume_batched(NULL, NULL, 1) ||
	       tuntap_ring_check_build("", NULL, 0);
}
module_init(fallback_init);

MODULE_DESCRIPTION("Compile-time test of the fallbacks of linux/tuntap_ring.h");
MODULE_LICENSE("GPL");
