/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the modules of the benches share: a clock, a tap, consumers, and samples
 * in debugfs. Each includes bench.c in an object of its own.
 */
#ifndef TUNTAP_RING_BENCH_COMMON_H
#define TUNTAP_RING_BENCH_COMMON_H

#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/netdevice.h>
#include <linux/ptr_ring.h>
#include <linux/tuntap_ring.h>

#define BENCH_MOST_QUEUES	256	/* that tun gives to a device */
#define BENCH_MOST_ASKED	64	/* entries, of a consumer at once */

struct bench_queue {
	struct file *file;
	struct ptr_ring *ring;
};

/* A tap device that is up, with IFF_BACKPRESSURE, and the files of its queues. */
struct bench_tap {
	struct net_device *dev;
	unsigned int count;
	struct bench_queue queues[BENCH_MOST_QUEUES];
};

extern u64 bench_clock_cost;	/* cycles between two readings of nothing */

/*
 * An entry that is never followed: odd, which is what tells an XDP frame, so that
 * nobody looks into it for the CPU that sent it.
 */
static inline void *bench_entry(unsigned long number)
{
	return (void *)(2 * number + 1);
}

/* Of the time stamp counter. */
static inline u64 bench_cycles(void)
{
	u32 low, high;

	asm volatile("lfence; rdtsc; lfence" : "=a" (low), "=d" (high) :: "memory");
	return (u64)high << 32 | low;
}

/* As vhost_net of 7.3 does it. */
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

/* Opens a tap with so many queues, in the process that loads the module. */
int bench_open_tap(struct bench_tap *tap, unsigned int count);
int bench_resize(struct bench_tap *tap, int size);
/* Also if it could not be opened. */
void bench_close_tap(struct bench_tap *tap);

/* Adds to the samples. */
__printf(1, 2) void bench_print(const char *format, ...);

/* Calls measure on the first CPU; its samples can be read until bench_exit(). */
int bench_init(int (*measure)(void));
void bench_exit(void);

#endif
