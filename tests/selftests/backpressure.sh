#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Tests backpressure with a flood through one queue, for rings of many sizes, and for clients that are fast, slow, or
# stop and go on. Each client waits until the queue has been stopped. Further parts interrupt the consumer just before
# it checks the queue, as a hardware interrupt or the host may do. In other parts the client is paused: the sender
# blocks, unless the qdisc drops packets before the sender's send buffer is full.
#
#    +------------------------- network namespace -------------------------+
#    |                                                                     |
#    |  flood ─▶ pfifo ─▶ tap0 [ring of N] ─▶ vhost_net ─▶ tuntap-client   |
#    |             ▲         │ full: stop         │                        |
#    |             └─────────┴──────── wake ◀─────┘                        |
#    +---------------------------------------------------------------------+
#
# Parts: watch; paused-L for a qdisc of L packets; N-fast, N-slow, N-stopping, N-interrupted for a ring of N slots.
#
# SELFTESTS_RINGS=LIST         sizes of rings
# SELFTESTS_INTERRUPTED=LIST   sizes of rings with an interrupted consumer

# shellcheck source=tests/selftests/lib.sh
. "$(dirname "$0")/lib.sh"

read -ra RINGS <<<"${SELFTESTS_RINGS-1 2 3 15 16 17 31 32 100 1000 10000}"
CLIENTS=(fast slow stopping)
# The client's virtqueue is small, so that the tap's ring fills.
VIRTQUEUE=64
INTERRUPTED=()
# More than ring, client and send buffer hold together, and fewer than the larger limit of the qdisc.
PAUSED_PACKETS=700

# flow SLOTS CLIENT: a flood for a client of that kind
flow() {
	local slots=$1 kind=$2 options=() limit=() more
	[ "$kind" != slow ] || options=(--delay 2000)
	case $kind in
	# At least one more round of the ring. A slow client gets one packet at a time from a ring of one slot.
	fast) more=$((slots + 1000)) ;;
	slow) more=$((slots + 200)) ;;
	esac
	[ "$kind" = stopping ] || limit=(--count "$(($(enough_to_stop "$slots" "$VIRTQUEUE") + $(packets "$more")))")
	make_tap "$slots" && start_client --tap "$TAP" --backpressure --ring-size "$VIRTQUEUE" "${options[@]}" &&
		start_watch && ask pause && start_flood "${limit[@]}" && until_stopped 0 && ask resume || return
	if [ "$kind" = stopping ]; then
		for _ in 1 2; do
			until_woken "$slots" "$VIRTQUEUE" && ask pause && until_stopped 0 && ask resume || return
		done
		until_woken "$slots" "$VIRTQUEUE" && end_flood || return
	else
		wait_for_flood || return
	fi
	settle
}

# interrupted_flow SLOTS: a flood whose rate fills the ring only during an interrupt, within 50 ms
interrupted_flow() {
	make_tap "$1" && start_client --tap "$TAP" --backpressure && start_interrupts &&
		start_flood --rate "$((20 * $1 + 60))" --batch 1 && taskset -pc 0 "$flood" &&
		wait_until --moving traffic ended "$watch" && end_watch && end_flood && settle
}

# paused LIMIT: a flood of large packets, of which 93 fill a default send buffer, for a paused client
paused() {
	make_tap 17 && set_qdisc pfifo limit "$1" && start_client --tap "$TAP" --backpressure --ring-size "$VIRTQUEUE" &&
		start_watch && ask pause && start_flood --size 1472 --count "$PAUSED_PACKETS" && until_stopped 0
}

# The sender has packets left: if it still runs when no packet moves any more, it is blocked.
blocked=''
paused_blocked() {
	blocked=''
	paused "$1" && until_quiet || return
	blocked=yes
	! ended "$flood" || blocked=no
	ask resume && wait_for_flood && settle
}
is_blocked() {
	[ -n "$blocked" ] || { not_seen; return; }
	echo "blocked: $blocked"
	[ "$blocked" = yes ]
}

# The sender ends before the client goes on.
paused_free() { paused "$1" && wait_for_flood && ask resume && settle; }
is_free() { account "qdisc_drops > 0" "\$qdisc_drops of \$sent dropped by the qdisc"; }

# stall: stops the queue by hand while the ring is empty, so that no consumer wakes it
stall() {
	make_tap 17 && start_client --tap "$TAP" --backpressure && start_watch && "$RING" stop "$TAP" 0 &&
		start_flood && wait_until stall_found && end_watch
}
is_found() {
	echo "expected: stalled for some ms, seen: ${longest_stall:-0} ms"
	((${longest_stall:-0} > 0))
}

none_while_full() {
	((${interrupted:-0} > 0)) || { not_seen; return; }
	account "wakes > 0 && wakes_while_full == 0" \
		"\$wakes_while_full of \$wakes wakes with the ring full, which was filled in \$interrupted interrupts"
}

check_watch() {
	run stall
	common "the watch detects a queue that is stopped by hand beside an empty ring" is_found
	kill_all
	remove_tap
}

# check_paused LIMIT blocked|free: whether a UDP sender blocks
check_paused() {
	local name="paused client, pfifo limit $1"
	run "paused_$2" "$1"
	case $2 in
	blocked) common "$name: a UDP sender blocks until the client goes on" is_blocked ;;
	free) common "$name: a UDP sender does not block, and the qdisc drops" is_free ;;
	esac
	common "$name: each packet arrives once, in order, or is dropped by the qdisc" conserved
	remove_tap
}

check_flow() {
	local name="ring of $1, $2 client"
	run flow "$@"
	common "$name: each packet arrives once, in order" conserved
	common "$name: the queue is never stopped beside an empty ring" never_stalled
	tuntap_ring_only "$name: no packet is dropped at the device" no_device_drops
	remove_tap
}

check_interrupted() {
	local name="ring of $1, interrupted consumer"
	run interrupted_flow "$1"
	common "$name: each packet arrives once, in order, or is dropped at the device" conserved "stalled == 0"
	tuntap_ring_only "$name: no packet is dropped at the device" no_device_drops
	tuntap_ring_only "$name: the queue is not woken while the ring is full" none_while_full
	remove_tap
}

# Interrupting requires an fprobe. (No ring of one slot: it is empty after each consumed packet, so there is no call
# to interrupt.)
if grep -q ' register_fprobe$' /proc/kallsyms; then
	read -ra INTERRUPTED <<<"${SELFTESTS_INTERRUPTED-2 3 16 32 100}"
else
	on_target fprobe
fi

part watch 1 check_watch
part paused-1000 2 check_paused 1000 blocked
part paused-50 2 check_paused 50 free
for slots in "${RINGS[@]}"; do
	for kind in "${CLIENTS[@]}"; do
		part "$slots-$kind" 3 check_flow "$slots" "$kind"
	done
done
for slots in "${INTERRUPTED[@]}"; do
	part "$slots-interrupted" 3 check_interrupted "$slots"
done
run_parts
