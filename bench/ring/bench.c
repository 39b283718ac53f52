// SPDX-License-Identifier: GPL-2.0
/*
 * Consumers of a ring, measured side by side in one kernel, sample by sample.
 *
 *   producer: this CPU, before each sample;     the ring of a tap device that is
 *   or a thread on another one, meanwhile  -->  up, with IFF_BACKPRESSURE  -->
 *
 *   plain   the kernel's inline ptr_ring_consume_batched(), no look at the queue
 *   linux   the same followed by tun_wake_queue(), as vhost_net of 7.3 does it
 *   seed    the seed's algorithm in C
 *   ours    tun_ring_consume_batched()
 *
 * All samples are in debugfs, tuntap_ring_bench/samples: a line each of
 *
 *   producer queue ring n consumer cycles entries
 *
 * where cycles are those of the time stamp counter, and producer is "same" or
 * "other" CPU. Entries are no pointers: bench_entry().
 */

#include <linux/cpumask.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/netdevice.h>

#include "../common/bench.h"
#include "bench.h"

static unsigned int samples = 40;
module_param(samples, uint, 0444);
MODULE_PARM_DESC(samples, "Samples of each consumer in each cell");

static unsigned int entries = 8192;
module_param(entries, uint, 0444);
MODULE_PARM_DESC(entries, "Entries that a sample consumes, at least");

static struct bench_tap tap;
static struct netdev_queue *queue;
static struct ptr_ring *ring;
static struct seed_file seed;
static void *out[BENCH_MOST_ASKED];

static struct task_struct *producer;
static unsigned long goal;	/* how many the other CPU is to produce */
static unsigned long produced;

static inline int consume_plain(int n)
{
	return ptr_ring_consume_batched(ring, out, n);
}

static inline int consume_linux(int n)
{
	return bench_consume_linux(&tap.queues[0], out, n);
}

static inline int consume_seed(int n)
{
	return seed_consume_batched(&seed, out, n);
}

static inline int consume_ours(int n)
{
	return bench_consume_ours(&tap.queues[0], out, n);
}

/* Cycles that it takes to consume COUNT entries, N by N. */
#define DEFINE_DRAIN(consumer)						\
static noinline u64 drain_##consumer(unsigned long count, int n)	\
{									\
	u64 start = bench_cycles();					\
									\
	while (count)							\
		count -= consume_##consumer(n);				\
	return bench_cycles() - start;					\
}

DEFINE_DRAIN(plain)
DEFINE_DRAIN(linux)
DEFINE_DRAIN(seed)
DEFINE_DRAIN(ours)

static const struct {
	const char *name;
	u64 (*drain)(unsigned long count, int n);
} consumers[] = {
	{ "plain", drain_plain },
	{ "linux", drain_linux },
	{ "seed", drain_seed },
	{ "ours", drain_ours },
};

/* From a ring that was filled by this CPU, as often as it takes. */
static u64 sample_same(int which, int n, bool stopped, unsigned long *count)
{
	u64 sum = 0;

	for (*count = 0; *count < entries; ) {
		unsigned long filled = 0;

		while (filled < entries &&
		       !ptr_ring_produce(ring, bench_entry(filled)))
			filled++;
		if (stopped)
			netif_tx_stop_queue(queue);
		sum += consumers[which].drain(filled, n) - bench_clock_cost;
		netif_tx_start_queue(queue);
		*count += filled;
	}
	return sum;
}

/* While another CPU fills it. */
static u64 sample_other(int which, int n, bool stopped, unsigned long *count)
{
	u64 sum;

	*count = 2 * entries;
	if (stopped)
		netif_tx_stop_queue(queue);
	/* Pairs with smp_load_acquire() in produce(): the queue is set up. */
	smp_store_release(&goal, goal + *count);
	sum = consumers[which].drain(*count, n) - bench_clock_cost;
	netif_tx_start_queue(queue);
	return sum;
}

static int produce(void *unused)
{
	while (!kthread_should_stop()) {
		/* Pairs with smp_store_release() in sample_other(). */
		if (produced == smp_load_acquire(&goal) ||
		    ptr_ring_produce(ring, bench_entry(produced)))
			cpu_relax();
		else
			produced++;
		cond_resched();
	}
	return 0;
}

static void measure(const char *where, bool other, bool stopped, int size, int n)
{
	unsigned int i, j;

	for (i = 0; i < samples; i++)
		for (j = 0; j < ARRAY_SIZE(consumers); j++) {
			/* Each follows each other one as often. */
			int which = (i % 2 ? i / 2 + j : i / 2 - j) %
				    ARRAY_SIZE(consumers);
			unsigned long count;
			u64 sum = (other ? sample_other : sample_same)(which, n, stopped, &count);

			bench_print("%s %s %d %d %s %llu %lu\n", where,
				    stopped ? "stopped" : "running", size, n,
				    consumers[which].name, sum, count);
			cond_resched();
		}
}

static int measure_all(void)
{
	static const int sizes[] = { 16, 256, 1000, 1024, 65536 };
	static const int most[] = { 1, 8, 16, 64 };
	int i, j, stopped, other, err;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		err = bench_resize(&tap, sizes[i]);
		if (err)
			return err;
		for (j = 0; j < ARRAY_SIZE(most); j++)
			for (other = 0; other < 2; other++)
				for (stopped = 0; stopped < 2; stopped++)
					measure(other ? "other" : "same", other,
						stopped, sizes[i], most[j]);
	}
	return 0;
}

static int measure_with_producer(void)
{
	int err = bench_open_tap(&tap, 1);

	if (err)
		goto out;
	ring = tap.queues[0].ring;
	queue = netdev_get_tx_queue(tap.dev, 0);
	seed.ring = ring;
	RCU_INIT_POINTER(seed.dev, tap.dev);

	producer = kthread_create(produce, NULL, "bench-producer");
	if (IS_ERR(producer)) {
		err = PTR_ERR(producer);
		goto out;
	}
	kthread_bind(producer, cpumask_next(0, cpu_online_mask));
	wake_up_process(producer);
	err = measure_all();
	kthread_stop(producer);
out:
	bench_close_tap(&tap);
	return err;
}

static int __init ring_init(void)
{
	return bench_init(measure_with_producer);
}

static void __exit ring_exit(void)
{
	bench_exit();
}

module_init(ring_init);
module_exit(ring_exit);
MODULE_AUTHOR("The tuntap-ring developers");
MODULE_DESCRIPTION("Benchmark of ring consumers");
MODULE_LICENSE("GPL");
