// SPDX-License-Identifier: GPL-2.0
/*
 * Measures consumers of a ring in one kernel, with interleaved samples.
 *
 *   producer --> ring of a tap device with IFF_BACKPRESSURE, which is up --> consumer
 *
 *   plain   the kernel's inline ptr_ring_consume_batched(), without a check of the queue
 *   linux   the same, followed by tun_wake_queue(), as in vhost_net of Linux 7.3
 *   seed    the seed's algorithm in C
 *   tuntap_ring    tun_ring_consume_batched()
 *
 * All samples are in debugfs, tuntap_ring_bench/samples. A line of a sample is
 *
 *   producer queue ring n consumer cycles entries
 *
 * The time stamp counter counts the cycles. With QEMU's plugin that counts
 * instructions, "cycles" is the number of pairs of marks. The producer is one of
 *
 *   same    this CPU, which fills the ring before it is drained
 *   other   a thread on another CPU, which fills the ring meanwhile
 *   slow    the same, with a pause after each turn of its loop. Most calls of
 *           the consumer find the ring empty, and delay the thread
 *   one     this CPU, which produces one entry before each call
 *   none    no producer: each call finds the ring empty, and "entries" are calls
 *
 * bench_entry() returns the entries, which are not pointers.
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

static unsigned int ring_size;
module_param(ring_size, uint, 0444);
MODULE_PARM_DESC(ring_size, "The only size of the ring to measure (default: all)");

/* The other CPU decides how many instructions a call executes. */
static const bool with_producer = IS_ENABLED(CONFIG_UML);

static struct bench_tap tap;
static struct netdev_queue *queue;
static struct ptr_ring *ring;
static struct seed_file seed;
static void *out[BENCH_MOST_REQUESTED];

static struct task_struct *producer;
static unsigned long goal;	/* number of entries that the other CPU produces */
static unsigned long produced;
static unsigned int pause;	/* calls of cpu_relax() in that CPU after each turn */

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

static inline int consume_tuntap_ring(int n)
{
	return bench_consume_tuntap_ring(&tap.queues[0], out, n);
}

/*
 * Three functions that call a consumer for N entries, and return the cycles:
 * until COUNT entries are consumed; COUNT times with an empty ring; and COUNT
 * times with one entry in the ring.
 */
#define DEFINE_CONSUMER(consumer)					\
static noinline u64 drain_##consumer(unsigned long count, int n)	\
{									\
	u64 start = bench_cycles();					\
									\
	while (count)							\
		count -= consume_##consumer(n);				\
	return bench_cycles() - start - bench_clock_cost;		\
}									\
									\
static noinline u64 find_none_##consumer(unsigned long count, int n)	\
{									\
	u64 start = bench_cycles();					\
									\
	while (count--)							\
		consume_##consumer(n);					\
	return bench_cycles() - start - bench_clock_cost;		\
}									\
									\
static noinline u64 find_one_##consumer(unsigned long count, int n)	\
{									\
	u64 sum = 0;							\
									\
	while (count--) {						\
		u64 start;						\
									\
		ptr_ring_produce(ring, bench_entry(count));		\
		start = bench_cycles();					\
		consume_##consumer(n);					\
		sum += bench_cycles() - start - bench_clock_cost;	\
	}								\
	return sum;							\
}

DEFINE_CONSUMER(plain)
DEFINE_CONSUMER(linux)
DEFINE_CONSUMER(seed)
DEFINE_CONSUMER(tuntap_ring)

#define CONSUMER(consumer)						\
	{ #consumer, drain_##consumer, find_none_##consumer, find_one_##consumer }

static const struct {
	const char *name;
	u64 (*drain)(unsigned long count, int n);
	u64 (*find_none)(unsigned long count, int n);
	u64 (*find_one)(unsigned long count, int n);
} consumers[] = {
	CONSUMER(plain),
	CONSUMER(linux),
	CONSUMER(seed),
	CONSUMER(tuntap_ring),
};

/* Fills the ring on this CPU and drains it, until enough entries are consumed. */
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
		sum += consumers[which].drain(filled, n);
		netif_tx_start_queue(queue);
		*count += filled;
	}
	return sum;
}

/* Drains the ring while another CPU fills it. */
static u64 sample_other(int which, int n, bool stopped, unsigned long *count)
{
	u64 sum;

	*count = 2 * entries;
	if (stopped)
		netif_tx_stop_queue(queue);
	/* Pairs with smp_load_acquire() in produce(): the queue is set up. */
	smp_store_release(&goal, goal + *count);
	sum = consumers[which].drain(*count, n);
	netif_tx_start_queue(queue);
	return sum;
}

static u64 sample_none(int which, int n, bool stopped, unsigned long *count)
{
	*count = entries;
	return consumers[which].find_none(*count, n);
}

static u64 sample_one(int which, int n, bool stopped, unsigned long *count)
{
	*count = entries;
	return consumers[which].find_one(*count, n);
}

static int produce(void *unused)
{
	unsigned int turn;

	while (!kthread_should_stop()) {
		/* Pairs with smp_store_release() in sample_other(). */
		if (produced == smp_load_acquire(&goal) ||
		    ptr_ring_produce(ring, bench_entry(produced)))
			cpu_relax();
		else
			produced++;
		for (turn = 0; turn < READ_ONCE(pause); turn++)
			cpu_relax();
		cond_resched();
	}
	return 0;
}

typedef u64 (*sample_t)(int which, int n, bool stopped, unsigned long *count);

static void measure(const char *where, sample_t sample, bool stopped, int size, int n)
{
	unsigned int i, j;

	for (i = 0; i < samples; i++)
		for (j = 0; j < ARRAY_SIZE(consumers); j++) {
			/* Each consumer follows each other equally often. */
			int which = (i % 2 ? i / 2 + j : i / 2 - j) %
				    ARRAY_SIZE(consumers);
			unsigned long count;
			u64 sum = sample(which, n, stopped, &count);

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
	int i, j, stopped, err;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		if (ring_size && ring_size != sizes[i])
			continue;
		err = bench_resize(&tap, sizes[i]);
		if (err)
			return err;
		for (j = 0; j < ARRAY_SIZE(most); j++)
			for (stopped = 0; stopped < 2; stopped++) {
				measure("same", sample_same, stopped, sizes[i],
					most[j]);
				if (with_producer)
					measure("other", sample_other, stopped,
						sizes[i], most[j]);
			}
		measure("none", sample_none, false, sizes[i], 64);
		measure("one", sample_one, false, sizes[i], 64);
		if (!with_producer)
			continue;
		WRITE_ONCE(pause, 100);
		measure("slow", sample_other, false, sizes[i], 64);
		WRITE_ONCE(pause, 0);
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

	if (!with_producer) {
		err = measure_all();
		goto out;
	}
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
