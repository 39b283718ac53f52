# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# Functions to load and watch the in-kernel vhost_net and tuntap_ring. To be sourced in a VM.

TRACING=/sys/kernel/tracing
WAKE=$TRACING/events/ring/wake
WAKES_BY=hist:keys=common_type # the key of the histogram; the sourcing script may change it

# counter NAME: prints a counter of tuntap_ring, 0 without the module
counter() { cat "/sys/kernel/debug/tuntap_ring/$1" 2>/dev/null || echo 0; }

LIVEPATCH=/sys/kernel/livepatch/tuntap_ring_livepatch

# until_patched 0|1: waits until each task runs the in-kernel vhost_net (0) or the patched one (1)
until_patched() {
	local enabled transition
	while :; do
		enabled=0 transition=0
		{ read -r enabled <"$LIVEPATCH/enabled" && read -r transition <"$LIVEPATCH/transition"; } 2>/dev/null || true
		[ "$enabled $transition" != "$1 0" ] || return 0
		sleep 0.1
	done
}

# unload_consumer: unloads the module that calls tuntap_ring
unload_consumer() {
	if [ -e "$LIVEPATCH" ]; then
		echo 0 >"$LIVEPATCH/enabled" && until_patched 0 && rmmod tuntap_ring_livepatch
	else
		rmmod tuntap_ring_vhost_net
	fi
}

# unload_vhost: unloads vhost_net, tuntap_ring and the module that calls it, if loaded
unload_vhost() {
	unload_consumer 2>/dev/null || true
	rmmod vhost_net tuntap_ring 2>/dev/null || true
}

# served_by: prints the consumer of the rings, in-kernel or tuntap_ring
served_by() {
	local module
	for module in livepatch vhost_net; do
		[ ! -e "/sys/module/tuntap_ring/holders/tuntap_ring_$module" ] || { echo tuntap_ring; return; }
	done
	echo in-kernel
}

# load_vhost in-kernel|tuntap_ring [MODULE...]: loads the in-kernel vhost_net again, or vhost_net with tuntap_ring: the
# live patch, or the rebuilt vhost_net without live patching, or these files, each with its parameters in the same
# argument
load_vhost() {
	local which=$1 module
	shift
	unload_vhost
	modprobe -a vhost tun tap
	if [ "$which" = in-kernel ]; then
		modprobe vhost_net
	elif [ $# != 0 ]; then
		[[ $* != *livepatch* ]] || modprobe vhost_net
		for module; do
			# shellcheck disable=SC2086 # a list
			insmod $module
		done
	else
		modprobe -q tuntap_ring_livepatch || modprobe tuntap_ring_vhost_net
	fi
	[ ! -e "$LIVEPATCH" ] || until_patched 1
	# The previous vhost_net may still be in use.
	[ "$which" = "$(served_by)" ] || {
		echo "vhost_net: expected $which, but the previous one is still in use" >&2
		return 1
	}
}

# Counts calls of netif_tx_wake_queue() that find the queue stopped by the driver (bit 0): calls of either
# consumer that have an effect.
watch_wakes() {
	echo 'p:ring/wake netif_tx_wake_queue state=dev_queue->state' >"$TRACING/kprobe_events"
	echo "$WAKES_BY if state & 1" >"$WAKE/trigger"
}

# Removes the probe, which slows each wake down.
forget_wakes() {
	echo "!$WAKES_BY if state & 1" >"$WAKE/trigger"
	echo >"$TRACING/kprobe_events"
}

# wakes: prints their number so far
wakes() {
	awk '/Hits:/ { hits = $2 } END { print hits + 0 }' "$WAKE/hist"
}
