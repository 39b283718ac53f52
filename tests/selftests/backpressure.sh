#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Backpressure: a flood through one queue, for rings of all kinds of sizes, and clients that are fast,
# slow, or stop and go on.
#
#    +------------------------- network namespace -------------------------+
#    |                                                                     |
#    |  flood ─▶ pfifo ─▶ tap0 [ring of N] ─▶ vhost_net ─▶ tuntap-client   |
#    |             ▲         │ full: stop         │                        |
#    |             └─────────┴──────── wake ◀─────┘                        |
#    +---------------------------------------------------------------------+
#
# SELFTESTS_RINGS=LIST is which rings.

# shellcheck source=tests/selftests/lib.sh
. "$(dirname "$0")/lib.sh"

read -ra RINGS <<<"${SELFTESTS_RINGS:-1 2 3 15 16 17 31 32 100 1000 10000}"
CLIENTS=(fast slow stopping)
# Of the client's own: small, so that it is the tap's ring that fills.
VIRTQUEUE=64

# flow SLOTS CLIENT: what that client gets of a flood
flow() {
	local slots=$1 options=()
	[ "$2" != slow ] || options=(--delay 2000)
	make_tap "$slots" && start_client --tap "$TAP" --backpressure --ring-size "$VIRTQUEUE" "${options[@]}" &&
		start_watch || return
	if [ "$2" != stopping ]; then
		start_flood --count "$(packets $((2 * slots + 3000)))" && wait_for_flood || return
	else
		start_flood
		for _ in 1 2 3; do
			ask pause && until_queue stopped && ask resume && until_queue running || return
		done
		end_flood || return
	fi
	settle
}

none_while_full() {
	echo "$total_while_full of $total_wakes wakes were with the ring full"
	((total_wakes > 0 && total_while_full == 0))
}

# Wakes are seen by fprobes, which not each kernel has.
fprobes=0 total_wakes=0 total_while_full=0
! grep -q ' register_fprobe$' /proc/kallsyms || fprobes=1
plan $((${#RINGS[@]} * ${#CLIENTS[@]} * 3 + fprobes))
for slots in "${RINGS[@]}"; do
	for kind in "${CLIENTS[@]}"; do
		name="ring $slots, client $kind"
		run flow "$slots" "$kind"
		both "$name: each packet arrives once, in order, within a second" conserved
		both "$name: the queue is never stopped beside a dry ring" never_stalled
		promise "$name: none is dropped at the device" no_device_drops
		remove_tap
		total_wakes=$((total_wakes + ${wakes:-0}))
		total_while_full=$((total_while_full + ${wakes_while_full:-0}))
	done
done
[ "$fprobes" = 0 ] || promise "no queue is woken while its ring is full" none_while_full
finish
