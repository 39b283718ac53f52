#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# What an administrator does to a device, while traffic flows through it: whatever it is, afterwards all
# is as before. Each time there are two floods, one during which it is done, one afterwards, of which
# nothing may be lost; and no queue that is watched stays stopped beside a dry ring.
#
#    +---------------------------- network namespace ----------------------------+
#    |                                                                           |
#    |                         ip, tc, ioctl, kill                               |
#    |                                  ▼                                        |
#    |  flood ───────────▶ pfifo ─▶ tap0 [ring] ─▶ vhost_net ─▶ tuntap-client    |
#    |                                  ▲                                        |
#    |  flood ─▶ v1 ══veth══ v0 ─ XDP ──┘ redirect                               |
#    +---------------------------------------------------------------------------+

# shellcheck disable=SC2317 # functions that disturb calls
# shellcheck source=tests/selftests/lib.sh
. "$(dirname "$0")/lib.sh"

SLOTS=100
COUNT=$(packets 4000)

# set_up [OPTION...]: of the client
set_up() {
	start_client --tap "$TAP" --backpressure --ring-size 64 --delay 500 "$@"
}

# flood_again: when the first flood is over, and all of it has come or is lost
flood_again() {
	until_quiet && start_flood --sender 100 --senders 2 --count "$((COUNT / 2))" && wait_for_flood &&
		settle
}

# disturb COMMAND...: what it does to a flood, and whether another one is as if nothing had been
disturb() {
	make_tap "$SLOTS" && set_up && start_watch && start_flood --keep-going --senders 2 && goes_on &&
		"$@" && goes_on && end_flood && flood_again
}

# The same to a device of four queues. It is watched once each file is at its own queue again.
disturb_four() {
	make_tap "$SLOTS" multi_queue && set_up --queues 4 && start_flood --keep-going --senders 8 &&
		goes_on && "$@" && goes_on && end_flood && start_watch && flood_again
}

# filled: the client does not take any more, and the ring is full
filled() { ask pause && until_queue stopped; }

resize() {
	local slots sizes=(1000 10 1 500 2 100)
	[ "$PERCENT" = 100 ] || sizes=(1000 1 100)
	for slots in "${sizes[@]}"; do
		ip link set "$TAP" txqueuelen "$slots" && goes_on || return
	done
}

# A ring without slots takes nothing.
resize_to_nothing() {
	for _ in "${REPEATS[@]}"; do
		ip link set "$TAP" txqueuelen 0 && until_dropped &&
			ip link set "$TAP" txqueuelen "$SLOTS" && goes_on || return
	done
}

until_dropped() {
	local tx_dropped
	statistic tx_dropped && wait_for "$((10 * SECOND))" drops_more_than "$tx_dropped"
}
drops_more_than() {
	local tx_dropped
	statistic tx_dropped && ((tx_dropped > $1))
}

# The same while nobody takes anything: stopped, then longer, then shorter.
resize_when_full() {
	filled && ip link set "$TAP" txqueuelen 200 && until_queue stopped &&
		ip link set "$TAP" txqueuelen 20 && until_queue stopped && ask resume
}

# Of a full ring what does not fit any more is lost, and no more.
shrink() {
	make_tap "$SLOTS" && set_up && start_watch && start_flood --count 1000 && filled &&
		ip link set "$TAP" txqueuelen 10 && ask resume && wait_for_flood &&
		settle_what_is_left
}

move_slots() {
	local queue
	for queue in 0 3 1 2 0; do
		ask detach "$queue" && goes_on && ask attach "$queue" && goes_on || return
	done
	ask detach 3 && ask detach 0 && goes_on && ask attach 0 && ask attach 3
}

# Who watches has it open, too.
reopen() {
	end_watch || return
	for _ in "${REPEATS[@]}"; do
		ask reopen && goes_on || return
	done
	start_watch
}

set_link_up() {
	ip -batch - <<-BATCH
		link set $TAP up
		neighbour replace $GUEST lladdr $GUEST_MAC dev $TAP nud permanent
	BATCH
}

down_and_up() {
	for _ in "${REPEATS[@]}"; do
		ip link set "$TAP" down && set_link_up && goes_on || return
	done
}

# Down, with entries for the client to take: that it does is no reason to let anybody send.
left_down=''
drain_when_down() {
	local tx_packets
	filled && ip link set "$TAP" down && statistic tx_packets && ask resume &&
		wait_for "$((10 * SECOND))" more_than "$tx_packets" && until_quiet || return
	# Its last frames have gone by now.
	left_down=no
	"$RING" stopped "$TAP" 0 0 && left_down=yes
	set_link_up
}
stays_stopped() {
	[ -n "$left_down" ] || return "$NOT_SEEN"
	echo "left alone: $left_down"
	[ "$left_down" = yes ]
}

backend_off_and_on() {
	for _ in "${REPEATS[@]}"; do
		ask backend 0 off && until_queue stopped && ask backend 0 on && goes_on || return
	done
}

swap_backends() {
	for _ in 1 2 3 4; do
		ask swap 0 1 && goes_on && ask swap 2 3 && goes_on && ask swap 1 2 && goes_on || return
	done
}

# A client that is gone from one moment to the next, and another one.
kill_client() {
	end_watch && kill -KILL "$client" || return
	wait "$client" 2>/dev/null
	set_up && start_watch
}

kill_flood() {
	kill -KILL "$flood"
	wait "$flood"
	flood=''
} 2>/dev/null

delete_device() {
	end_watch && ip link del "$TAP" || return
	kill -KILL "$client"
	wait "$client" 2>/dev/null
	# Its senders, too, know nothing but that device.
	kill_flood
	make_tap "$SLOTS" && set_up && start_watch &&
		start_flood --keep-going --sender 2 --senders 2
}

# With it goes a device whose ring is full.
is_gone() { ! grep -qs "^iff:.$TAP\$" "/proc/$client/fdinfo/"*; }
remove_namespace() {
	local other
	setup_ns other >/dev/null && make_tap "$SLOTS" && set_up && ip link set "$TAP" netns "$other" ||
		return
	ip -n "$other" -batch - <<-BATCH || return
		link set $TAP txqueuelen $SLOTS up
		address add $HOST/24 dev $TAP
		neighbour replace $GUEST lladdr $GUEST_MAC dev $TAP nud permanent
	BATCH
	tc -n "$other" qdisc replace dev "$TAP" root pfifo && ask pause || return
	ip netns exec "$other" "$CLIENT" flood --to "$GUEST" --dev "$TAP" --duration 3600 \
		>"$WORK/flood.log" 2>&1 &
	flood=$!
	ip netns exec "$other" "$RING" stopped "$TAP" 0 "$((10 * SECOND))" || return
	kill_flood
	# And goes on taking what is there, while there is something.
	ask resume && cleanup_ns "$other" && wait_for "$((10 * SECOND))" is_gone || return
	kill -KILL "$client"
	wait "$client" 2>/dev/null
	make_tap "$SLOTS" && set_up && start_watch && start_flood --count "$COUNT" && wait_for_flood &&
		settle
}

set_mtu() {
	local mtu
	for mtu in 9000 1400 576 1500; do
		ip link set "$TAP" mtu "$mtu" && goes_on || return
	done
}

# with_redirect FROM TO COMMAND...: while an XDP program redirects
with_redirect() {
	local pid status=0
	rm -f "$WORK/redirect.log"
	"$RING" redirect "$1" "$2" >"$WORK/redirect.log" 2>&1 &
	pid=$!
	shift 2
	wait_for "$((10 * SECOND))" [ -s "$WORK/redirect.log" ]
	kill -0 "$pid" && "$@" || status=1
	kill -TERM "$pid"
	wait "$pid"
	return "$status"
}

# Of what comes from the guest.
attach_program() {
	make_veth || return
	for _ in "${REPEATS[@]}"; do
		with_redirect "$TAP" v0 goes_on && goes_on || return
	done
	ip link del v0
}

make_veth() {
	ip -batch - <<-BATCH
		link add v0 type veth peer name v1
		link set v0 up
		link set v1 up
		address add 10.98.0.1/24 dev v1
		neighbour replace 10.98.0.2 lladdr $GUEST_MAC dev v1 nud permanent
	BATCH
}

# A second sender, which nothing holds back, beside the first.
redirect_to_ring() {
	local pid status=0
	make_veth || return
	"$CLIENT" flood --sender 50 --to 10.98.0.2 --dev v1 --duration 3600 >"$WORK/second.log" 2>&1 &
	pid=$!
	for _ in "${REPEATS[@]}"; do
		with_redirect v0 "$TAP" goes_on || status=1
	done
	kill -TERM "$pid"
	wait "$pid" && ip link del v0 && ask status || return
	# Those of the second sender came by no other way.
	[[ $answer =~ \"id\":50,\"received\":[1-9] ]] || { echo "nothing of sender 50: $answer"; return 1; }
	return "$status"
}

# check_all NAME COMMAND...: all that is promised of a disturbance, if it is one above or beside the ring:
# where flows change their queue, or wait for a neighbour, those of the first flood overtake each other
check_all() {
	local name=$1
	shift
	run "$@"
	both "$name: it goes on, and then each packet arrives once, in order" conserved "stalled < SECOND"
	promise "$name: then none is dropped at the device" no_device_drops
	remove_tap
}

# The same, and in order all along.
check_ordered() {
	local name=$1
	shift
	run "$@"
	both "$name: it goes on, in order, and then each packet arrives once" conserved "all_reorders == 0 && stalled < SECOND"
	promise "$name: then none is dropped at the device" no_device_drops
	remove_tap
}

plan $((2 * 16 + 2))
check_ordered "txqueuelen up and down" disturb resize
check_ordered "txqueuelen 0 and back" disturb resize_to_nothing
check_ordered "txqueuelen of a full ring" disturb resize_when_full
run shrink
both "txqueuelen from $SLOTS to 10 in a full ring: what fits arrives once, in order" \
	account "missing > 0 && missing <= SLOTS - 10 && backlog == 0 && reorders == 0 && duplicates == 0" \
	"\$missing lost, \$reorders out of order, \$duplicates doubled"
remove_tap
check_all "queues detached and attached" disturb_four move_slots
check_ordered "a persistent device re-opened" disturb reopen
check_all "link down and up" disturb down_and_up
check_all "link down, the ring drained, and up" disturb drain_when_down
both "link down: a queue that the administrator stopped is left alone" stays_stopped
check_ordered "vhost's backend cleared and set" disturb backend_off_and_on
check_all "vhost's backends swapped" disturb_four swap_backends
check_ordered "client killed" disturb kill_client
check_ordered "device deleted" disturb delete_device
check_ordered "namespace removed" remove_namespace
check_ordered "MTU changed" disturb set_mtu
check_ordered "XDP program attached and detached" disturb attach_program
check_ordered "XDP redirect into the ring" disturb redirect_to_ring
check_ordered "nothing at all" disturb true
finish
