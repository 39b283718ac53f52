// SPDX-License-Identifier: GPL-2.0
/* Exports the functions of the Rust code, and adds parameters that module! does not support. */

#include <linux/export.h>
#include <linux/kstrtox.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/sysfs.h>
#include <linux/tuntap_ring.h>

#include "bindings/helpers.h"

EXPORT_SYMBOL_GPL(tun_ring_consume_batched);
#if IS_ENABLED(CONFIG_TAP)
EXPORT_SYMBOL_GPL(tap_ring_consume_batched);
#endif
EXPORT_SYMBOL_GPL(tuntap_ring_check_build);

MODULE_VERSION(TUNTAP_RING_VERSION);

/* module! has no string parameters, and none that can be written at run time. */
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

static int set_stall_timeout(const char *text, const struct kernel_param *kp)
{
	unsigned int ms;
	int ret = kstrtouint(text, 0, &ms);

	return ret ?: tuntap_ring_set_stall_timeout(ms);
}

static int get_stall_timeout(char *buffer, const struct kernel_param *kp)
{
	return sysfs_emit(buffer, "%u\n", tuntap_ring_get_stall_timeout());
}

static const struct kernel_param_ops stall_timeout = {
	.set = set_stall_timeout,
	.get = get_stall_timeout,
};

module_param_cb(backpressure, &backpressure, NULL, 0644);
MODULE_PARM_DESC(backpressure,
		 "Names of tun and tap devices that get backpressure, shell globs separated by commas (default none)");

static int set_autosize(const char *text, const struct kernel_param *kp)
{
	bool on;
	int ret = kstrtobool(text, &on);

	return ret ?: tuntap_ring_set_autosize(on);
}

static int get_autosize(char *buffer, const struct kernel_param *kp)
{
	return sysfs_emit(buffer, "%c\n", tuntap_ring_get_autosize() ? 'Y' : 'N');
}

static const struct kernel_param_ops autosize = {
	.set = set_autosize,
	.get = get_autosize,
};

module_param_cb(stall_timeout, &stall_timeout, NULL, 0644);
MODULE_PARM_DESC(stall_timeout,
		 "Milliseconds for which a queue may be stopped before its device drops packets instead, 0 for any time (default 500)");

module_param_cb(autosize, &autosize, NULL, 0644);
MODULE_PARM_DESC(autosize,
		 "Give each ring of a device that matches backpressure= no more slots than its consumer needs (default Y)");
