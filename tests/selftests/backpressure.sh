#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Backpressure: a flood through one queue, for rings of all kinds of sizes, and clients that are fast,
# slow, or stop and go on. And once more with a consumer that is interrupted just before it looks at the
# queue, again and again, as an interrupt or the host may do to it.
#
#    +------------------------- network namespace -------------------------+
#    |                                                                     |
#    |  flood ─▶ pfifo ─▶ tap0 [ring of N] ─▶ vhost_net ─▶ tuntap-client   |
#    |             ▲         │ full: stop         │                        |
#    |             └─────────┴──────── wake ◀─────┘                        |
#    +---------------------------------------------------------------------+
#
# SELFTESTS_RINGS=LIST is which rings, SELFTESTS_INTERRUPTED=LIST those of the interrupted consumer.

# shellcheck source=tests/selftests/lib.sh
. "$(dirname "$0")/lib.sh"

read -ra RINGS <<<"${SELFTESTS_RINGS-1 2 3 15 16 17 31 32 100 1000 10000}"
CLIENTS=(fast slow stopping)
# Of the client's own: small, so that it is the tap's ring that fills.
VIRTQUEUE=64
INTERRUPTED=()

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

# interrupted_flow SLOTS: at a rate that the ring fills by while the consumer is interrupted, and else not
interrupted_flow() {
	make_tap "$1" && start_client --tap "$TAP" --backpressure && start_interrupts &&
		start_flood --rate 2000 --batch 1 && wait_for "$((10 * SECOND))" is_over && end_flood && settle
}
is_over() { ! kill -0 "$watch" 2>/dev/null; }

none_while_full() {
	((${interrupted:-0} > 0)) || return "$NOT_SEEN"
	account "wakes > 0 && wakes_while_full == 0" \
		"\$wakes_while_full of \$wakes wakes with the ring full, which was filled in \$interrupted interrupts"
}

# It takes an fprobe. (A ring of one slot that is not full is dry: there the consumer has nothing to be
# interrupted in.)
if grep -q ' register_fprobe$' /proc/kallsyms; then
	read -ra INTERRUPTED <<<"${SELFTESTS_INTERRUPTED-2 3 16 32 100}"
else
	on_target fprobe
fi

plan $((${#RINGS[@]} * ${#CLIENTS[@]} * 3 + ${#INTERRUPTED[@]} * 3))
for slots in "${RINGS[@]}"; do
	for kind in "${CLIENTS[@]}"; do
		name="ring $slots, client $kind"
		run flow "$slots" "$kind"
		# A client that is fast may leave the ring no time to fill.
		both "$name: each packet arrives once, in order, within a second" conserved \
			"(stopped > 0 || $([ "$kind" = fast ] && echo 1 || echo 0))"
		both "$name: the queue is never stopped beside a dry ring" never_stalled
		promise "$name: none is dropped at the device" no_device_drops
		remove_tap
	done
done
for slots in "${INTERRUPTED[@]}"; do
	name="ring $slots, interrupted consumer"
	run interrupted_flow "$slots"
	both "$name: each packet arrives once, in order, or is dropped at the device" conserved
	promise "$name: none is dropped at the device" no_device_drops
	promise "$name: the queue is not woken while the ring is full" none_while_full
	remove_tap
done
finish
