/* SPDX-License-Identifier: GPL-2.0 */
/* Takes vhost_net's batches off a ring with tuntap_ring. */
#ifndef _TUNTAP_RING_VHOST_CONSUMER_H
#define _TUNTAP_RING_VHOST_CONSUMER_H

#include <linux/errno.h>
#include <linux/module.h>
#include <linux/printk.h>
#include <linux/tuntap_ring.h>

#include "share.h"
#include "vhost_build_id.h"

/* Without aliases, opening the device still loads the in-kernel vhost_net. */
#undef MODULE_ALIAS
#define MODULE_ALIAS(alias)

/* The consumer of a virtqueue's ring. */
enum vhost_net_consumer {
	/* vhost_net itself, as without tuntap_ring. */
	VHOST_NET_CONSUMER_KERNEL,
	VHOST_NET_CONSUMER_TUN,
	VHOST_NET_CONSUMER_TAP,
};

/**
 * vhost_net_consumer_of() - determine the consumer of a file's ring
 * @file: the open file of a new backend
 *
 * Calls each export for no entries, which takes none and returns an error for a
 * file that the export rejects. A file that both reject is served as without
 * tuntap_ring: a packet socket, or a file of a tun with another layout.
 *
 * Context: Process context.
 * Return: The consumer to use for as long as the file is the backend.
 */
static inline enum vhost_net_consumer vhost_net_consumer_of(struct file *file)
{
	if (!tun_ring_consume_batched(file, NULL, 0))
		return VHOST_NET_CONSUMER_TUN;
	if (!tap_ring_consume_batched(file, NULL, 0))
		return VHOST_NET_CONSUMER_TAP;
	return VHOST_NET_CONSUMER_KERNEL;
}

/**
 * vhost_net_consume() - take a batch
 * @consumer: the consumer, not VHOST_NET_CONSUMER_KERNEL
 * @file: the backend's file
 * @ring: its ring
 * @array: room for @n pointers
 * @n: the most entries to take
 *
 * Context: vhost's worker.
 * Return: The number of entries taken; a negative errno if the file was
 *	rejected, and no entry was taken.
 */
static inline int vhost_net_consume(enum vhost_net_consumer consumer,
				    struct file *file, const struct ptr_ring *ring,
				    void **array, int n)
{
	n = vhost_net_share(ring, n);
	if (consumer == VHOST_NET_CONSUMER_TUN)
		return tun_ring_consume_batched(file, array, n);
	return tap_ring_consume_batched(file, array, n);
}

/**
 * vhost_net_check_build() - check the build ID of the loaded vhost
 *
 * The structures that vhost and vhost_net share are private to the two.
 *
 * Context: Process context. May sleep.
 * Return: 0 if it is the vhost that this module was built for, else a negative
 *	errno, which is logged.
 */
static inline int vhost_net_check_build(void)
{
	int err = tuntap_ring_check_build("vhost", vhost_build_id,
					  sizeof(vhost_build_id));

	if (err == -ENOEXEC)
		pr_err("tuntap_ring_vhost_net: vhost: build ID mismatch (%d); rebuild it for this kernel\n",
		       err);
	else if (err)
		pr_err("tuntap_ring_vhost_net: vhost: cannot read the build ID below /sys (%d); mount sysfs there\n",
		       err);
	return err;
}

#endif
