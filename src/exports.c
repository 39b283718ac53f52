// SPDX-License-Identifier: GPL-2.0
/* What the Rust side offers to other modules, and what its module! macro can't say. */

#include <linux/export.h>
#include <linux/module.h>
#include <linux/tuntap_ring.h>

EXPORT_SYMBOL_GPL(tun_ring_consume_batched);
#if IS_ENABLED(CONFIG_TAP)
EXPORT_SYMBOL_GPL(tap_ring_consume_batched);
#endif
EXPORT_SYMBOL_GPL(tuntap_ring_check_build);

MODULE_VERSION(TUNTAP_RING_VERSION);
