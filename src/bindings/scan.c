// SPDX-License-Identifier: GPL-2.0
/* The work that scans the devices for stalled queues and sizes their rings: src/backpressure.rs. */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/jiffies.h>
#include <linux/ktime.h>
#include <linux/minmax.h>
#include <linux/netdevice.h>
#include <linux/printk.h>
#include <linux/ptr_ring.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/workqueue.h>
#include <net/sch_generic.h>

#include "helpers.h"

static void scan(struct work_struct *work);
static DECLARE_DELAYED_WORK(scan_work, scan);

static void scan(struct work_struct *work)
{
	unsigned int ms = tuntap_ring_scan(ktime_to_ms(ktime_get()));

	if (ms)
		tuntap_ring_helper_scan_in(ms);
}

/* An earlier scan that is already due stays. */
void tuntap_ring_helper_scan_in(unsigned int ms)
{
	queue_delayed_work(system_dfl_wq, &scan_work, max(1UL, msecs_to_jiffies(ms)));
}

void tuntap_ring_helper_scan_now(void)
{
	mod_delayed_work(system_dfl_wq, &scan_work, 0);
}

/* The caller does not hold RTNL, which a scan takes. */
void tuntap_ring_helper_stop_scans(void)
{
	cancel_delayed_work_sync(&scan_work);
}

void tuntap_ring_helper_report_stall(const struct net_device *dev, unsigned int queue,
				     unsigned int stopped_ms)
{
	pr_warn_ratelimited("%s: consumer stalled, queue %u has been stopped for %u ms; dropping packets until it reads\n",
			    dev->name, queue, stopped_ms);
}

/* Returns whether packets wait in the qdisc of a queue. */
bool tuntap_ring_helper_has_backlog(const struct net_device *dev, unsigned long queue)
{
	const struct Qdisc *qdisc;
	bool has_backlog;

	rcu_read_lock();
	qdisc = rcu_dereference(netdev_get_tx_queue(dev, queue)->qdisc);
	has_backlog = qdisc && qdisc_qlen_sum(qdisc);
	rcu_read_unlock();
	return has_backlog;
}

/* Returns NULL if there is no memory. May sleep. */
void **tuntap_ring_helper_new_slots(int count)
{
	return kvcalloc(count, sizeof(void *), GFP_KERNEL);
}

/* The caller holds both locks of the ring, whose entries fit. Returns the old array. */
void **tuntap_ring_helper_swap_slots(struct ptr_ring *ring, void **slots, int count)
{
	return __ptr_ring_swap_queue(ring, slots, count, GFP_KERNEL, NULL);
}

void tuntap_ring_helper_free_slots(void **slots)
{
	kvfree(slots);
}
