// SPDX-License-Identifier: GPL-2.0
/*
 * Lets tests in user space call the exports of tuntap_ring, and read the state
 * of rings and queues. For tests only: a user of the device can hang the machine.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/atomic.h>
#include <linux/cleanup.h>
#include <linux/file.h>
#include <linux/fprobe.h>
#include <linux/if_tap.h>
#include <linux/if_tun.h>
#include <linux/jiffies.h>
#include <linux/kallsyms.h>
#include <linux/kprobes.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/netdevice.h>
#include <linux/nsproxy.h>
#include <linux/ptr_ring.h>
#include <linux/skbuff.h>
#include <linux/slab.h>
#include <linux/tuntap_ring.h>
#include <linux/uaccess.h>
#include <linux/unaligned.h>
#include <net/xdp.h>

#include "tuntap_ring_test.h"

/* The value of an array element that was not written. */
#define UNTOUCHED	((void *)POISON_POINTER_DELTA)

/*
 * The longest time to hold a consumer: less than a VM reports as a soft lockup
 * (120 s) or an RCU stall (180 s).
 */
#define HOLD_TIMEOUT	(100 * HZ)

enum hold {
	HOLD_NONE,
	HOLD_NEXT,
	HOLD_HELD,
};

/* An open file of /dev/tuntap-ring-test. */
struct test {
	struct mutex lock;	/* one WATCH at a time */
	struct file *file;
	struct ptr_ring *ring;
	struct netdev_queue *queue;
	bool all_consumers;
	struct fprobe wake;
	atomic_t wakes;
	atomic_t wakes_while_full;
	struct fprobe between;
	struct kprobe before_check;
	bool was_stopped;
	atomic_t hold;
};

static struct ptr_ring *ring_of(struct file *file, u32 kind)
{
	switch (kind) {
	case TUNTAP_RING_TEST_TUN:
		return tun_get_tx_ring(file);
	case TUNTAP_RING_TEST_TAP:
		return tap_get_ptr_ring(file);
	default:
		return ERR_PTR(-EINVAL);
	}
}

static void describe(void *ptr, struct tuntap_ring_test_entry *entry)
{
	u8 number[sizeof(entry->number)] = {};

	entry->entry = (unsigned long)ptr;
	entry->is_xdp = tun_is_xdp_frame(ptr);
	if (entry->is_xdp) {
		struct xdp_frame *frame = tun_ptr_to_xdp(ptr);

		entry->length = frame->len;
		if (entry->length >= sizeof(number))
			memcpy(number,
			       frame->data + frame->len - sizeof(number),
			       sizeof(number));
	} else {
		struct sk_buff *skb = ptr;

		entry->length = skb->len;
		if (entry->length >= sizeof(number))
			skb_copy_bits(skb, skb->len - sizeof(number), number,
				      sizeof(number));
	}
	entry->number = get_unaligned_be64(number);
}

/* Counts the written elements among @n pointers at @array. */
static unsigned int count_written(void **array, size_t n)
{
	unsigned int written = 0;
	size_t i;

	for (i = 0; i < n; i++)
		written += array[i] != UNTOUCHED;
	return written;
}

static int consume(struct tuntap_ring_test_consume *arg)
{
	struct tuntap_ring_test_entry *entries __free(kvfree) = NULL;
	void **array __free(kvfree) = NULL;
	struct ptr_ring *ring = NULL;
	struct file *file = NULL;
	size_t room, i, taken, kept;

	CLASS(fd, f)(arg->fd);

	if (arg->fd >= 0) {
		file = fd_file(f);
		if (!file)
			return -EBADF;
		ring = ring_of(file, arg->kind);
	}

	/* A call takes at most as many entries as the ring has slots. */
	room = clamp(arg->n, 0, TUNTAP_RING_TEST_MAX);
	if (!IS_ERR_OR_NULL(ring) && arg->n > TUNTAP_RING_TEST_MAX &&
	    READ_ONCE(ring->size) > TUNTAP_RING_TEST_MAX)
		return -E2BIG;

	/* One more element in front, and one more behind. */
	array = kvmalloc_array(room + 2, sizeof(*array), GFP_KERNEL);
	entries = kvcalloc(room + 1, sizeof(*entries), GFP_KERNEL);
	if (!array || !entries)
		return -ENOMEM;
	for (i = 0; i < room + 2; i++)
		array[i] = UNTOUCHED;

	if (arg->kind == TUNTAP_RING_TEST_TUN)
		arg->taken = tun_ring_consume_batched(file, array + 1, arg->n);
	else
		arg->taken = tap_ring_consume_batched(file, array + 1, arg->n);

	taken = clamp_t(size_t, max(arg->taken, 0), 0, room);
	arg->strays = count_written(array, 1) +
		      count_written(array + 1 + taken, room + 1 - taken);

	for (i = 0; i < taken; i++)
		describe(array[i + 1], &entries[i]);
	kept = taken - min_t(size_t, arg->unconsume, taken);
	for (i = 0; i < kept; i++)
		tun_ptr_free(array[i + 1]);
	if (kept < taken)
		ptr_ring_unconsume(ring, array + 1 + kept, taken - kept,
				   tun_ptr_free);

	if (arg->entries &&
	    copy_to_user(u64_to_user_ptr(arg->entries), entries,
			 min_t(size_t, taken, arg->room) * sizeof(*entries)))
		return -EFAULT;
	return 0;
}

static int read_ring(struct tuntap_ring_test_ring *arg)
{
	struct ptr_ring *ring;
	int i;

	CLASS(fd, f)(arg->fd);

	if (fd_empty(f))
		return -EBADF;
	ring = ring_of(fd_file(f), arg->kind);
	if (IS_ERR(ring))
		return PTR_ERR(ring);

	arg->occupied = 0;
	spin_lock_bh(&ring->consumer_lock);
	spin_lock(&ring->producer_lock);
	arg->size = ring->size;
	arg->batch = ring->batch;
	arg->producer = ring->producer;
	arg->head = ring->consumer_head;
	arg->tail = ring->consumer_tail;
	for (i = 0; i < ring->size; i++)
		arg->occupied += !!ring->queue[i];
	arg->has_room = !__ptr_ring_check_produce(ring);
	spin_unlock(&ring->producer_lock);
	spin_unlock_bh(&ring->consumer_lock);
	return 0;
}

/* Returns the queue, and takes a reference to its device. */
static struct netdev_queue *get_queue(struct tuntap_ring_test_queue *arg)
{
	struct net_device *dev;

	arg->device[IFNAMSIZ - 1] = '\0';
	dev = dev_get_by_name(current->nsproxy->net_ns, arg->device);
	if (!dev)
		return ERR_PTR(-ENODEV);
	arg->num_tx_queues = dev->num_tx_queues;
	if (arg->index >= dev->num_tx_queues) {
		dev_put(dev);
		return ERR_PTR(-ERANGE);
	}
	return netdev_get_tx_queue(dev, arg->index);
}

static int read_queue(struct tuntap_ring_test_queue *arg, bool stop)
{
	struct netdev_queue *queue = get_queue(arg);

	if (IS_ERR(queue))
		return PTR_ERR(queue);
	if (stop)
		netif_tx_stop_queue(queue);
	arg->is_stopped = netif_tx_queue_stopped(queue);
	dev_put(queue->dev);
	return 0;
}

#if defined(CONFIG_FPROBE) && defined(CONFIG_KPROBES)
/*
 * Whether an address is in the code of a consumer: in tuntap_ring, or, with
 * all_consumers, in functions that read() or the vhost_net of 7.3 call.
 */
static bool is_consumer(const struct test *test, unsigned long address)
{
	char symbol[KSYM_SYMBOL_LEN];

	sprint_symbol(symbol, address);
	return strstr(symbol, "[tuntap_ring]") ||
	       (test->all_consumers && (strstr(symbol, "tun_wake_queue") ||
					strstr(symbol, "tun_do_read") ||
					strstr(symbol, "tun_ring_consume")));
}

/* Runs on entry of netif_tx_wake_queue(). */
static int on_wake(struct fprobe *probe, unsigned long entry_ip,
		   unsigned long ret_ip, struct ftrace_regs *regs, void *data)
{
	struct test *test = container_of(probe, struct test, wake);
	struct netdev_queue *queue;

	queue = (struct netdev_queue *)ftrace_regs_get_argument(regs, 0);
	if (queue != test->queue || !netif_tx_queue_stopped(queue) ||
	    !is_consumer(test, ret_ip))
		return 0;
	atomic_inc(&test->wakes);
	/* The consumer holds both locks. */
	if (__ptr_ring_check_produce(test->ring) == -ENOSPC)
		atomic_inc(&test->wakes_while_full);
	return 0;
}

static void hold(struct test *test)
{
	unsigned long end = jiffies + HOLD_TIMEOUT;

	if (atomic_read(&test->hold) != HOLD_NEXT)
		return;
	/* No reference to the device: the tests keep it. */
	WRITE_ONCE(test->was_stopped, netif_tx_queue_stopped(test->queue));
	if (atomic_cmpxchg(&test->hold, HOLD_NEXT, HOLD_HELD) != HOLD_NEXT)
		return;
	while (atomic_read(&test->hold) == HOLD_HELD &&
	       time_before(jiffies, end))
		cpu_relax();
	atomic_set(&test->hold, HOLD_NONE);
}

/*
 * Runs when tuntap_ring is between its two critical sections; for the in-kernel
 * consumer, before it checks the queue.
 */
static int on_between(struct fprobe *probe, unsigned long entry_ip,
		      unsigned long ret_ip, struct ftrace_regs *regs,
		      void *data)
{
	hold(container_of(probe, struct test, between));
	return 0;
}

/* Runs before tuntap_ring checks the queue, in a function without an ftrace entry. */
static int on_before_check(struct kprobe *probe, struct pt_regs *regs)
{
	hold(container_of(probe, struct test, before_check));
	return 0;
}

/* A kernel built with clang inlines that function, so its consumers are not held. */
static int register_between(struct test *test, bool all_consumers)
{
	const char **symbol = (const char *[]) {
		all_consumers ? "tun_wake_queue" :
				"tuntap_ring_helper_local_bh_disable",
	};
	int err;

	test->between.entry_handler = on_between;
	err = register_fprobe_syms(&test->between, symbol, 1);
	if (err || !all_consumers)
		return err;
	test->before_check.symbol_name = "rust_helper_rcu_read_lock";
	test->before_check.pre_handler = on_before_check;
	err = register_kprobe(&test->before_check);
	if (err)
		unregister_fprobe(&test->between);
	return err;
}

static int watch(struct test *test, struct tuntap_ring_test_watch *arg)
{
	const char **wake = (const char *[]) { "netif_tx_wake_queue" };
	struct netdev_queue *queue;
	struct ptr_ring *ring;
	int err;

	CLASS(fd, f)(arg->fd);

	if (fd_empty(f))
		return -EBADF;
	ring = ring_of(fd_file(f), arg->kind);
	if (IS_ERR(ring))
		return PTR_ERR(ring);

	guard(mutex)(&test->lock);
	if (test->file)
		return -EBUSY;
	queue = get_queue(&arg->queue);
	if (IS_ERR(queue))
		return PTR_ERR(queue);
	/* From here on the pointer is only compared. */
	dev_put(queue->dev);

	test->queue = queue;
	test->ring = ring;
	test->all_consumers = arg->all_consumers;
	test->wake.entry_handler = on_wake;
	err = register_fprobe_syms(&test->wake, wake, 1);
	if (err)
		return err;
	err = register_between(test, arg->all_consumers);
	if (err) {
		unregister_fprobe(&test->wake);
		return err;
	}
	/* The ring lives as long as its file. */
	test->file = get_file(fd_file(f));
	return 0;
}

static void unwatch(struct test *test)
{
	if (test->all_consumers)
		unregister_kprobe(&test->before_check);
	unregister_fprobe(&test->between);
	unregister_fprobe(&test->wake);
	fput(test->file);
}
#else
static int watch(struct test *test, struct tuntap_ring_test_watch *arg)
{
	return -EOPNOTSUPP;
}

static void unwatch(struct test *test)
{
}
#endif

static long test_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct test *test = file->private_data;
	void __user *user = (void __user *)arg;
	union {
		struct tuntap_ring_test_consume consume;
		struct tuntap_ring_test_ring ring;
		struct tuntap_ring_test_queue queue;
		struct tuntap_ring_test_watch watch;
		struct tuntap_ring_test_watched watched;
	} u = {};
	int err = 0;

	if (_IOC_SIZE(cmd) > sizeof(u))
		return -ENOTTY;
	if ((_IOC_DIR(cmd) & _IOC_WRITE) &&
	    copy_from_user(&u, user, _IOC_SIZE(cmd)))
		return -EFAULT;

	switch (cmd) {
	case TUNTAP_RING_TEST_CONSUME:
		err = consume(&u.consume);
		break;
	case TUNTAP_RING_TEST_RING:
		err = read_ring(&u.ring);
		break;
	case TUNTAP_RING_TEST_QUEUE:
	case TUNTAP_RING_TEST_STOP:
		err = read_queue(&u.queue, cmd == TUNTAP_RING_TEST_STOP);
		break;
	case TUNTAP_RING_TEST_WATCH:
		err = watch(test, &u.watch);
		break;
	case TUNTAP_RING_TEST_WATCHED:
		u.watched.wakes = atomic_read(&test->wakes);
		u.watched.wakes_while_full =
			atomic_read(&test->wakes_while_full);
		u.watched.is_held = atomic_read(&test->hold) == HOLD_HELD;
		u.watched.was_stopped = READ_ONCE(test->was_stopped);
		break;
	case TUNTAP_RING_TEST_HOLD:
		atomic_set(&test->hold, HOLD_NEXT);
		break;
	case TUNTAP_RING_TEST_RELEASE:
		atomic_set(&test->hold, HOLD_NONE);
		break;
	default:
		return -ENOTTY;
	}

	if (!err && (_IOC_DIR(cmd) & _IOC_READ) &&
	    copy_to_user(user, &u, _IOC_SIZE(cmd)))
		return -EFAULT;
	return err;
}

static int test_open(struct inode *inode, struct file *file)
{
	struct test *test = kzalloc(sizeof(*test), GFP_KERNEL);

	if (!test)
		return -ENOMEM;
	mutex_init(&test->lock);
	file->private_data = test;
	return 0;
}

static int test_release(struct inode *inode, struct file *file)
{
	struct test *test = file->private_data;

	if (test->file)
		unwatch(test);
	kfree(test);
	return 0;
}

static const struct file_operations test_fops = {
	.owner = THIS_MODULE,
	.open = test_open,
	.release = test_release,
	.unlocked_ioctl = test_ioctl,
};

static struct miscdevice test_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "tuntap-ring-test",
	.fops = &test_fops,
	.mode = 0600,
};
module_misc_device(test_device);

MODULE_AUTHOR("The tuntap-ring developers");
MODULE_DESCRIPTION("Lets tests call tuntap_ring and read the state of rings and queues");
MODULE_LICENSE("GPL");
