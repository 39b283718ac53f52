#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Alternates two consumers on one tap: a program that reads from the tap, and vhost. Both consume from the same ring,
# and share the driver's counter.
#
#    +------------------- network namespace --------------------+
#    |                                  ┌─▶ vhost_net ─┐        |
#    |  flood ─▶ pfifo ─▶ tap0 [ring] ──┤              ├▶ client |
#    |                                  └─▶ read() ────┘        |
#    +----------------------------------------------------------+
#
# Parts: never-full, N-turns, N-read, for a ring of N slots.

# shellcheck disable=SC2317 # functions that run calls
# shellcheck source=tests/selftests/lib.sh
. "$(dirname "$0")/lib.sh"

TURNS=5
VIRTQUEUE=64

# read_frames N: reads N frames from the tap, less the frames that the device drops meanwhile: the in-kernel read() may
# wake a queue whose ring is full
read_frames() {
	local left=$1 tx_dropped before
	statistic tx_dropped && before=$tx_dropped && wait_until --moving traffic read_on || return
	((left <= 0)) || { echo "expected: $1 frames, seen: $((left - tx_dropped + before)) less"; return 1; }
}
# Returns whether all frames have been read, or reading has failed.
read_on() {
	until ((left <= tx_dropped - before)); do
		ask read 0 "$left" && statistic tx_dropped || return 0
		((left -= ${answer#ok }))
		# Pauses if no frame was read.
		[ "$answer" != "ok 0" ] || { stall_found; return; }
	done
	left=0
}

# never_full: a flood that fits into the ring. The client is paused, so that vhost fills its virtqueue in each turn, and
# unconsumes the rest of the packets it has taken.
never_full() {
	local turn tx_packets
	make_tap 10000 && start_client --tap "$TAP" --backpressure --ring-size "$VIRTQUEUE" && start_watch &&
		ask pause && start_flood --count 3000 && wait_for more_than "$VIRTQUEUE" || return
	for ((turn = 0; turn < TURNS; turn++)); do
		ask backend 0 off && read_frames 100 && statistic tx_packets && ask backend 0 on &&
			wait_for more_than "$((tx_packets + VIRTQUEUE))" || return
	done
	wait_for_flood && ask resume && settle
}

# turns SLOTS: vhost and read() take turns; the queue is stopped in each turn, and read() must wake it
turns() {
	local turn
	make_tap "$1" && start_client --tap "$TAP" --backpressure --ring-size "$VIRTQUEUE" --delay 500 &&
		start_watch && start_flood --senders 2 || return
	for ((turn = 0; turn < TURNS; turn++)); do
		ask backend 0 off && until_stopped 0 && read_frames "$(($1 + $(packets 200) + 1))" &&
			ask backend 0 on && goes_on || return
	done
	end_flood && settle_what_is_left
}

# only_read SLOTS: all packets are taken by read(), which begins when the queue is stopped
only_read() {
	local count
	count=$(($(enough_to_stop "$1" 256) + $(packets 500)))
	make_tap "$1" && start_client --tap "$TAP" --backpressure && start_watch && ask backend 0 off &&
		start_flood --count "$count" && until_stopped 0 && read_frames "$count" && wait_for_flood && settle
}

what_fits() {
	account "received > 0 && missing >= 0 && missing <= TURNS * VHOST_BATCH && backlog == 0 &&
		all_reorders == 0 && duplicates == 0 && leftover == 0" \
		"\$received of \$sent came, \$missing handed back to a full ring, \$all_reorders out of order, \$duplicates doubled"
}

check_never_full() {
	run never_full
	common "ring that is never full, read() and vhost in turn: each packet arrives once, in order" conserved \
		"all_reorders == 0 && stopped == 0 && stalled == 0"
	remove_tap
}

check_turns() {
	run turns "$1"
	common "ring of $1, read() and vhost in turn: traffic goes on, and packets that fit arrive once, in order" what_fits
	common "ring of $1, read() and vhost in turn: the queue is never stopped beside an empty ring" never_stalled
	remove_tap
}

check_read() {
	run only_read "$1"
	common "ring of $1, read() alone: each packet arrives once, in order" conserved
	common "ring of $1, read() alone: the queue is never stopped beside an empty ring" never_stalled
	remove_tap
}

part never-full 1 check_never_full
for slots in 1 2 31 100; do
	part "$slots-turns" 2 check_turns "$slots"
	part "$slots-read" 2 check_read "$slots"
done
run_parts
