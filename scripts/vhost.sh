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

LIVEPATCH=/sys/kernel/livepatch/tuntap_ring_livepatch

# patched 0|1: whether each task runs vhost_net as it was (0), or patched (1)
patched() {
	local enabled=0 transition=0
	{ read -r enabled <"$LIVEPATCH/enabled" && read -r transition <"$LIVEPATCH/transition"; } 2>/dev/null
	[ "$enabled $transition" = "$1 0" ]
}

# switch_on PATTERNS: gives devices of these names backpressure, and has the vhost_net that runs take its batches
# by tuntap_ring
switch_on() {
	modprobe tuntap_ring backpressure="$1" && modprobe tuntap_ring_livepatch && wait_until patched 1
}

# switch_off: undoes that
switch_off() {
	echo 0 >"$LIVEPATCH/enabled" && wait_until patched 0 && rmmod tuntap_ring_livepatch tuntap_ring
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
