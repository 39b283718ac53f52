// SPDX-License-Identifier: GPL-2.0
//
// Changes the kernel's drivers/vhost/net.c to take batches off the ring with tuntap_ring.
// For each rule a script below names the spot if a kernel's source does not match.

virtual patch

@ includes @
@@
 #include "vhost.h"
+#include "consumer.h"

@ member @
@@
 struct vhost_net_virtqueue {
	...
	struct ptr_ring *rx_ring;
+	/* The consumer of rx_ring; set together with it. */
+	enum vhost_net_consumer consumer;
	...
 };

@ take_batch @
identifier sk, nvq, file, rxq;
@@
 static int vhost_net_buf_produce(struct sock *sk, struct vhost_net_virtqueue *nvq)
 {
	struct file *file = sk->sk_socket->file;
	struct vhost_net_buf *rxq = &nvq->rxq;
	...
	rxq->head = 0;
+	if (nvq->consumer != VHOST_NET_CONSUMER_KERNEL) {
+		int taken = vhost_net_consume(nvq->consumer, file, nvq->rx_ring, rxq->queue,
+					      VHOST_NET_BATCH);
+
+		if (likely(taken >= 0)) {
+			rxq->tail = taken;
+			return taken;
+		}
+		/* The file is rejected: continue as without tuntap_ring. */
+		nvq->consumer = VHOST_NET_CONSUMER_KERNEL;
+	}
	spin_lock(&nvq->rx_ring->consumer_lock);
	...
 }

@ set_backend @
expression nvq, file;
@@
 vhost_net_set_backend(...)
 {
	<+...
	nvq->rx_ring = get_tap_ptr_ring(file);
+	nvq->consumer = vhost_net_consumer_of(file);
	...+>
 }

@ check_build @
@@
 static int vhost_net_init(void)
 {
+	int err = vhost_net_check_build();
+
+	if (err)
+		return err;
	...
 }

@ script:python depends on !includes @
@@
print("MISSING #include \"vhost.h\"")

@ script:python depends on !member @
@@
print("MISSING struct vhost_net_virtqueue: its member rx_ring")

@ script:python depends on !take_batch @
@@
print("MISSING vhost_net_buf_produce(): where the batch is taken under the consumer lock")

@ script:python depends on !set_backend @
@@
print("MISSING vhost_net_set_backend(): where rx_ring is set")

@ script:python depends on !check_build @
@@
print("MISSING vhost_net_init(): its beginning")
