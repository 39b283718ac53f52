#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Tests a consumer that does not read. With the in-kernel consumer it blocks its senders forever. tuntap_ring releases
# the device after `stall_timeout=`: its senders go on, and packets that find the ring full are dropped and counted. For
# tuntap_ring a pattern sets the flag, for the in-kernel consumer the opener sets it.
#
#    +-- the other namespace --+      +---------------- network namespace ----------------+
#    |  ping, connect          |      |   programs ─┬▶ qdisc ─▶ tap0 [full] ─▶ not read   |
#    |                         ══veth══   the host's┘    └─ a bridge ─▶ tapr ─▶ reader    |
#    +-------------------------+      +---------------------------------------------------+
#
# Parts: paused, stopped (SIGSTOP), elsewhere (another destination), zerocopy, multicast, bridge-first, bridge-last,
# frames (from a VM), queues (one of four is read), hostile-ping, hostile-syn, hostile-reads (a packet every 400 ms),
# never (stall_timeout=0), slow (a VM that reads just fast enough)

# shellcheck disable=SC2317 # functions that run calls
# shellcheck source=tests/selftests/lib.sh
. "$(dirname "$0")/lib.sh"

TRAFFIC=$TOP/tests/selftests/traffic
TOOL=$TOP/build/tools/release/tuntap-ring
PARAMETERS=/sys/module/tuntap_ring/parameters
SLOTS=100 VIRTQUEUE=64
COUNT=3000
FLAG=()
[ "$CONSUMER" = tuntap_ring ] || FLAG=(--backpressure)
sender='' helper=''

# policy PATTERN: sets the flag of matching devices whose opener has not set it
policy() { [ "$CONSUMER" = in-kernel ] || echo "$1" >$PARAMETERS/backpressure; }
stall_timeout() { echo "$1" >$PARAMETERS/stall_timeout; }
has_flag() { (($(<"/sys/class/net/$TAP/tun_flags") & 0x80)); }

# tap_of SLOTS [OPTION...]: makes a tap whose flag is set by the pattern
tap_of() {
	policy "" && make_tap "$@" && policy "tap*" && released_before=$(counter released)
}

# paused_client: starts a client that takes no packet
paused_client() {
	tap_of "$SLOTS" && start_client --tap "$TAP" --ring-size "$VIRTQUEUE" "${FLAG[@]}" && ask pause
}

# start_sender ARG...: starts `traffic`
start_sender() {
	taskset 1 "$TRAFFIC" "$@" >"$WORK/sender" 2>&1 &
	sender=$!
}

# start_helper ARG...: starts a `traffic` that runs until SIGTERM
start_helper() {
	taskset 1 "$TRAFFIC" "$@" >"$WORK/helper" 2>&1 &
	helper=$!
	wait_until --moving "cpu_of $helper" helper_printed ready || { cat "$WORK/helper"; return 1; }
}
helper_printed() { grep -qx "$1" "$WORK/helper" || ended "$helper"; }
end_helper() {
	kill -TERM "$helper" && wait_until ended "$helper"
	wait "$helper"
	helper=''
	cat "$WORK/helper"
}

# until_over PID: waits until the sender has ended. The in-kernel consumer blocks it forever, so there the wait ends
# once no packet moves.
until_over() {
	if [ "$CONSUMER" = in-kernel ]; then
		until_quiet
	else
		wait_until --moving traffic --moving "counter released" ended "$1"
	fi
	goes_on_=yes
	ended "$1" || goes_on_=no
}

# sent ARG...: runs a sender, and sets `outcome` to its last line
sent() {
	start_sender "$@" && until_over "$sender"
	outcome=$(tail -n 1 "$WORK/sender")
	[ "$goes_on_" = yes ] || outcome="blocked after $(statistic tx_packets && echo "$tx_packets") packets came through"
	[ "$goes_on_" = no ] || wait "$sender" || {
		goes_on_=no
		cat "$WORK/sender"
		return 1
	}
}

# end_all: ends the processes of a part, and removes its devices
end_all() {
	for pid in $sender $helper; do
		kill -KILL "$pid" && wait "$pid"
	done 2>/dev/null
	kill_all
	ip link del br0 2>/dev/null
	ip link del v0 2>/dev/null
	for device in tapr tapg "$TAP"; do
		ip link del "$device" 2>/dev/null
	done
	sender='' helper='' outcome='' goes_on_=''
	policy ""
	stall_timeout 500
}

goes_on_now() {
	echo "${outcome:-the run failed}"
	[ "$goes_on_" = yes ]
}

# check_sender NAME COMMAND...: whether the sender that the command starts goes on
check_sender() {
	run "${@:2}"
	tuntap_ring_only "$1" goes_on_now
	end_all
}

# held PAUSE RESUME: a flood for a client that is paused and resumed with these commands
held() {
	tap_of "$SLOTS" && start_client --tap "$TAP" --ring-size "$VIRTQUEUE" "${FLAG[@]}" && "$1" &&
		start_flood --count "$COUNT" || return
	until_over "$flood"
	outcome="of $COUNT packets $(statistic tx_dropped && echo "$tx_dropped") were dropped"
	released=$(($(counter released) - released_before))
	shown=$([ "$CONSUMER" = in-kernel ] || "$TOOL" status --json | jq -r ".devices[] | select(.name == \"$TAP\") | .flag")
	# shellcheck disable=SC2034 # a condition of account uses it
	statistic tx_dropped && first_dropped=$tx_dropped
	"$2" && wait_for_flood && came_back=no || return
	# The client has emptied the ring.
	[ "$CONSUMER" = in-kernel ] || wait_until --moving traffic has_flag || return
	! has_flag || came_back=yes
	# The queue stops again. With this time-out the device is not released, even on a slow machine.
	stall_timeout 3600000
	ask pause && start_flood --sender 100 --count "$(enough_to_stop "$SLOTS" "$VIRTQUEUE")" && until_stopped 0 && ask resume &&
		wait_for_flood && settle || return
	# Counts only the first flood.
	# shellcheck disable=SC2034
	first_received=$(jq '[.senders[] | select(.id < 100).received] | add' "$WORK/client.json")
}
pause_client() { ask pause; }
resume_client() { ask resume; }
stop_client() { kill -STOP "$client"; }
continue_client() { kill -CONT "$client"; }

released_once() {
	[ "$CONSUMER" = tuntap_ring ] || { echo "has no time-out"; return 1; }
	echo "released ${released:-?} times, shown as ${shown:-?}, and then with backpressure again: ${came_back:-?}"
	[ "$released $shown $came_back" = "1 released yes" ]
}

first_conserved() {
	conserved "all_reorders == 0 && first_received == $COUNT - first_dropped"
}

check_held() {
	run held "$2" "$3"
	tuntap_ring_only "$1: its senders go on" goes_on_now
	tuntap_ring_only "$1: the device is released once, and has backpressure again when its consumer reads" released_once
	common "$1: each packet that was not dropped at the device arrives once, in order" first_conserved
	end_all
}

elsewhere() { paused_client && sent udp --to "$GUEST" --also 127.0.0.1 --count "$COUNT"; }
zerocopy() { paused_client && sent udp --to "$GUEST" --zerocopy --count "$COUNT"; }

# multicast: sends to four groups; skips IPv6's duplicate address detection, which takes a second
multicast() {
	paused_client && echo 0 >/proc/sys/net/ipv6/conf/"$TAP"/accept_dad &&
		echo 0 >/proc/sys/net/ipv6/conf/"$TAP"/disable_ipv6 &&
		sent multicast --dev "$TAP" --count "$((COUNT / 4))"
}

# make_bridge DEVICE...: makes a bridge with these ports, in that order; a helper reads from tapr
make_bridge() {
	local device
	ip tuntap add dev tapr mode tap && ip link set tapr up && start_helper reader --tap tapr "${FLAG[@]}" &&
		ip address flush dev "$TAP" && ip link add br0 type bridge && ip address add 10.97.0.1/24 dev br0 &&
		ip link set br0 up || return
	for device; do
		ip link set "$device" master br0 || return
	done
}

# broadcast PORT PORT: sends broadcasts to a tap that is not read, and to a tap that is read
broadcast() {
	paused_client && make_bridge "$@" && sent udp --to 10.97.0.255 --broadcast --count "$COUNT" &&
		[ "$goes_on_" = yes ] || return
	wait_until --moving reader_progress all_read
}
reader_progress() { cat /sys/class/net/tapr/statistics/tx_{packets,dropped}; }
# all_read: whether all packets have come out of tapr or were dropped there
all_read() {
	local packets dropped
	read -r packets </sys/class/net/tapr/statistics/tx_packets
	read -r dropped </sys/class/net/tapr/statistics/tx_dropped
	((packets + dropped >= COUNT))
}

frames() {
	paused_client && ip tuntap add dev tapg mode tap && ip link set tapg up && make_bridge "$TAP" tapr tapg &&
		bridge fdb replace "$GUEST_MAC" dev "$TAP" master static &&
		bridge fdb replace 02:00:00:00:00:03 dev tapr master static &&
		sent frames --tap tapg --from 02:00:00:00:00:04 --to "$GUEST_MAC" --also 02:00:00:00:00:03 --count "$COUNT"
}

queues() {
	tap_of "$SLOTS" multi_queue && start_helper reader --tap "$TAP" --queues 4 "${FLAG[@]}" &&
		start_flood --senders 16 --count "$COUNT" || return
	until_over "$flood"
	outcome="a flood of $COUNT packets from 16 senders to four queues"
}

# other_namespace: connects the namespace from which the host is pinged
other_namespace() {
	ip link add v0 type veth peer name v1 netns "$other" && ip address add 10.98.0.1/24 dev v0 && ip link set v0 up &&
		ip -n "$other" address add 10.98.0.2/24 dev v1 && ip -n "$other" link set v1 up
}
from_other() { taskset 1 ip netns exec "$other" "$@"; }

# hostile KIND [OPTION...]: a VM sends requests and does not read, so the host's answers wait in front of its tap
hostile() {
	local kind=$1
	shift
	tap_of "$SLOTS" && other_namespace && from_other ping -qc 1 -W 5 10.98.0.1 >/dev/null &&
		start_helper hostile --tap "$TAP" "${FLAG[@]}" "$@" --from "$GUEST_MAC" "$GUEST" \
			--to "$(<"/sys/class/net/$TAP/address")" "$HOST" "$kind" &&
		wait_until --moving "cpu_of $helper" helper_printed sent || return
	[ "$CONSUMER" = in-kernel ] || wait_until --moving "counter released" is_released || return
	answers=0
	for _ in {1..5}; do
		if [ "$kind" = ping ]; then
			! from_other ping -qc 1 -W 1 10.98.0.1 >/dev/null || ((++answers))
		else
			! from_other python3 -c 'import socket
s = socket.socket()
s.settimeout(1)
try:
	s.connect(("10.98.0.1", 9))
except ConnectionRefusedError:
	print("refused")' | grep -q refused || ((++answers))
		fi
	done
	end_helper
}
is_released() { (($(counter released) > released_before)); }
others_answered() {
	echo "${answers:-?} of 5 answered"
	[ "${answers:-}" = 5 ]
}
check_hostile() {
	run hostile "${@:2}"
	tuntap_ring_only "$1: the host answers requests from another host" others_answered
	end_all
}

# never: senders wait, until a time-out is set again
never() {
	stall_timeout 0 && paused_client && start_sender udp --to "$GUEST" --count "$COUNT" && until_quiet || return
	! ended "$sender" && has_flag || return
	stall_timeout 500 && until_over "$sender" && outcome=$(tail -n 1 "$WORK/sender")
}

# slow: reads half a ring for each wake, in three fifths of the time-out
slow() {
	local status=0
	stall_timeout 10000 && tap_of "$SLOTS" && start_helper reader --tap "$TAP" --half "$SLOTS" 6 "${FLAG[@]}" &&
		start_flood --count "$((4 * SLOTS))" && wait_for_flood || status=1
	stall_timeout 500
	statistic tx_dropped
	outcome="$tx_dropped dropped, $(($(counter released) - released_before)) released"
	return "$status"
}
keeps_backpressure() {
	[ "$CONSUMER" = in-kernel ] || echo "$outcome"
	[ "$CONSUMER" = in-kernel ] || [ "$outcome" = "0 dropped, 0 released" ]
}
check_slow() {
	run slow
	common "slow VM: the device keeps backpressure" keeps_backpressure
	end_all
}

check_never() {
	if [ "$CONSUMER" = tuntap_ring ]; then
		run never
	else
		outcome="has no time-out" goes_on_=no
	fi
	tuntap_ring_only "stall_timeout=0: senders wait until there is a time-out again" goes_on_now
	end_all
}

other=''
setup_ns other || give_up "cannot make a network namespace"

# A part's command has no quoted words, so each of these is a function.
check_paused() { check_held "paused client" pause_client resume_client; }
check_stopped() { check_held "stopped client" stop_client continue_client; }
check_elsewhere() { check_sender "paused client: a sender's packets to another destination go on" elsewhere; }
check_zerocopy() { check_sender "paused client: MSG_ZEROCOPY completes" zerocopy; }
check_multicast() { check_sender "paused client: IPv6 multicast from four threads ends" multicast; }
check_bridge_first() { check_sender "bridge, paused port first: broadcasts go on, and reach the other port" broadcast tap0 tapr; }
check_bridge_last() { check_sender "bridge, paused port last: broadcasts go on, and reach the other port" broadcast tapr tap0; }
check_frames() { check_sender "VM beside a paused VM: its frames go on, also to a third VM" frames; }
check_queues() { check_sender "one of four queues read: senders of the other queues go on" queues; }
check_ping() { check_hostile "VM that pings and does not read" ping; }
check_syn() { check_hostile "VM that connects and does not read" syn; }
check_reads() { check_hostile "VM that pings and reads a packet every 400 ms" ping --read 0.4; }

part paused 3 check_paused
part stopped 3 check_stopped
part elsewhere 1 check_elsewhere
part zerocopy 1 check_zerocopy
part multicast 1 check_multicast
part bridge-first 1 check_bridge_first
part bridge-last 1 check_bridge_last
part frames 1 check_frames
part queues 1 check_queues
part hostile-ping 1 check_ping
part hostile-syn 1 check_syn
part hostile-reads 1 check_reads
part never 1 check_never
part slow 1 check_slow
run_parts
