// SPDX-License-Identifier: GPL-2.0
/* What the Rust side offers to other modules, and what its module! macro can't say. */

#include <linux/export.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/tuntap_ring.h>

#include "bindings/helpers.h"

EXPORT_SYMBOL_GPL(tun_ring_consume_batched);
#if IS_ENABLED(CONFIG_TAP)
EXPORT_SYMBOL_GPL(tap_ring_consume_batched);
#endif
EXPORT_SYMBOL_GPL(tuntap_ring_check_build);

MODULE_VERSION(TUNTAP_RING_VERSION);

/* The macro has no strings, and none that can be written at run time. */
static int set_backpressure(const char *text, const struct kernel_param *kp)
{
	return tuntap_ring_set_backpressure(text);
}

static int get_backpressure(char *buffer, const struct kernel_param *kp)
{
	return tuntap_ring_get_backpressure(buffer);
}

static void free_backpressure(void *arg)
{
	tuntap_ring_free_backpressure();
}

static const struct kernel_param_ops backpressure = {
	.set = set_backpressure,
	.get = get_backpressure,
	.free = free_backpressure,
};

module_param_cb(backpressure, &backpressure, NULL, 0644);
MODULE_PARM_DESC(backpressure,
		 "Names of tun and tap devices that get backpressure, shell globs separated by commas (default none)");
