/* SPDX-License-Identifier: GPL-2.0 */
/* Limits the batches of vhost_net. */
#ifndef _TUNTAP_RING_VHOST_SHARE_H
#define _TUNTAP_RING_VHOST_SHARE_H

#include <linux/compiler.h>
#include <linux/minmax.h>
#include <linux/ptr_ring.h>

/**
 * vhost_net_share() - limit a batch to half of the ring
 * @ring: the ring
 * @n: the number of entries that there is room for
 *
 * vhost_net does not take all entries of a short ring at once, so that the qdisc
 * refills one half while vhost_net delivers the other. The limit is never less
 * than half of @n.
 *
 * Context: vhost's worker. The size of the ring may change at any time; any of
 *	its values is good enough.
 * Return: The most entries to take.
 */
static inline int vhost_net_share(const struct ptr_ring *ring, int n)
{
	return min(n, max(READ_ONCE(ring->size), n) / 2);
}

#endif
