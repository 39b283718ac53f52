// SPDX-License-Identifier: GPL-2.0
/*
 * A live patch of the in-kernel vhost_net. The patched vhost_net takes its batches off a ring with tuntap_ring; virtual
 * machines keep running. Disabling the patch restores vhost_net.
 *
 * The patch replaces one function, the only way from a virtqueue to the batch that vhost_net has taken.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/err.h>
#include <linux/errno.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/net.h>
#include <linux/ptr_ring.h>
#include <linux/skb_array.h>
#include <linux/string.h>
#include <linux/tuntap_ring.h>
#include <net/sock.h>
#include <net/xdp.h>

#include "share.h"
#include "vhost_net_build_id.h"
#include "vhost_net_layouts.h"

/* The number of entries that vhost_net allocates room for. A test compares it with the kernel's source. */
#define VHOST_NET_BATCH 64

/* Private to vhost_net. */
struct vhost_net_virtqueue;
struct vhost_net_buf {
	char bytes[SIZE_vhost_net_virtqueue_rxq];
};

/* A member of a private structure, at the offset from the BTF of the target's vhost_net. */
#define member(pointer, structure, field, type)						\
({											\
	static_assert(sizeof(type) == SIZE_##structure##_##field);			\
	(type *)((char *)(pointer) + OFFSET_##structure##_##field);			\
})

/* Consumes as without tuntap_ring, for a file that tuntap_ring rejects. */
static int consume_unpatched(struct file *file, struct ptr_ring *ring, void **queue)
{
	int taken;

	spin_lock(&ring->consumer_lock);
	taken = __ptr_ring_consume_batched(ring, queue, VHOST_NET_BATCH);
	if (taken)
		tun_wake_queue(file, taken);
	spin_unlock(&ring->consumer_lock);
	return taken;
}

static int consume(struct file *file, struct ptr_ring *ring, void **queue)
{
	int n = vhost_net_share(ring, VHOST_NET_BATCH), taken;

	if (!IS_ERR(tun_get_tx_ring(file)))
		taken = tun_ring_consume_batched(file, queue, n);
	else
		taken = tap_ring_consume_batched(file, queue, n);
	return likely(taken >= 0) ? taken : consume_unpatched(file, ring, queue);
}

/* Returns the length of a packet. */
static int length_of(void *entry)
{
	if (tun_is_xdp_frame(entry))
		return tun_ptr_to_xdp(entry)->len;
	return __skb_array_len_with_tag(entry);
}

/*
 * Replaces the function of that name: returns the length of the next packet, 0 if there is none.
 *
 * Context: vhost's worker.
 */
static int vhost_net_buf_peek(struct sock *sk, struct vhost_net_virtqueue *nvq)
{
	struct vhost_net_buf *rxq = member(nvq, vhost_net_virtqueue, rxq, struct vhost_net_buf);
	struct ptr_ring *ring = *member(nvq, vhost_net_virtqueue, rx_ring, struct ptr_ring *);
	void **queue = *member(rxq, vhost_net_buf, queue, void **);
	int *tail = member(rxq, vhost_net_buf, tail, int);
	int *head = member(rxq, vhost_net_buf, head, int);

	if (*head == *tail) {
		*head = 0;
		*tail = consume(sk->sk_socket->file, ring, queue);
		if (!*tail)
			return 0;
	}
	return length_of(queue[*head]);
}

static struct klp_func functions[] = {
	{
		.old_name = "vhost_net_buf_peek",
		.new_func = vhost_net_buf_peek,
	},
	{}
};

static struct klp_object objects[] = {
	{
		.name = "vhost_net",
		.funcs = functions,
	},
	{}
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objects,
};

/* The patched vhost_net. It stays loaded until this module is unloaded, so no other build can replace it. */
static struct module *vhost_net;

/* Finds vhost_net through a file of its device, and takes a reference to it. */
static int get_vhost_net(void)
{
	struct file *file = filp_open("/dev/vhost-net", O_RDWR, 0);

	if (IS_ERR(file)) {
		pr_err("cannot open /dev/vhost-net (%ld); load vhost_net\n", PTR_ERR(file));
		return -ENODEV;
	}
	vhost_net = file->f_op->owner;
	/* NULL if vhost_net is built in; another module if /dev/vhost-net is another device. */
	if (!vhost_net || strcmp(module_name(vhost_net), "vhost_net")) {
		pr_err("/dev/vhost-net is not of the module vhost_net (%d)\n", -ENODEV);
		filp_close(file, NULL);
		return -ENODEV;
	}
	__module_get(vhost_net);
	filp_close(file, NULL);
	return 0;
}

static int check_vhost_net(void)
{
	int err = tuntap_ring_check_build("vhost_net", vhost_net_build_id,
					  sizeof(vhost_net_build_id));

	if (err == -ENOEXEC)
		pr_err("vhost_net is of another build (%d) and stays as it is; rebuild this module for it\n",
		       err);
	else if (err)
		pr_err("cannot read the build ID of vhost_net below /sys (%d); mount sysfs there\n",
		       err);
	return err;
}

static int __init livepatch_init(void)
{
	int err = get_vhost_net();

	if (err)
		return err;
	err = check_vhost_net();
	if (!err)
		err = klp_enable_patch(&patch);
	if (err)
		module_put(vhost_net);
	return err;
}

/* The patch is disabled, and its transition is complete: until then it has a reference to this module. */
static void __exit livepatch_exit(void)
{
	module_put(vhost_net);
}

module_init(livepatch_init);
module_exit(livepatch_exit);

MODULE_INFO(livepatch, "Y");
MODULE_SOFTDEP("pre: vhost_net");
MODULE_DESCRIPTION("Live patch: vhost_net takes its batches with tuntap_ring");
MODULE_AUTHOR("The tuntap-ring developers");
MODULE_LICENSE("GPL");
