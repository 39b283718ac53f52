/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Consumers of the rings of tun and tap. The consumer of tun's rings wakes the
 * netdev queues above them.
 *
 * The names and prototypes come from the patch series "tun/tap & vhost-net:
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
 * netdev queue (IFF_BACKPRESSURE) and enough slots have been freed, the queue
 * is woken. It is not woken while the device is down, or by a file that has
 * lost its device or its queue. It is not woken while the ring is full either,
 * unless senders that ignore the stop (XDP) have kept the ring full while four
 * ring-fulls of slots were freed.
 *
 * Entries with TUN_XDP_FLAG are returned unchanged. The caller owns the entries,
 * and must free each with tun_ptr_free() or return it with
 * ptr_ring_unconsume().
 *
 * Context: Process context with bottom halves and interrupts on. Takes the
 *	ring's consumer lock, and at times its producer lock inside it. Does not
 *	sleep.
 * Return: The number of entries taken; 0 if there were none, for @n <= 0, and
 *	for a file that has no ring yet. -EBADF if @file is NULL, -EINVAL if it
 *	is not a tun file, -EBADFD if it has no socket, -ENOEXEC if the running
 *	tun does not have the layout that the module was built for. On an error
 *	no entry was taken.
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
 * tuntap_ring_check_build() - check the build ID of a loaded module
 * @name: the module's name
 * @note: the note that contains the expected build ID, from the module's file
 * @length: the length of @note, in bytes
 *
 * A module that uses the private structures of another module must run with the
 * build that it was built for. Without CONFIG_MODVERSIONS the kernel does not
 * distinguish two builds of a module.
 *
 * Context: Process context. May sleep.
 * Return: 0 if the build IDs are equal, -ENOEXEC if they differ, -ENOENT if no
 *	such module is loaded, or the error that prevented the check.
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
