# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# What scripts in a guest share that compare the kernel's own vhost_net with ours. To be sourced
# there.

TRACING=/sys/kernel/tracing
WAKE=$TRACING/events/ring/wake
WAKES_BY=hist:keys=common_type # what they are counted by; one that sources this may change it

# counter NAME: one of tuntap_ring's own, 0 without the module
counter() { cat "/sys/kernel/debug/tuntap_ring/$1" 2>/dev/null || echo 0; }

# load_vhost stock|ours [MODULE...]: anew, ours as modprobe finds it, or these files, each with its
# parameters in the same argument
load_vhost() {
	local which=$1 module
	shift
	rmmod vhost_net tuntap_ring 2>/dev/null || true
	modprobe -a vhost tun tap
	if [ "$which" = stock ]; then
		modprobe "$(echo /lib/modules/"$(uname -r)"/kernel/drivers/vhost/vhost_net.ko*)"
	elif [ $# = 0 ]; then
		modprobe vhost_net
	else
		for module; do
			# shellcheck disable=SC2086 # a list
			insmod $module
		done
	fi
	# What was there before may not have gone. (modprobe loads tuntap_ring beside the kernel's own, too:
	# the index has it for the name.)
	[ "$which" = "$([ -e /sys/module/tuntap_ring/holders/vhost_net ] && echo ours || echo stock)" ] || {
		echo "not the vhost_net that was asked for: the one before was still in use" >&2
		return 1
	}
}

# Counts calls of netif_tx_wake_queue() that found the queue stopped by the driver (bit 0), so that
# calls without effect are left out, with either consumer.
watch_wakes() {
	echo 'p:ring/wake netif_tx_wake_queue state=dev_queue->state' >"$TRACING/kprobe_events"
	echo "$WAKES_BY if state & 1" >"$WAKE/trigger"
}

# Without a probe a wake costs less.
forget_wakes() {
	echo "!$WAKES_BY if state & 1" >"$WAKE/trigger"
	echo >"$TRACING/kprobe_events"
}

# wakes: how many so far
wakes() {
	awk '/Hits:/ { hits = $2 } END { print hits + 0 }' "$WAKE/hist"
}
