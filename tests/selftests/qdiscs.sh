#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Queueing disciplines above a tap whose queue is stopped: that they get to work, and that what came
# through them is not dropped below.
#
#    +--------------------------- network namespace ---------------------------+
#    |                                                                         |
#    |  flood, senders 0 to 7 ─▶ qdisc ─▶ tap0 [ring] ─▶ vhost_net ─▶ client   |
#    |                          ↓ drops     ↓ none                             |
#    |                                                                         |
#    |  and with four queues:                                                  |
#    |                           ┌ pfifo ─▶ [ring 0] ─▶ vhost_net ┐            |
#    |  flood, senders 0 to 7 ─▶ mq  ...      ...          ...    ├▶ client    |
#    |                           └ pfifo ─▶ [ring 3] ─▶ vhost_net ┘            |
#    +-------------------------------------------------------------------------+

# shellcheck source=tests/selftests/lib.sh
. "$(dirname "$0")/lib.sh"

SLOTS=32
COUNT=$(packets 8000) # of all senders together
QDISCS=(
	'fq_codel'
	'pfifo limit 100'
	'tbf rate 10gbit burst 1mb limit 100kb'
	'htb'
	'fq'
)
SENDERS=(1 2 4 8)
RINGS=(1 2 100)
# What a shaper lets through, and frames that it can count. Its bucket makes up for a fifth of a second in
# which a busy host lets nothing run.
RATE=2000000 BURST=50000 PAYLOAD=1000 FRAME=1042

# set_discipline QDISC...: on top; htb has a class, mq has children
set_discipline() {
	case $1 in
	htb)
		tc -batch - <<-BATCH
			qdisc replace dev $TAP root handle 1: htb default 10
			class replace dev $TAP parent 1: classid 1:10 htb rate ${2:-10gbit} burst ${BURST}b cburst ${BURST}b quantum 1514
			qdisc replace dev $TAP parent 1:10 pfifo limit 20
		BATCH
		;;
	mq)
		tc -batch - <<-BATCH
			qdisc replace dev $TAP root handle 1: mq
			qdisc replace dev $TAP parent 1:1 pfifo limit 100
			qdisc replace dev $TAP parent 1:2 pfifo limit 100
			qdisc replace dev $TAP parent 1:3 pfifo limit 100
			qdisc replace dev $TAP parent 1:4 pfifo limit 100
		BATCH
		;;
	*) set_qdisc "$@" ;;
	esac
}

# flow SLOTS SENDERS QDISC...: a flood through that qdisc, to a client that is slower
flow() {
	local slots=$1 senders=$2
	shift 2
	make_tap "$slots" && set_discipline "$@" &&
		start_client --tap "$TAP" --backpressure --ring-size 64 --delay 1000 && start_watch || return
	start_flood --count "$((COUNT / senders))" --senders "$senders" && wait_for_flood && settle
}

flow_to_four_queues() {
	make_tap "$SLOTS" multi_queue && set_discipline mq &&
		start_client --tap "$TAP" --queues 4 --backpressure --ring-size 64 --delay 1000 &&
		start_watch || return
	start_flood --count "$((COUNT / 8))" --senders 8 && wait_for_flood && settle
}

# The ports are the kernel's choice, and so is which queue serves which.
several_queues_served() {
	account "queues > 1" "\$queues queues had traffic"
}

# flow_through QDISC...: changes to each of them while traffic flows, twice; what counts is the flood
# after that, as each change loses what waits in the old one
# shellcheck disable=SC2086 # words
flow_through() {
	local qdisc
	make_tap "$SLOTS" && start_client --tap "$TAP" --backpressure --ring-size 64 --delay 1000 &&
		start_watch && start_flood --keep-going --senders 4 || return
	for qdisc in "$@" "$@"; do
		set_discipline $qdisc && goes_on || return
	done
	# Anew, as what it has dropped so far does not count.
	end_flood && until_quiet && tc qdisc del dev "$TAP" root && set_discipline $qdisc &&
		start_flood --keep-going --sender 4 --senders 4 --count "$((COUNT / 4))" && wait_for_flood && settle
}

# shape QDISC...: more than it lets through, to a client that is fast
shape() {
	make_tap 500 && set_discipline "$@" && start_client --tap "$TAP" --backpressure &&
		start_watch || return
	# Room in the socket, or else the sender waits and nothing is ever dropped.
	start_flood --duration 5 --size "$PAYLOAD" --sndbuf 1000000 --rate 1000 && wait_for_flood && settle
}

rate_is_kept() {
	local rate
	[ -n "${milliseconds:-}" ] || return "$NOT_SEEN"
	# Beside the bucket, which was full.
	rate=$(((received * FRAME - BURST) * 8 * 1000 / (milliseconds + 1)))
	echo "$rate bit/s of $RATE"
	((rate > RATE * 95 / 100 && rate < RATE * 105 / 100))
}

dropped_above() {
	account "qdisc_drops > 0 && device_drops == 0" \
		"\$qdisc_drops dropped at the qdisc, \$device_drops at the device"
}

plan $((3 * ${#QDISCS[@]} + 4 + 2 + 4 + 2 * 3 + 2 + 2 * ${#SENDERS[@]} * ${#RINGS[@]}))

for qdisc in "${QDISCS[@]}"; do
	name=${qdisc%% *}
	# shellcheck disable=SC2086 # words
	run flow "$SLOTS" 4 $qdisc
	both "$name: each packet arrives once, in order, or is dropped by it" conserved
	both "$name: the queue is never stopped beside a dry ring" never_stalled
	promise "$name: none is dropped at the device" no_device_drops
	remove_tap
done

run flow_to_four_queues
both "mq: each packet arrives once, in order, or is dropped by it" conserved
both "mq: no queue is ever stopped beside its dry ring" never_stalled
both "mq: several queues have traffic" several_queues_served
promise "mq: none is dropped at the device" no_device_drops
remove_tap

# Nobody may stop the queue of such a device: there would be no place to wait.
run flow "$SLOTS" 4 noqueue
both "noqueue: each packet arrives once, in order, or is dropped at the device" conserved
both "noqueue: the queue is never stopped" account "stopped == 0" "stopped in \$stopped looks"
remove_tap

for last in 'pfifo limit 100' noqueue; do
	run flow_through noqueue "${QDISCS[@]}" "$last"
	both "changed under traffic, at last to ${last%% *}: then each packet arrives once, in order" conserved
	both "changed under traffic, at last to ${last%% *}: the queue is never stopped beside a dry ring" never_stalled
	remove_tap
done

for qdisc in "tbf rate 2mbit burst ${BURST}b limit 20kb" "htb 2mbit"; do
	name=${qdisc%% *}
	# shellcheck disable=SC2086 # words
	run shape $qdisc
	both "$name of 2 Mbit/s: the rate is kept, within 5 %" rate_is_kept
	both "$name of 2 Mbit/s: what is too much is dropped there" dropped_above
	both "$name of 2 Mbit/s: each packet arrives once, in order, or is dropped by it" conserved
	remove_tap
done
# A shaper that lets more through than the client takes: still it is there that packets are dropped.
run flow 100 4 tbf rate 1gbit burst 100kb limit 10kb
both "tbf above a client that is slower: each packet arrives once, or is dropped" conserved
promise "tbf above a client that is slower: all drops are the qdisc's" dropped_above
remove_tap

for senders in "${SENDERS[@]}"; do
	for slots in "${RINGS[@]}"; do
		run flow "$slots" "$senders" pfifo limit 100
		name="senders $senders, ring $slots"
		both "$name: each packet arrives once, in order, or is dropped at the qdisc" conserved
		promise "$name: none is dropped at the device" no_device_drops
		remove_tap
	done
done
finish
