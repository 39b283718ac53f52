/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Common parts of the benchmarks' modules: a clock, a tap, consumers, and samples
 * in debugfs. Each module includes bench.c in one of its objects.
 */
#ifndef TUNTAP_RING_BENCH_COMMON_H
#define TUNTAP_RING_BENCH_COMMON_H

#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/netdevice.h>
#include <linux/ptr_ring.h>
#include <linux/tuntap_ring.h>

#define BENCH_MOST_QUEUES	256	/* tun's limit for a device */
#define BENCH_MOST_REQUESTED	64	/* entries per call */

struct bench_queue {
	struct file *file;
	struct ptr_ring *ring;
};

/* A tap device with IFF_BACKPRESSURE, which is up, and the files of its queues. */
struct bench_tap {
	struct net_device *dev;
	unsigned int count;
	struct bench_queue queues[BENCH_MOST_QUEUES];
};

extern u64 bench_clock_cost;	/* cycles between two readings of the clock */
extern u64 bench_marks;		/* see bench_cycles() */

/*
 * Returns an entry that is not dereferenced. It is odd, as a pointer to an XDP
 * frame is, so tuntap_ring does not read the sender's CPU from it.
 */
static inline void *bench_entry(unsigned long number)
{
	return (void *)(2 * number + 1);
}

#ifdef CONFIG_UML
/* Reads the time stamp counter. */
static inline u64 bench_cycles(void)
{
	u32 low, high;

	asm volatile("lfence; rdtsc; lfence" : "=a" (low), "=d" (high) :: "memory");
	return (u64)high << 32 | low;
}
#else
/*
 * Under QEMU: the number of marks so far. The plugin bench/instruction-count writes
 * the instructions up to each mark. It counts a block of code when it begins, so the
 * mark is a block of its own.
 */
static inline u64 bench_cycles(void)
{
#ifdef CONFIG_ARM64
	asm volatile("b 1f; 1: hint #77; b 2f; 2:" ::: "memory");
#else
	asm volatile("jmp 1f; 1: .quad 0x4b52414d00841f0f; jmp 2f; 2:" ::: "memory");
#endif
	return ++bench_marks;
}
#endif

/* Consumes as vhost_net of Linux 7.3 does. */
static inline int bench_consume_linux(const struct bench_queue *queue,
				      void **out, int n)
{
	int taken;

	spin_lock(&queue->ring->consumer_lock);
	taken = __ptr_ring_consume_batched(queue->ring, out, n);
	if (taken)
		tun_wake_queue(queue->file, taken);
	spin_unlock(&queue->ring->consumer_lock);
	return taken;
}

static inline int bench_consume_tuntap_ring(const struct bench_queue *queue,
				     void **out, int n)
{
	return tun_ring_consume_batched(queue->file, out, n);
}

/* Opens a tap with COUNT queues, in the process that loads the module. */
int bench_open_tap(struct bench_tap *tap, unsigned int count);
int bench_resize(struct bench_tap *tap, int size);
/* Closes the tap, also after bench_open_tap() failed. */
void bench_close_tap(struct bench_tap *tap);

/* Adds to the samples. */
__printf(1, 2) void bench_print(const char *format, ...);

/* Calls measure on the first CPU. The samples can be read until bench_exit(). */
int bench_init(int (*measure)(void));
void bench_exit(void);

#endif
