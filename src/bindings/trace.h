/* SPDX-License-Identifier: GPL-2.0 */
/* The module's trace points. src/trace.rs calls them. */

#undef TRACE_SYSTEM
#define TRACE_SYSTEM tuntap_ring

#if !defined(TUNTAP_RING_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define TUNTAP_RING_TRACE_H

#include <linux/netdevice.h>
#include <linux/tracepoint.h>

/*
 * A call of either export, at its end. The queue is -1 and the name of the device
 * is empty for a tun file without a device, and for every tap file, whose device
 * the call does not check. A detached tun file has its last queue.
 */
TRACE_EVENT(consume_batched,
	TP_PROTO(const struct net_device *dev, int queue, unsigned int asked,
		 unsigned int taken, unsigned int freed),
	TP_ARGS(dev, queue, asked, taken, freed),
	TP_STRUCT__entry(
		__string(device, dev ? dev->name : "")
		__field(int, queue)
		__field(unsigned int, asked)
		__field(unsigned int, taken)
		__field(unsigned int, freed)
	),
	TP_fast_assign(
		__assign_str(device);
		__entry->queue = queue;
		__entry->asked = asked;
		__entry->taken = taken;
		__entry->freed = freed;
	),
	TP_printk("device=%s queue=%d asked=%u taken=%u freed=%u", __get_str(device),
		  __entry->queue, __entry->asked, __entry->taken, __entry->freed)
);

/*
 * A call woke a queue; the consume_batched event of the call follows. CONSUMED is
 * the number of slots that were freed while the queue was seen stopped, FILL the
 * number of entries in the ring.
 */
TRACE_EVENT(wake,
	TP_PROTO(const struct net_device *dev, int queue, int consumed, int fill),
	TP_ARGS(dev, queue, consumed, fill),
	TP_STRUCT__entry(
		__string(device, dev ? dev->name : "")
		__field(int, queue)
		__field(int, consumed)
		__field(int, fill)
	),
	TP_fast_assign(
		__assign_str(device);
		__entry->queue = queue;
		__entry->consumed = consumed;
		__entry->fill = fill;
	),
	TP_printk("device=%s queue=%d consumed=%d fill=%d", __get_str(device), __entry->queue,
		  __entry->consumed, __entry->fill)
);

#endif

/* Outside of the guard, as this file is read more than once. */
#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
