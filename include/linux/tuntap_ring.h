/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Consuming the rings of tun and tap, and waking the netdev queues above tun's.
 *
 * Names and prototypes are those of the patch series "tun/tap & vhost-net:
 * netdev queue flow control to avoid ptr_ring tail drop" of 2025. The module
 * tuntap_ring implements them. A stub of an export that is not built returns
 * -EINVAL, as the stubs of tun_get_tx_ring() and tap_get_ptr_ring() do.
 */
#ifndef _LINUX_TUNTAP_RING_H
#define _LINUX_TUNTAP_RING_H

#include <linux/errno.h>
#include <linux/kconfig.h>
#include <linux/stddef.h>
#include <linux/types.h>

struct file;

#if IS_ENABLED(CONFIG_TUNTAP_RING) && IS_ENABLED(CONFIG_TUN)
/**
 * tun_ring_consume_batched() - take entries off the ring of a tun file
 * @file: an open file of /dev/net/tun, or NULL
 * @array: where the entries go, in the order in which they were produced;
 *	room for @n pointers
 * @n: the most entries to take
 *
 * Takes up to @n entries, but no more than a ring-full, under the consumer
 * lock of the ring. Their slots are freed at the points at which
 * ptr_ring_consume_batched() would free them. If the driver has stopped the
 * netdev queue (IFF_BACKPRESSURE) and enough slots came free, the queue is
 * woken. It is not woken while the device is down, or by a file that has lost
 * its device or its queue; and not while the ring is full, unless senders that
 * ignore the stop (XDP) have kept it full while four times as many slots as it
 * has were freed.
 *
 * Entries that carry TUN_XDP_FLAG come through unchanged. Each belongs to the
 * caller, who frees it by tun_ptr_free() or hands it back by
 * ptr_ring_unconsume().
 *
 * Context: Process context with bottom halves and interrupts on. Takes the
 *	ring's consumer lock, and at times its producer lock inside it. Does not
 *	sleep.
 * Return: How many entries were taken; 0 if there were none, for @n <= 0, and
 *	for a file that has no ring yet. -EBADF if @file is NULL, -EINVAL if it
 *	is not a tun file, -EBADFD if it has no socket, -ENOEXEC if the running
 *	tun does not have the layout that the module was built for. On an error
 *	nothing was taken.
 */
int tun_ring_consume_batched(struct file *file, void **array, int n);
#else
static inline int tun_ring_consume_batched(struct file *file, void **array,
					   int n)
{
	return -EINVAL;
}
#endif

#if IS_ENABLED(CONFIG_TUNTAP_RING) && IS_ENABLED(CONFIG_TAP)
/**
 * tap_ring_consume_batched() - take entries off the ring of a tap file
 * @file: an open file of a macvtap or ipvtap device, or NULL
 * @array: where the entries go, in the order in which they were produced;
 *	room for @n pointers
 * @n: the most entries to take
 *
 * Takes a batch as tun_ring_consume_batched() does, from a file of tap.c, and
 * wakes no queue: a receive handler fills the ring of such a file, and no driver
 * stops a transmit queue when it is full.
 *
 * Context: Process context. Takes the ring's consumer lock. Does not sleep.
 * Return: As tun_ring_consume_batched(), for tap instead of tun.
 */
int tap_ring_consume_batched(struct file *file, void **array, int n);
#else
static inline int tap_ring_consume_batched(struct file *file, void **array,
					   int n)
{
	return -EINVAL;
}
#endif

#if IS_ENABLED(CONFIG_TUNTAP_RING)
/**
 * tuntap_ring_check_build() - is a loaded module the one it should be
 * @name: the module's name
 * @note: the note that holds its build ID, as found in the module's file
 * @length: of @note, in bytes
 *
 * Without CONFIG_MODVERSIONS nothing else tells a module whose private
 * structures one was built for from another of the same name.
 *
 * Context: Process context. May sleep.
 * Return: 0 if it is, -ENOEXEC if it is another, -ENOENT if no such module is
 *	loaded, or another error that kept us from finding out.
 */
int tuntap_ring_check_build(const char *name, const u8 *note, size_t length);
#else
static inline int tuntap_ring_check_build(const char *name, const u8 *note,
					  size_t length)
{
	return 0;
}
#endif

#endif /* _LINUX_TUNTAP_RING_H */
