// SPDX-License-Identifier: GPL-2.0

#include <linux/cpumask.h>
#include <linux/debugfs.h>
#include <linux/mman.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/rtnetlink.h>
#include <linux/sched.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "bench.h"

#define OUTPUT_SIZE	(8 << 20)

u64 bench_clock_cost;
u64 bench_marks;

static struct dentry *directory;
static struct debugfs_blob_wrapper output;

static void measure_clock(void)
{
	int i;

	for (i = 0; i < 1000; i++) {
		u64 start = bench_cycles();
		u64 cost = bench_cycles() - start;

		if (!i || cost < bench_clock_cost)
			bench_clock_cost = cost;
	}
	/* The report subtracts the instructions of a mark. */
	if (!IS_ENABLED(CONFIG_UML))
		bench_clock_cost = 0;
}

/* Attaches a file to a tap as a queue. Creates the tap if it does not exist. */
static int attach(struct file *file, struct ifreq *ifr)
{
	unsigned long user = vm_mmap(NULL, 0, PAGE_SIZE, PROT_READ | PROT_WRITE,
				     MAP_ANONYMOUS | MAP_PRIVATE, 0);
	int err = -EFAULT;

	if (IS_ERR_VALUE(user))
		return user;
	if (!copy_to_user((void __user *)user, ifr, sizeof(*ifr)))
		err = file->f_op->unlocked_ioctl(file, TUNSETIFF, user);
	if (!err && copy_from_user(ifr, (void __user *)user, sizeof(*ifr)))
		err = -EFAULT;
	vm_munmap(user, PAGE_SIZE);
	return err;
}

int bench_open_tap(struct bench_tap *tap, unsigned int count)
{
	struct ifreq ifr = {
		.ifr_name = "bench%d",
		.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_BACKPRESSURE |
			     (count > 1 ? IFF_MULTI_QUEUE : 0),
	};
	int err;

	for (tap->count = 0; tap->count < count; tap->count++) {
		struct bench_queue *queue = &tap->queues[tap->count];
		struct file *file = filp_open("/dev/net/tun", O_RDWR, 0);

		if (IS_ERR(file))
			return PTR_ERR(file);
		queue->file = file;
		err = attach(file, &ifr);
		queue->ring = tun_get_tx_ring(file);
		if (!err && IS_ERR(queue->ring))
			err = PTR_ERR(queue->ring);
		if (err) {
			filp_close(file, NULL);
			return err;
		}
	}
	tap->dev = dev_get_by_name(&init_net, ifr.ifr_name);
	if (!tap->dev)
		return -ENODEV;
	rtnl_lock();
	err = dev_open(tap->dev, NULL);
	rtnl_unlock();
	return err;
}

int bench_resize(struct bench_tap *tap, int size)
{
	int err;

	rtnl_lock();
	tap->dev->tx_queue_len = size;
	err = notifier_to_errno(call_netdevice_notifiers(NETDEV_CHANGE_TX_QUEUE_LEN,
							 tap->dev));
	rtnl_unlock();
	if (!err && tap->queues[0].ring->size != size)
		err = -ENOMEM;
	return err;
}

void bench_close_tap(struct bench_tap *tap)
{
	dev_put(tap->dev);
	tap->dev = NULL;
	while (tap->count)
		filp_close(tap->queues[--tap->count].file, NULL);
}

void bench_print(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	output.size += vscnprintf((char *)output.data + output.size,
				  OUTPUT_SIZE - output.size, format, arguments);
	va_end(arguments);
}

int bench_init(int (*measure)(void))
{
	int err;

	if (num_online_cpus() < 2)
		return -ENXIO;
	output.data = vzalloc(OUTPUT_SIZE);
	if (!output.data)
		return -ENOMEM;
	err = set_cpus_allowed_ptr(current, cpumask_of(0));
	if (!err) {
		measure_clock();
		err = measure();
	}
	if (err) {
		vfree(output.data);
		return err;
	}
	directory = debugfs_create_dir(KBUILD_MODNAME, NULL);
	debugfs_create_blob("samples", 0444, directory, &output);
	return 0;
}

void bench_exit(void)
{
	debugfs_remove(directory);
	vfree(output.data);
}
