#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# A program that reads from the tap and vhost, in turn, on one device: both are consumers of its ring,
# and share what the driver counts there.
#
#    +------------------- network namespace --------------------+
#    |                                  ┌─▶ vhost_net ─┐        |
#    |  flood ─▶ pfifo ─▶ tap0 [ring] ──┤              ├▶ client |
#    |                                  └─▶ read() ────┘        |
#    +----------------------------------------------------------+

# shellcheck disable=SC2317 # functions that run calls
# shellcheck source=tests/selftests/lib.sh
. "$(dirname "$0")/lib.sh"

TURNS=5
# Of a vhost device: what it has taken and not used it hands back, and what doesn't fit any more is
# destroyed.
# shellcheck disable=SC2034 # conditions of account use it
VHOST_BATCH=64

# read_frames N: from the tap, as they come, less what the device drops meanwhile: read() is the kernel's own,
# which may wake a queue whose ring is full
read_frames() {
	local left=$1 end=$((SECONDS + 10 * PATIENCE)) tx_dropped before
	statistic tx_dropped && before=$tx_dropped || return
	for (( ; left > tx_dropped - before; left -= ${answer#ok })); do
		ask read 0 "$left" && statistic tx_dropped || return
		((SECONDS < end)) || { echo "no more to read, $left are missing"; return 1; }
	done
}

# turns FRAMES: so many frames each time that the program reads
turns() {
	local turn
	for ((turn = 0; turn < TURNS; turn++)); do
		ask backend 0 off && read_frames "$1" && ask backend 0 on && goes_on || return
	done
}

# slower: a flood that the ring has room for all the time
slower() {
	make_tap 10000 && start_client --tap "$TAP" --backpressure && start_watch &&
		start_flood --rate 4000 && turns 100 && end_flood && settle
}

# faster: one that stops the queue again and again. The client takes nothing while its ring fills.
faster() {
	make_tap "$1" && start_client --tap "$TAP" --backpressure --ring-size 64 --delay 500 &&
		start_watch && start_flood --senders 2 && turns "$(packets 1000)" && end_flood &&
		settle_what_is_left
}

# only_read SLOTS: all by read()
only_read() {
	local count
	count=$(packets 3000)
	make_tap "$1" && start_client --tap "$TAP" --backpressure && start_watch && ask backend 0 off &&
		start_flood --count "$count" && read_frames "$count" && wait_for_flood && settle
}

what_fits() {
	account "received > 0 && missing >= 0 && missing <= TURNS * VHOST_BATCH && backlog == 0 &&
		all_reorders == 0 && duplicates == 0 && leftover == 0" \
		"\$received of \$sent came, \$missing handed back to a full ring, \$all_reorders out of order, \$duplicates doubled"
}

RINGS=(1 2 31 100)
plan $((1 + 4 * ${#RINGS[@]}))
run slower
both "never full: each packet arrives once, in order" conserved "all_reorders == 0"
remove_tap
for slots in "${RINGS[@]}"; do
	run faster "$slots"
	both "ring $slots: it goes on, and what fits arrives once, in order" what_fits
	both "ring $slots: the queue is never stopped beside a dry ring" never_stalled
	remove_tap
	run only_read "$slots"
	both "ring $slots, read() alone: each packet arrives once, in order" conserved
	both "ring $slots, read() alone: the queue is never stopped beside a dry ring" never_stalled
	remove_tap
done
finish
