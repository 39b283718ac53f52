// SPDX-License-Identifier: GPL-2.0
/*
 * Compares tuntap_ring's export with the consumer in vhost-net of Linux 7.3, on two
 * tun files. The latter calls __ptr_ring_consume_batched() and tun_wake_queue()
 * under the consumer lock.
 *
 *                   +--> tested    --> tun_ring_consume_batched() ------+
 *   tun_net_xmit() -+                                                   +-> equal?
 *                   +--> reference --> __ptr_ring_consume_batched(), ---+
 *                                      tun_wake_queue()
 *
 * By design, tuntap_ring counts freed slots, from checkpoint to checkpoint, and not
 * consumed entries. So this test passes the number of these slots to
 * tun_wake_queue(), if there are any or the ring is empty. Then cons_cnt, the state
 * of the queue and its wakes must be equal. The difference from tun's own count is
 * checked as well: since the stop it must be less than a batch plus the distance of
 * two checkpoints. It is not checked after ptr_ring_unconsume(), which frees slots
 * that tuntap_ring does not count.
 */

#include <linux/fs.h>
#include <linux/fs_struct.h>
#include <linux/if_tun.h>
#include <linux/math64.h>
#include <linux/mman.h>
#include <linux/rtnetlink.h>
#include <linux/skbuff.h>
#include <linux/tuntap_ring.h>
#include <linux/uaccess.h>

#include "kunit.h"

#define MOST_SLOTS	1024
#define MOST_REQUESTED	128

struct side {
	struct file *file;
	struct net_device *dev;
	struct netdev_queue *queue;
	struct ptr_ring *ring;
	int *cons_cnt;
	void *out[MOST_REQUESTED];
};

struct sides {
	struct kunit *test;
	struct rnd_state rnd;
	unsigned long step;
	struct side tested;
	struct side reference;
	u32 sent;

	/* Entries consumed since the stop; -1 if they were not counted. */
	int consumed_since;

	unsigned long consumed;
	unsigned long wakes;
	unsigned long unconsumed;
	int furthest_ahead;
	int furthest_behind;
};

#define FAIL(s, fmt, ...)						\
	KUNIT_FAIL_AND_ABORT((s)->test,					\
		"step %lu, ring of %d by %d, head %d, tail %d: " fmt,	\
		(s)->step, (s)->reference.ring->size,			\
		(s)->reference.ring->batch,				\
		(s)->reference.ring->consumer_head,			\
		(s)->reference.ring->consumer_tail, ##__VA_ARGS__)

static void close_file(void *file)
{
	filp_close(file, NULL);
}

static struct file *open_tun(struct kunit *test)
{
	struct file *file;

	/* A kernel thread has no file system of its own. */
	scoped_with_init_fs()
		file = filp_open("/dev/net/tun", O_RDWR, 0);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, file);
	KUNIT_ASSERT_EQ(test, 0,
			kunit_add_action_or_reset(test, close_file, file));
	return file;
}

static void put_device_of(void *dev)
{
	dev_put(dev);
}

static void open_tap(struct kunit *test, struct side *side)
{
	struct ifreq ifr = {
		.ifr_name = "kunit%d",
		.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_BACKPRESSURE,
	};
	void __user *user;

	side->file = open_tun(test);

	/* The driver takes its requests from user space only. */
	user = (void __user *)kunit_vm_mmap(test, NULL, 0, PAGE_SIZE,
					    PROT_READ | PROT_WRITE,
					    MAP_ANONYMOUS | MAP_PRIVATE, 0);
	KUNIT_ASSERT_NOT_NULL(test, (void __force *)user);
	KUNIT_ASSERT_FALSE(test, IS_ERR_VALUE((unsigned long)user));
	KUNIT_ASSERT_EQ(test, 0, copy_to_user(user, &ifr, sizeof(ifr)));
	KUNIT_ASSERT_EQ(test, 0,
			side->file->f_op->unlocked_ioctl(side->file, TUNSETIFF,
							 (unsigned long)user));
	KUNIT_ASSERT_EQ(test, 0, copy_from_user(&ifr, user, sizeof(ifr)));

	side->dev = dev_get_by_name(&init_net, ifr.ifr_name);
	KUNIT_ASSERT_NOT_NULL(test, side->dev);
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, put_device_of,
							   side->dev));
	side->queue = netdev_get_tx_queue(side->dev, 0);
	side->ring = tun_get_tx_ring(side->file);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, side->ring);
	side->cons_cnt = tuntap_ring_kunit_cons_cnt(side->ring);

	rtnl_lock();
	KUNIT_EXPECT_EQ(test, 0, dev_open(side->dev, NULL));
	rtnl_unlock();
}

/* Restarts the count of consumed entries; a stopped queue is not counted. */
static void restart_count(struct sides *s)
{
	s->consumed_since = netif_tx_queue_stopped(s->reference.queue) ? -1 : 0;
}

static int transmit(struct sides *s, struct side *side)
{
	struct sk_buff *skb = alloc_skb(ETH_ZLEN, GFP_KERNEL);
	int ret;

	KUNIT_ASSERT_NOT_NULL(s->test, skb);
	skb_put_zero(skb, ETH_ZLEN);
	skb_reset_mac_header(skb);
	skb->dev = side->dev;
	skb->mark = s->sent;
	local_bh_disable();
	ret = side->dev->netdev_ops->ndo_start_xmit(skb, side->dev);
	local_bh_enable();
	return ret;
}

static void send(struct sides *s)
{
	int n = magnitude(&s->rnd, 64);

	while (n--) {
		int tested, reference;

		/* Most packets come through the qdisc, some bypass it. */
		if (netif_tx_queue_stopped(s->reference.queue) &&
		    below(&s->rnd, 8))
			return;
		tested = transmit(s, &s->tested);
		reference = transmit(s, &s->reference);
		if (tested != reference)
			FAIL(s, "tun_net_xmit: %d, not %d", tested, reference);
		s->sent++;
		if (reference != NETDEV_TX_OK)
			return;
	}
}

static int consume_reference(struct side *side, int n)
{
	struct ptr_ring *ring = side->ring;
	int tail, taken, freed, passed;

	spin_lock(&ring->consumer_lock);
	tail = ring->consumer_tail;
	freed = ring->consumer_head - tail;
	taken = __ptr_ring_consume_batched(ring, side->out, n);
	freed += taken - (ring->consumer_head - ring->consumer_tail);
	passed = freed_at_checkpoint(ring, tail, freed);
	if (passed || (taken && __ptr_ring_empty(ring)))
		tun_wake_queue(side->file, passed);
	spin_unlock(&ring->consumer_lock);
	return taken;
}

/* Checks the difference of cons_cnt from tun's own count. */
static void compare_counts(struct sides *s, int taken, bool was_stopped)
{
	int most = s->tested.ring->batch + stride_of(s->tested.ring), ahead;

	if (!netif_tx_queue_stopped(s->tested.queue)) {
		s->wakes += was_stopped;
		s->consumed_since = 0;
		return;
	}
	if (s->consumed_since < 0 || !netif_running(s->tested.dev))
		return;
	s->consumed_since += taken;
	ahead = *s->tested.cons_cnt - s->consumed_since;
	if (abs(ahead) >= most)
		FAIL(s, "%d entries since the stop, but cons_cnt is %d",
		     s->consumed_since, *s->tested.cons_cnt);
	s->furthest_ahead = max(s->furthest_ahead, ahead);
	s->furthest_behind = max(s->furthest_behind, -ahead);
}

static u32 mark_of(const void *entry)
{
	return ((const struct sk_buff *)entry)->mark;
}

static void consume(struct sides *s)
{
	bool was_stopped = netif_tx_queue_stopped(s->tested.queue);
	int n = magnitude(&s->rnd, MOST_REQUESTED), back = 0, tested, reference, i;

	tested = tun_ring_consume_batched(s->tested.file, s->tested.out, n);
	reference = consume_reference(&s->reference, n);
	if (tested != reference)
		FAIL(s, "consuming %d: %d taken, not %d", n, tested, reference);
	for (i = 0; i < tested; i++)
		if (mark_of(s->tested.out[i]) != mark_of(s->reference.out[i]))
			FAIL(s, "consuming %d: frame %u, not %u", n,
			     mark_of(s->tested.out[i]), mark_of(s->reference.out[i]));
	s->consumed += tested;
	compare_counts(s, tested, was_stopped);

	if (!below(&s->rnd, 16))
		back = below(&s->rnd, tested + 1);
	for (i = 0; i < tested - back; i++) {
		tun_ptr_free(s->tested.out[i]);
		tun_ptr_free(s->reference.out[i]);
	}
	if (back) {
		ptr_ring_unconsume(s->tested.ring, s->tested.out + i, back,
				   tun_ptr_free);
		ptr_ring_unconsume(s->reference.ring, s->reference.out + i, back,
				   tun_ptr_free);
		s->unconsumed += back;
		restart_count(s);
	}
}

/* As `ip link set txqueuelen`. */
static void resize(struct sides *s)
{
	unsigned int size = magnitude(&s->rnd, MOST_SLOTS);

	rtnl_lock();
	s->tested.dev->tx_queue_len = size;
	call_netdevice_notifiers(NETDEV_CHANGE_TX_QUEUE_LEN, s->tested.dev);
	s->reference.dev->tx_queue_len = size;
	call_netdevice_notifiers(NETDEV_CHANGE_TX_QUEUE_LEN, s->reference.dev);
	rtnl_unlock();
	restart_count(s);
}

static void go_up_or_down(struct sides *s)
{
	bool is_up = netif_running(s->tested.dev);

	rtnl_lock();
	if (is_up) {
		dev_close(s->tested.dev);
		dev_close(s->reference.dev);
	} else {
		KUNIT_EXPECT_EQ(s->test, 0, dev_open(s->tested.dev, NULL));
		KUNIT_EXPECT_EQ(s->test, 0, dev_open(s->reference.dev, NULL));
	}
	rtnl_unlock();
	restart_count(s);
}

static void operate(struct sides *s)
{
	/* A device that is down stays down for a short while. */
	if (!below(&s->rnd, netif_running(s->tested.dev) ? 65536 : 64))
		return go_up_or_down(s);

	switch (below(&s->rnd, 512)) {
	case 0:
		return resize(s);
	case 1 ... 200:
		return send(s);
	default:
		return consume(s);
	}
}

static void check(struct sides *s)
{
	const struct ptr_ring *a = s->tested.ring, *b = s->reference.ring;
	int i;

	if (a->consumer_head != b->consumer_head ||
	    a->consumer_tail != b->consumer_tail ||
	    a->producer != b->producer || a->size != b->size)
		FAIL(s, "head %d, tail %d, producer %d, size %d in the tested ring",
		     a->consumer_head, a->consumer_tail, a->producer, a->size);
	for (i = 0; i < a->size; i++)
		if (!a->queue[i] != !b->queue[i])
			FAIL(s, "slot %d is %s", i,
			     a->queue[i] ? "occupied" : "free");
	if (*s->tested.cons_cnt != *s->reference.cons_cnt)
		FAIL(s, "cons_cnt is %d, not %d", *s->tested.cons_cnt,
		     *s->reference.cons_cnt);
	if (netif_tx_queue_stopped(s->tested.queue) !=
	    netif_tx_queue_stopped(s->reference.queue))
		FAIL(s, "the tested queue is %s",
		     netif_tx_queue_stopped(s->tested.queue) ? "stopped" :
							     "running");
}

static void random_operations_match_tun_wake_queue(struct kunit *test)
{
	struct sides *s = kunit_kzalloc(test, sizeof(*s), GFP_KERNEL);
	unsigned long operations = tuntap_ring_kunit_operations / 10;
	u64 start, took;

	KUNIT_ASSERT_NOT_NULL(test, s);
	s->test = test;
	tuntap_ring_kunit_randomize(test, &s->rnd);
	open_tap(test, &s->tested);
	open_tap(test, &s->reference);

	start = ktime_get_ns();
	resize(s);
	for (; s->step < operations; s->step++) {
		operate(s);
		check(s);
		if (!(s->step % 256))
			cond_resched();
	}
	took = div_u64(ktime_get_ns() - start, NSEC_PER_MSEC);
	kunit_info(test, "%lu operations in %llu ms: %u frames, %lu consumed, %lu unconsumed, %lu wakes; cons_cnt at most %d ahead of tun's, and %d behind",
		   s->step, took, s->sent, s->consumed, s->unconsumed,
		   s->wakes, s->furthest_ahead, s->furthest_behind);
	if (operations < 100000)
		return;
	KUNIT_EXPECT_GT(test, s->consumed, 0);
	KUNIT_EXPECT_GT(test, s->unconsumed, 0);
	KUNIT_EXPECT_GT(test, s->wakes, 0);
}

/* Calls for a file that was only opened, and has no slots and no device. */
static void tun_file_without_a_device_is_served(struct kunit *test)
{
	struct side *known = kunit_kzalloc(test, sizeof(*known), GFP_KERNEL);
	struct file *file;
	struct ptr_ring *ring;
	void *out[MOST_REQUESTED];
	int i;

	/* The call for a file with a device checks the layout, so later calls rely on it. */
	KUNIT_ASSERT_NOT_NULL(test, known);
	open_tap(test, known);
	KUNIT_EXPECT_EQ(test, 0,
			tun_ring_consume_batched(known->file, out, MOST_REQUESTED));
	file = open_tun(test);
	for (i = 0; i < 3; i++)
		KUNIT_EXPECT_EQ(test, 0,
				tun_ring_consume_batched(file, out, MOST_REQUESTED));

	/* A call that takes an entry also reads the device pointer. */
	ring = tun_get_tx_ring(file);
	KUNIT_ASSERT_EQ(test, 0, ptr_ring_resize(ring, 1, GFP_KERNEL, NULL));
	KUNIT_ASSERT_EQ(test, 0, ptr_ring_produce_bh(ring, file));
	KUNIT_EXPECT_EQ(test, 1,
			tun_ring_consume_batched(file, out, MOST_REQUESTED));
	KUNIT_EXPECT_PTR_EQ(test, out[0], file);
}

static struct kunit_case tun_cases[] = {
	KUNIT_CASE(tun_file_without_a_device_is_served),
	KUNIT_CASE_SLOW(random_operations_match_tun_wake_queue),
	{}
};

static struct kunit_suite tun_suite = {
	.name = "tuntap_ring_as_tun",
	.test_cases = tun_cases,
};

kunit_test_suite(tun_suite);
