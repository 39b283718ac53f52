/* SPDX-License-Identifier: GPL-2.0 */
#ifndef TUNTAP_RING_BENCH_H
#define TUNTAP_RING_BENCH_H

#include <linux/netdevice.h>
#include <linux/ptr_ring.h>

/* The fields of tun's file that the algorithm uses. */
struct seed_file {
	struct ptr_ring *ring;
	struct net_device __rcu *dev;
	u16 queue_index;
};

/* The seed's algorithm; see seed.c. */
int seed_consume_batched(struct seed_file *file, void **array, int n);

#endif
