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
	local slots=$1 count options=()
	count=$(packets $((2 * slots + 3000)))
	[ "$2" != slow ] || options=(--delay 2000)
	make_tap "$slots" && start_client --backpressure --ring-size "$VIRTQUEUE" "${options[@]}" &&
		start_watch || return
	if [ "$2" != stopping ]; then
		start_flood --count "$count" && wait_for_flood || return
	else
		start_flood || return
		for _ in 1 2 3; do
			kill -STOP "$client" && wait_until stopped || return
			kill -CONT "$client" && wait_until running || return
		done
		end_flood || return
	fi
	settle
}

never_woken_while_full() {
	account '.wakes_while_full == 0' '"\(.wakes_while_full) of \(.wakes) wakes with the ring full"'
}

plan $((${#RINGS[@]} * ${#CLIENTS[@]} * 3 ))
for slots in "${RINGS[@]}"; do
	for kind in "${CLIENTS[@]}"; do
		name="ring $slots, client $kind"
		make_ns
		rm -f "$ACCOUNT"
		flow "$slots" "$kind"
		both "$name: each packet arrives once, in order, within a second" conserved
		both "$name: the queue is never stopped beside a dry ring" \
			account ".stalled_ms < $SECOND" '"\(.stalled_ms) ms, \(.ring)"'
		promise "$name: none is dropped at the device" no_device_drops
	done
done
finish
