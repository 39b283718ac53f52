/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The ioctls of /dev/tuntap-ring-test, which call the exports of tuntap_ring and
 * read the state of rings and queues.
 */
#ifndef TUNTAP_RING_TEST_H
#define TUNTAP_RING_TEST_H

#include <linux/if.h>
#include <linux/ioctl.h>
#include <linux/types.h>

/* At least the largest number of entries that a test requests, and the largest ring. */
#define TUNTAP_RING_TEST_MAX	4096

enum tuntap_ring_test_kind {
	TUNTAP_RING_TEST_TUN,
	TUNTAP_RING_TEST_TAP,
};

/**
 * struct tuntap_ring_test_entry - an entry that was taken off a ring
 * @entry: the pointer
 * @number: the last 8 bytes of the frame, which contain its number
 * @length: of the frame
 * @is_xdp: whether it is an XDP frame, and tagged as such
 */
struct tuntap_ring_test_entry {
	__u64 entry;
	__u64 number;
	__u32 length;
	__u32 is_xdp;
};

/**
 * struct tuntap_ring_test_consume - calls one of the exports
 * @fd: the file, or -1 for NULL
 * @kind: which export
 * @n: passed on unchanged; the ioctl fails if both @n and the ring are larger
 *	than TUNTAP_RING_TEST_MAX
 * @unconsume: number of entries to unconsume, the last ones first; the other
 *	entries are freed
 * @entries: array for the description of taken entries, or 0
 * @room: size of that array
 * @taken: what the export returned
 * @strays: number of pointers that it wrote outside of the result
 */
struct tuntap_ring_test_consume {
	__s32 fd;
	__u32 kind;
	__s32 n;
	__u32 unconsume;
	__u64 entries;
	__u32 room;
	__s32 taken;
	__u32 strays;
	__u32 reserved;
};

/**
 * struct tuntap_ring_test_ring - a ring, under both of its locks
 * @fd: the file
 * @kind: its driver
 * @size: in slots
 * @batch: number of entries that are consumed before their slots are freed
 * @producer: the slot that the next entry goes to
 * @head: the slot that the next entry comes from
 * @tail: the oldest slot that is consumed but not freed, or @head
 * @occupied: slots that are not free, whether consumed or not
 * @has_room: whether the slot at @producer is free
 */
struct tuntap_ring_test_ring {
	__s32 fd;
	__u32 kind;
	__s32 size;
	__s32 batch;
	__s32 producer;
	__s32 head;
	__s32 tail;
	__s32 occupied;
	__u32 has_room;
};

/**
 * struct tuntap_ring_test_queue - a transmit queue
 * @device: the device's name, in the caller's network namespace
 * @index: the index of the queue
 * @num_tx_queues: number of queues of the device; -ERANGE if @index is not below
 * @is_stopped: whether the driver has stopped it
 */
struct tuntap_ring_test_queue {
	char device[IFNAMSIZ];
	__u32 index;
	__u32 num_tx_queues;
	__u32 is_stopped;
};

/**
 * struct tuntap_ring_test_watch - a ring and a queue to watch, until the file of
 *	/dev/tuntap-ring-test is closed; requires fprobes and kprobes
 * @fd: the file of the ring
 * @kind: its driver
 * @queue: the queue that the ring's consumer wakes
 * @all_consumers: also watches the in-kernel consumers
 */
struct tuntap_ring_test_watch {
	__s32 fd;
	__u32 kind;
	struct tuntap_ring_test_queue queue;
	__u32 all_consumers;
};

/**
 * struct tuntap_ring_test_watched - results of watching
 * @wakes: how often a consumer woke the queue when it was stopped
 * @wakes_while_full: how often the ring was full by then
 * @is_held: whether a consumer is being held, see TUNTAP_RING_TEST_HOLD
 * @was_stopped: whether the queue was stopped when that began
 */
struct tuntap_ring_test_watched {
	__u32 wakes;
	__u32 wakes_while_full;
	__u32 is_held;
	__u32 was_stopped;
};

#define TUNTAP_RING_TEST_CONSUME \
	_IOWR('!', 0, struct tuntap_ring_test_consume)
#define TUNTAP_RING_TEST_RING	_IOWR('!', 1, struct tuntap_ring_test_ring)
#define TUNTAP_RING_TEST_QUEUE	_IOWR('!', 2, struct tuntap_ring_test_queue)
/* Stops a queue, as its driver would. */
#define TUNTAP_RING_TEST_STOP	_IOWR('!', 3, struct tuntap_ring_test_queue)
#define TUNTAP_RING_TEST_WATCH	_IOW('!', 4, struct tuntap_ring_test_watch)
#define TUNTAP_RING_TEST_WATCHED _IOR('!', 5, struct tuntap_ring_test_watched)
/*
 * Holds the next consumer that has requested a wake and released the consumer
 * lock, before it takes both locks; with @all_consumers, the next consumer that
 * has freed slots, before it checks the queue. Ends with the release of the
 * consumer, or after a time-out.
 */
#define TUNTAP_RING_TEST_HOLD	_IO('!', 6)
#define TUNTAP_RING_TEST_RELEASE _IO('!', 7)

#endif
