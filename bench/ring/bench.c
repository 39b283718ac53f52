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
 * "other" CPU. Entries are numbers; none is ever followed.
 */

#include <linux/cpumask.h>
#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/kthread.h>
#include <linux/mman.h>
#include <linux/module.h>
#include <linux/mm.h>
#include <linux/rtnetlink.h>
#include <linux/tuntap_ring.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "bench.h"

#define MOST_ASKED	64
#define OUTPUT_SIZE	(8 << 20)

static unsigned int samples = 40;
module_param(samples, uint, 0444);
MODULE_PARM_DESC(samples, "Samples of each consumer in each cell");

static unsigned int entries = 8192;
module_param(entries, uint, 0444);
MODULE_PARM_DESC(entries, "Entries that a sample consumes, at least");

static struct file *file;
static struct net_device *dev;
static struct netdev_queue *queue;
static struct ptr_ring *ring;
static struct seed_file seed;
static void *out[MOST_ASKED];

static struct dentry *directory;
static struct debugfs_blob_wrapper output;

static struct task_struct *producer;
static unsigned long goal;	/* how many the other CPU is to produce */
static unsigned long produced;

static u64 clock_cost;		/* cycles between two readings of nothing */

static inline u64 cycles(void)
{
	u32 low, high;

	asm volatile("lfence; rdtsc; lfence" : "=a" (low), "=d" (high) :: "memory");
	return (u64)high << 32 | low;
}

static inline int consume_plain(int n)
{
	return ptr_ring_consume_batched(ring, out, n);
}

static inline int consume_linux(int n)
{
	int taken;

	spin_lock(&ring->consumer_lock);
	taken = __ptr_ring_consume_batched(ring, out, n);
	if (taken)
		tun_wake_queue(file, taken);
	spin_unlock(&ring->consumer_lock);
	return taken;
}

static inline int consume_seed(int n)
{
	return seed_consume_batched(&seed, out, n);
}

static inline int consume_ours(int n)
{
	return tun_ring_consume_batched(file, out, n);
}

/* Cycles that it takes to consume COUNT entries, N by N. */
#define DEFINE_DRAIN(consumer)						\
static noinline u64 drain_##consumer(unsigned long count, int n)	\
{									\
	u64 start = cycles();						\
									\
	while (count)							\
		count -= consume_##consumer(n);				\
	return cycles() - start;					\
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
		       !ptr_ring_produce(ring, (void *)(filled + 1)))
			filled++;
		if (stopped)
			netif_tx_stop_queue(queue);
		sum += consumers[which].drain(filled, n) - clock_cost;
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
	sum = consumers[which].drain(*count, n) - clock_cost;
	netif_tx_start_queue(queue);
	return sum;
}

static int produce(void *unused)
{
	while (!kthread_should_stop()) {
		/* Pairs with smp_store_release() in sample_other(). */
		if (produced == smp_load_acquire(&goal) ||
		    ptr_ring_produce(ring, (void *)(produced + 1)))
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

			output.size += scnprintf((char *)output.data + output.size,
						 OUTPUT_SIZE - output.size,
						 "%s %s %d %d %s %llu %lu\n", where,
						 stopped ? "stopped" : "running",
						 size, n, consumers[which].name,
						 sum, count);
			cond_resched();
		}
}

static int measure_all(void)
{
	static const int sizes[] = { 16, 256, 1000, 1024, 65536 };
	static const int most[] = { 1, 8, 16, 64 };
	int i, j, stopped, other, err;

	for (i = 0; i < 1000; i++) {
		u64 start = cycles();
		u64 cost = cycles() - start;

		if (!i || cost < clock_cost)
			clock_cost = cost;
	}
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		rtnl_lock();
		dev->tx_queue_len = sizes[i];
		err = notifier_to_errno(call_netdevice_notifiers(NETDEV_CHANGE_TX_QUEUE_LEN,
								 dev));
		rtnl_unlock();
		if (err || ring->size != sizes[i])
			return err ?: -ENOMEM;
		for (j = 0; j < ARRAY_SIZE(most); j++)
			for (other = 0; other < 2; other++)
				for (stopped = 0; stopped < 2; stopped++)
					measure(other ? "other" : "same", other,
						stopped, sizes[i], most[j]);
	}
	return 0;
}

/* Opens a tap, in the process that loads the module. */
static int open_tap(void)
{
	struct ifreq ifr = {
		.ifr_name = "bench%d",
		.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_BACKPRESSURE,
	};
	unsigned long user;
	int err;

	file = filp_open("/dev/net/tun", O_RDWR, 0);
	if (IS_ERR(file))
		return PTR_ERR(file);
	user = vm_mmap(NULL, 0, PAGE_SIZE, PROT_READ | PROT_WRITE,
		       MAP_ANONYMOUS | MAP_PRIVATE, 0);
	if (IS_ERR_VALUE(user))
		return user;
	err = -EFAULT;
	if (!copy_to_user((void __user *)user, &ifr, sizeof(ifr)))
		err = file->f_op->unlocked_ioctl(file, TUNSETIFF, user);
	if (!err && copy_from_user(&ifr, (void __user *)user, sizeof(ifr)))
		err = -EFAULT;
	vm_munmap(user, PAGE_SIZE);
	if (err)
		return err;

	dev = dev_get_by_name(&init_net, ifr.ifr_name);
	ring = tun_get_tx_ring(file);
	if (!dev || IS_ERR(ring))
		return -ENODEV;
	queue = netdev_get_tx_queue(dev, 0);
	seed.ring = ring;
	RCU_INIT_POINTER(seed.dev, dev);
	rtnl_lock();
	err = dev_open(dev, NULL);
	rtnl_unlock();
	return err;
}

static void close_tap(void)
{
	if (dev)
		dev_put(dev);
	if (!IS_ERR_OR_NULL(file))
		filp_close(file, NULL);
}

static int __init bench_init(void)
{
	int err;

	if (num_online_cpus() < 2)
		return -ENXIO;
	output.data = vzalloc(OUTPUT_SIZE);
	if (!output.data)
		return -ENOMEM;
	err = set_cpus_allowed_ptr(current, cpumask_of(0));
	if (!err)
		err = open_tap();
	if (err)
		goto out;
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
	close_tap();
	if (err) {
		vfree(output.data);
		return err;
	}
	directory = debugfs_create_dir("tuntap_ring_bench", NULL);
	debugfs_create_blob("samples", 0444, directory, &output);
	return 0;
}

static void __exit bench_exit(void)
{
	debugfs_remove(directory);
	vfree(output.data);
}

module_init(bench_init);
module_exit(bench_exit);
MODULE_AUTHOR("The tuntap-ring developers");
MODULE_DESCRIPTION("Benchmark of ring consumers");
MODULE_LICENSE("GPL");
