/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What /dev/tuntap-ring-test does for the tests: it calls the exports of
 * tuntap_ring, and looks at rings and queues.
 */
#ifndef TUNTAP_RING_TEST_H
#define TUNTAP_RING_TEST_H

#include <linux/if.h>
#include <linux/ioctl.h>
#include <linux/types.h>

/* More entries than any test asks for, and larger than any of their rings. */
#define TUNTAP_RING_TEST_MAX	4096

enum tuntap_ring_test_kind {
	TUNTAP_RING_TEST_TUN,
	TUNTAP_RING_TEST_TAP,
};

/**
 * struct tuntap_ring_test_entry - an entry that was taken off a ring
 * @entry: the pointer
 * @number: the last 8 bytes of the frame, which is where tests number theirs
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
 * @n: passed on as it is; if the ring is larger than TUNTAP_RING_TEST_MAX and
 *	this too, the ioctl fails
 * @hand_back: how many entries to hand back, the last ones first; the others
 *	are freed
 * @entries: where to describe those taken, or 0
 * @room: how many can be described there
 * @taken: what the export returned
 * @strays: how many pointers it wrote outside of those that it returned
 */
struct tuntap_ring_test_consume {
	__s32 fd;
	__u32 kind;
	__s32 n;
	__u32 hand_back;
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
 * @batch: how many entries are consumed before their slots are freed
 * @producer: the slot that the next entry goes to
 * @head: the slot that the next entry comes from
 * @tail: the oldest slot that is consumed but not freed, or @head
 * @occupied: slots that are not free, be they consumed or not
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
 * @index: the queue's
 * @num_tx_queues: how many the device has; -ERANGE if @index is not below
 * @is_stopped: whether the driver has stopped it
 */
struct tuntap_ring_test_queue {
	char device[IFNAMSIZ];
	__u32 index;
	__u32 num_tx_queues;
	__u32 is_stopped;
};

/**
 * struct tuntap_ring_test_watch - what to watch, for as long as the file of
 *	/dev/tuntap-ring-test is open; needs a kernel with fprobes and kprobes
 * @fd: the file whose ring it is
 * @kind: its driver
 * @queue: the queue that the ring's consumer wakes
 * @all_consumers: not only tuntap_ring, but also the kernel's own
 */
struct tuntap_ring_test_watch {
	__s32 fd;
	__u32 kind;
	struct tuntap_ring_test_queue queue;
	__u32 all_consumers;
};

/**
 * struct tuntap_ring_test_watched - what was seen
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
 * Holds the next consumer that has decided for a wake and let go of the ring,
 * before it takes both locks; or, with @all_consumers, one that has freed slots,
 * before it looks at the queue. Until it is released, or for some seconds.
 */
#define TUNTAP_RING_TEST_HOLD	_IO('!', 6)
#define TUNTAP_RING_TEST_RELEASE _IO('!', 7)

#endif
