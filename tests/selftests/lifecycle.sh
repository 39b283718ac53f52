#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Runs each administrative operation under traffic. Each operation has two floods: the first during the operation, the
# second after it, which must not lose a packet. No watched queue may stay stopped beside an empty ring.
#
#    +---------------------------- network namespace ----------------------------+
#    |                                                                           |
#    |                         ip, tc, ioctl, kill                               |
#    |                                  ▼                                        |
#    |  flood ───────────▶ pfifo ─▶ tap0 [ring] ─▶ vhost_net ─▶ tuntap-client    |
#    |                                  ▲                                        |
#    |  flood ─▶ v1 ══veth══ v0 ─ XDP ──┘ redirect                               |
#    +---------------------------------------------------------------------------+
#
# The parts are listed at the end of this file.

# shellcheck disable=SC2317 # functions that disturb calls
# shellcheck source=tests/selftests/lib.sh
. "$(dirname "$0")/lib.sh"

SLOTS=100
COUNT=$(packets 4000)

# set_up [OPTION...]: starts the client with these options
set_up() {
	start_client --tap "$TAP" --backpressure --ring-size 64 --delay 500 "$@"
}

# flood_again: sends the second flood, after all packets of the first have arrived or are lost
flood_again() {
	until_quiet && start_flood --sender 100 --senders 2 --count "$((COUNT / 2))" && wait_for_flood &&
		settle
}

# disturb COMMAND...: runs COMMAND during one flood, then checks a second flood
disturb() {
	make_tap "$SLOTS" && set_up && start_watch && start_flood --keep-going --senders 2 && goes_on &&
		"$@" && goes_on && end_flood && flood_again
}

# disturb_four COMMAND...: the same for a device with four queues. The watch starts once each file is attached to its
# queue again.
disturb_four() {
	make_tap "$SLOTS" multi_queue && set_up --queues 4 && start_flood --keep-going --senders 8 &&
		goes_on && "$@" && goes_on && end_flood && start_watch && flood_again
}

# filled: pauses the client, and waits until the ring is full
filled() { ask pause && until_stopped 0; }

resize() {
	local slots sizes=(1000 10 1 500 2 100)
	[ "$PERCENT" = 100 ] || sizes=(1000 1 100)
	for slots in "${sizes[@]}"; do
		ip link set "$TAP" txqueuelen "$slots" && goes_on || return
	done
}

# A ring without slots drops all packets.
resize_to_nothing() {
	for _ in "${REPEATS[@]}"; do
		ip link set "$TAP" txqueuelen 0 && until_dropped &&
			ip link set "$TAP" txqueuelen "$SLOTS" && goes_on || return
	done
}

until_dropped() {
	local tx_dropped
	statistic tx_dropped && wait_for drops_more_than "$tx_dropped"
}
drops_more_than() {
	local tx_dropped
	statistic tx_dropped && ((tx_dropped > $1))
}

# Resizes while the client is paused and the queue stopped: to more slots, then to fewer.
resize_when_full() {
	filled && ip link set "$TAP" txqueuelen 200 && until_stopped 0 &&
		ip link set "$TAP" txqueuelen 20 && until_stopped 0 && ask resume
}

# Packets that do not fit into the smaller ring are lost, and no others.
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

# The watch has the device open, so it ends first.
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

# The client takes entries while the link is down, and must not wake the queue.
left_down=''
drain_when_down() {
	local tx_packets
	filled && ip link set "$TAP" down && statistic tx_packets && ask resume &&
		wait_for more_than "$((tx_packets + 1))" && until_quiet || return
	# The ring is empty now.
	left_down=no
	! is_stopped 0 || left_down=yes
	set_link_up
}
stays_stopped() {
	[ -n "$left_down" ] || { not_seen; return; }
	echo "left alone: $left_down"
	[ "$left_down" = yes ]
}

backend_off_and_on() {
	for _ in "${REPEATS[@]}"; do
		ask backend 0 off && until_stopped 0 && ask backend 0 on && goes_on || return
	done
}

swap_backends() {
	for _ in 1 2 3 4; do
		ask swap 0 1 && goes_on && ask swap 2 3 && goes_on && ask swap 1 2 && goes_on || return
	done
}

# Kills the client, and starts another client.
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
	# The senders of that device must end, too.
	kill_flood
	make_tap "$SLOTS" && set_up && start_watch &&
		start_flood --keep-going --sender 2 --senders 2
}

# Removes a namespace with a device whose ring is full.
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
	ip netns exec "$other" "$CLIENT" flood --to "$GUEST" --dev "$TAP" --count 1000000000000 \
		>"$WORK/flood.log" 2>&1 &
	flood=$!
	ip netns exec "$other" "$RING" stopped "$TAP" 0 || return
	kill_flood
	# The client takes entries while the device goes away.
	ask resume && cleanup_ns "$other" && wait_until is_gone || return
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

# with_redirect FROM TO COMMAND...: runs the command while an XDP program redirects
with_redirect() {
	local pid status=0
	rm -f "$WORK/redirect.log"
	"$RING" redirect "$1" "$2" >"$WORK/redirect.log" 2>&1 &
	pid=$!
	shift 2
	wait_until --moving "cpu_of $pid" has_printed "$WORK/redirect.log" "$pid"
	! ended "$pid" && "$@" || status=1
	kill -TERM "$pid"
	wait "$pid"
	return "$status"
}

has_printed() { [ -s "$1" ] || ended "$2"; }

# Attaches XDP programs that redirect packets from the client.
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

# Adds a second sender, which is never stopped. Its packets arrive only through the redirect.
redirect_to_ring() {
	local pid status=0
	make_veth || return
	"$CLIENT" flood --sender 50 --to 10.98.0.2 --dev v1 --count 1000000000000 >"$WORK/second.log" 2>&1 &
	pid=$!
	for _ in "${REPEATS[@]}"; do
		with_redirect v0 "$TAP" second_goes_on || status=1
	done
	kill -TERM "$pid"
	wait "$pid" && ip link del v0 || return
	return "$status"
}
second_goes_on() {
	from_second && wait_for more_from_second "$REPLY" && goes_on
}
more_from_second() {
	from_second && ((REPLY > $1))
}
# from_second: sets REPLY to the number of received packets of the second sender
from_second() {
	ask status || return
	REPLY=0
	[[ ! $answer =~ \"id\":50,\"received\":([0-9]+) ]] || REPLY=${BASH_REMATCH[1]}
}

# check_disturbance NAME CONDITION COMMAND...: the checks of a disturbance
check_disturbance() {
	local name=$1 condition=$2
	shift 2
	run "$@"
	common "$name: traffic goes on, then each packet arrives once, in order" conserved "$condition && stalled == 0"
	tuntap_ring_only "$name: then no packet is dropped at the device" no_device_drops
	remove_tap
}

# check_all is for operations in which flows change their queue or wait for a neighbour, so that packets of the first
# flood may overtake each other; check_ordered is for all other operations.
check_all() { check_disturbance "${1//_/ }" 1 "${@:2}"; }
check_ordered() { check_disturbance "${1//_/ }" "all_reorders == 0" "${@:2}"; }

check_shrink() {
	run shrink
	common "txqueuelen from $SLOTS to 10 in a full ring: packets that fit arrive once, in order" \
		account "missing > 0 && missing <= SLOTS - 10 && backlog == 0 && reorders == 0 && duplicates == 0" \
		"\$missing lost, \$reorders out of order, \$duplicates doubled"
	remove_tap
}

check_down() {
	check_all "link_down,_ring_emptied,_link_up" disturb drain_when_down
	common "link down: a queue that the administrator stopped is not woken" stays_stopped
}

part resize 2 check_ordered txqueuelen_up_and_down disturb resize
part resize-to-nothing 2 check_ordered txqueuelen_0_and_back disturb resize_to_nothing
part resize-when-full 2 check_ordered txqueuelen_of_a_full_ring disturb resize_when_full
part shrink 1 check_shrink
part detach 2 check_all queues_detached_and_attached disturb_four move_slots
part reopen 2 check_ordered persistent_device_reopened disturb reopen
part down 2 check_all link_down_and_up disturb down_and_up
part down-when-full 3 check_down
part backend 2 check_ordered "vhost's_backend_cleared_and_set" disturb backend_off_and_on
part swap 2 check_all "vhost's_backends_swapped" disturb_four swap_backends
part kill 2 check_ordered client_killed disturb kill_client
part delete 2 check_ordered device_deleted disturb delete_device
part namespace 2 check_ordered namespace_removed remove_namespace
part mtu 2 check_ordered MTU_changed disturb set_mtu
part xdp 2 check_ordered XDP_program_attached_and_detached disturb attach_program
part redirect 2 check_ordered XDP_redirect_into_the_ring disturb redirect_to_ring
part nothing 2 check_ordered no_operation disturb true
run_parts
