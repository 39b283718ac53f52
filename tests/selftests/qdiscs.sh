#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Tests queueing disciplines above a tap whose queue is stopped: they queue, drop and shape as usual, and the device
# drops no packet below them. In each flow the client waits until the queue has been stopped.
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
#
# Parts: QDISC; mq; changed-to-pfifo, changed-to-noqueue; QDISC-shaper; tbf-above; S-senders-ring-N.

# shellcheck source=tests/selftests/lib.sh
. "$(dirname "$0")/lib.sh"

SLOTS=32 VIRTQUEUE=64
# So many packets pass after the client goes on, in addition to packets in flight.
MORE=$(packets 500)
QDISCS=(
	'fq_codel'
	'pfifo limit 100'
	'tbf rate 10gbit burst 1mb limit 100kb'
	'htb'
	'fq'
)
SENDERS=(1 2 4 8)
RINGS=(1 2 100)
# The rate of the shapers in bit/s. Their bucket makes up for four seconds in which a busy host runs neither sender nor
# shaper.
RATE=800000 BURST=400000 PAYLOAD=1000 FRAME=1042
LEAST_SECONDS=3 MOST_SECONDS=60

# set_discipline QDISC...: sets the root qdisc; htb gets a class, mq gets children
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
		start_client --tap "$TAP" --backpressure --ring-size "$VIRTQUEUE" --delay 1000 && start_watch &&
		ask pause && start_flood --senders "$senders" || return
	# A queue below noqueue must not stop: there is no place for packets to wait.
	[ "$1" = noqueue ] || until_stopped 0 || return
	[[ " $*" != *" limit 10kb" ]] || wait_for qdisc_has_dropped || return
	ask resume && until_passed "$slots" && end_flood && settle
}

qdisc_has_dropped() { [[ $(tc -s qdisc show dev "$TAP" root) =~ dropped\ [1-9] ]]; }

# until_passed SLOTS: waits until more packets have passed than were in flight
until_passed() {
	local tx_packets
	statistic tx_packets && wait_for more_than "$((tx_packets + $(enough_to_stop "$1" "$VIRTQUEUE") + MORE))"
}

# Sender N goes to queue N modulo 4.
flow_to_four_queues() {
	local queue
	make_tap "$SLOTS" multi_queue && set_discipline mq &&
		start_client --tap "$TAP" --queues 4 --backpressure --ring-size "$VIRTQUEUE" --delay 1000 &&
		"$RING" steer "$client" "$TAP" && start_watch && ask pause && start_flood --senders 8 || return
	for queue in 0 1 2 3; do
		until_stopped "$queue" || return
	done
	ask resume && until_passed "$((4 * (SLOTS + VIRTQUEUE + VHOST_BATCH)))" && end_flood && settle
}

all_queues_served() {
	account "queues == 4" "\$queues of 4 queues had traffic"
}

# flow_through QDISC...: changes to each qdisc twice while traffic flows. Each change loses the packets in the old
# qdisc, so the account is of the flood after the last change.
# shellcheck disable=SC2086 # words
flow_through() {
	local qdisc
	make_tap "$SLOTS" && start_client --tap "$TAP" --backpressure --ring-size "$VIRTQUEUE" --delay 1000 &&
		start_watch && start_flood --keep-going --senders 4 || return
	for qdisc in "$@" "$@"; do
		set_discipline $qdisc && goes_on || return
	done
	# Replaces the qdisc, so that its count of dropped packets starts at 0.
	end_flood && until_quiet && tc qdisc del dev "$TAP" root && set_discipline $qdisc &&
		start_flood --keep-going --sender 4 --senders 4 --count "$((MORE / 2))" && wait_for_flood && settle
}

# shape QDISC...: sends more than the qdisc's rate to a fast client
shape() {
	make_tap 500 && set_discipline "$@" && start_client --tap "$TAP" --backpressure &&
		start_watch || return
	# With a small send buffer the sender would wait, and the qdisc would never drop.
	start_flood --size "$PAYLOAD" --sndbuf 1000000 --rate 1000 && measure_rate && end_flood && settle
}

# measure_rate: checks the bytes that have passed against two bounds. Upper bound: bucket plus rate x time since the
# first packet. Lower bound: rate x time since the first drop, when the bucket was empty. A sender or a shaper that
# was delayed catches up from the bucket. If the bucket overflows, the loss stays, but becomes a smaller part of the
# total: so the lower bound is required only at the end.
measure_rate() {
	local tx_packets
	before_first=${EPOCHREALTIME/./} too_fast='' too_slow=''
	wait_for has_begun && wait_for qdisc_has_dropped && statistic tx_packets || return
	base=$((tx_packets * FRAME)) after_base=${EPOCHREALTIME/./}
	wait_until --moving traffic rate_is_known
}

has_begun() {
	local now=${EPOCHREALTIME/./} tx_packets
	statistic tx_packets || return
	((tx_packets == 0)) || return 0
	before_first=$now
	return 1
}

# µs x bit/s / 8,000,000 is a number of bytes.
rate_is_known() {
	local from=${EPOCHREALTIME/./} to most least tx_packets
	statistic tx_packets || return
	to=${EPOCHREALTIME/./}
	passed=$((tx_packets * FRAME)) elapsed=$((from - after_base))
	most=$((BURST + RATE * (to - before_first) * 105 / 100 / 8000000 + FRAME))
	least=$((base + RATE * elapsed * 95 / 100 / 8000000 - FRAME))
	((passed <= most)) || too_fast="$passed bytes passed, at most $most in $(((to - before_first) / 1000)) ms"
	((passed >= least || elapsed < MOST_SECONDS * 1000000)) ||
		too_slow="$((passed - base)) bytes passed, at least $((least - base)) in $((elapsed / 1000)) ms"
	[ -z "$too_fast$too_slow" ] || return 0
	((elapsed >= LEAST_SECONDS * 1000000 && passed >= least))
}

rate_is_kept() {
	[ -n "${milliseconds:-}" ] || { not_seen; return; }
	[ -z "$too_fast$too_slow" ] || echo "seen: $too_fast$too_slow"
	echo "$(((passed - base) * 8000000 / (elapsed + 1))) bit/s of $RATE"
	[ -z "$too_fast$too_slow" ]
}

dropped_above() {
	account "qdisc_drops > 0 && device_drops == 0" \
		"\$qdisc_drops dropped at the qdisc, \$device_drops at the device"
}

check_qdisc() {
	run flow "$SLOTS" 4 "$@"
	common "$1: each packet arrives once, in order, or is dropped by the qdisc" conserved
	common "$1: the queue is never stopped beside an empty ring" never_stalled
	tuntap_ring_only "$1: no packet is dropped at the device" no_device_drops
	remove_tap
}

check_mq() {
	run flow_to_four_queues
	common "mq: each packet arrives once, in order, or is dropped by the qdisc" conserved
	common "mq: no queue is ever stopped beside its empty ring" never_stalled
	common "mq: each of 4 queues has traffic" all_queues_served
	tuntap_ring_only "mq: no packet is dropped at the device" no_device_drops
	remove_tap
}

check_noqueue() {
	run flow "$SLOTS" 4 noqueue
	common "noqueue: each packet arrives once, in order, or is dropped at the device" conserved
	common "noqueue: the queue is never stopped" account "stopped == 0" "seen stopped \$stopped times"
	remove_tap
}

check_change() {
	run flow_through noqueue "${QDISCS[@]}" "$*"
	common "qdisc changed under traffic, at last to $1: then each packet arrives once, in order" conserved
	common "qdisc changed under traffic, at last to $1: the queue is never stopped beside an empty ring" never_stalled
	remove_tap
}

check_shaper() {
	run shape "$@"
	common "$1 of 800 kbit/s: the rate is kept, within 5 %" rate_is_kept
	common "$1 of 800 kbit/s: the excess is dropped by the qdisc" dropped_above
	common "$1 of 800 kbit/s: each packet arrives once, in order, or is dropped by the qdisc" conserved
	remove_tap
}

# The client is slower than the shaper.
check_above() {
	run flow 100 4 tbf rate 1gbit burst 100kb limit 10kb
	common "tbf above a slower client: each packet arrives once, or is dropped" conserved
	tuntap_ring_only "tbf above a slower client: all drops are by the qdisc" dropped_above
	remove_tap
}

check_senders() {
	local name="$1 senders, ring of $2"
	run flow "$2" "$1" pfifo limit 100
	common "$name: each packet arrives once, in order, or is dropped by the qdisc" conserved
	tuntap_ring_only "$name: no packet is dropped at the device" no_device_drops
	remove_tap
}

for qdisc in "${QDISCS[@]}"; do
	part "${qdisc%% *}" 3 check_qdisc "$qdisc"
done
part mq 4 check_mq
part noqueue 2 check_noqueue
part changed-to-pfifo 2 check_change pfifo limit 100
part changed-to-noqueue 2 check_change noqueue
part tbf-shaper 3 check_shaper tbf rate 800kbit burst ${BURST}b limit 20kb
part htb-shaper 3 check_shaper htb 800kbit
part tbf-above 2 check_above
for senders in "${SENDERS[@]}"; do
	for slots in "${RINGS[@]}"; do
		part "$senders-senders-ring-$slots" 2 check_senders "$senders" "$slots"
	done
done
run_parts
