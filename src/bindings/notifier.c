// SPDX-License-Identifier: GPL-2.0
/* Reports network devices of tun, in all network namespaces, to src/backpressure.rs. */

#include <linux/jiffies.h>
#include <linux/netdevice.h>
#include <linux/notifier.h>
#include <linux/rtnetlink.h>
#include <linux/rwsem.h>
#include <net/net_namespace.h>
#include <net/rtnetlink.h>

#include "helpers.h"

static bool is_tun(const struct net_device *dev)
{
	return dev->rtnl_link_ops && !strcmp(dev->rtnl_link_ops->kind, "tun");
}

static int device_event(struct notifier_block *nb, unsigned long event, void *info)
{
	struct net_device *dev = netdev_notifier_info_to_dev(info);

	if (!is_tun(dev))
		return NOTIFY_DONE;
	if (event == NETDEV_UNREGISTER) {
		/* Not if it moves to another namespace, or if the notifier is being unregistered. */
		if (dev->reg_state != NETREG_REGISTERED)
			tuntap_ring_device_gone(dev);
	} else if (dev->reg_state == NETREG_REGISTERED) {
		tuntap_ring_device_changed(dev);
	}
	return NOTIFY_DONE;
}

static struct notifier_block notifier = {
	.notifier_call = device_event,
};

int tuntap_ring_helper_follow_devices(void)
{
	return register_netdevice_notifier(&notifier);
}

void tuntap_ring_helper_unfollow_devices(void)
{
	unregister_netdevice_notifier(&notifier);
}

/* The caller holds RTNL. */
void tuntap_ring_helper_describe(const struct net_device *dev, struct tuntap_ring_device *device)
{
	unsigned int i, ms;
	unsigned long then, now;

	*device = (struct tuntap_ring_device) {
		.namespace = dev_net(dev)->ns.inum,
		.index = dev->ifindex,
		.queues = dev->real_num_tx_queues,
	};
	if (!netif_running(dev))
		return;
	for (i = 0; i < dev->real_num_tx_queues; i++) {
		const struct netdev_queue *queue = netdev_get_tx_queue(dev, i);

		if (!netif_tx_queue_stopped(queue))
			continue;
		/* Another CPU may wake the queue and send meanwhile: read the older time first. */
		then = smp_load_acquire(&queue->trans_start);
		now = READ_ONCE(jiffies);
		ms = time_after(now, then) ? jiffies_to_msecs(now - then) : 0;
		if (!device->stopped++ || ms > device->stopped_ms) {
			device->stopped_queue = i;
			device->stopped_ms = ms;
		}
	}
}

/* Calls FOUND for each device. The caller holds RTNL. */
void tuntap_ring_helper_each_device(tuntap_ring_device_t found, void *data)
{
	struct net_device *dev;
	struct net *net;

	ASSERT_RTNL();
	down_read(&net_rwsem);
	for_each_net(net)
		for_each_netdev(net, dev)
			if (is_tun(dev))
				found(dev, data);
	up_read(&net_rwsem);
}
