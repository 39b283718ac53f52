#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Tests tuntap-client forward between two taps: all packets sent into one tap come out of the other, in order.
#
#    flood ─▶ tap0 ─▶ forward ─▶ tap1 ─redirect─▶ tap2 ─▶ receive, which checks the numbers
#
# The same is tested from tap1 to tap0. The rings are small and stop their queues, so that each side must wait for the
# next.
#
# QUICK=1  fewer packets

# shellcheck disable=SC2317 # functions that check calls
# shellcheck source=tests/lib/ktap.sh
. ../lib/ktap.sh
# shellcheck source=scripts/in-vm/vhost.sh
. ../../scripts/in-vm/vhost.sh
# shellcheck source=tests/lib/wait.sh
. ../lib/wait.sh

CLIENT=$PWD/../../build/tools/release/tuntap-client
PACKETS=20000
[ -z "${QUICK:-}" ] || PACKETS=4000
WORK=$(mktemp -d)

is_ready() { [ -s "$WORK/$1.ready" ] || ended "$2"; }

# client NAME ARG...: starts a client in the background, and waits until it is ready
client() {
	local name=$1 pid
	shift
	rm -f "$WORK/$name".{ready,json}
	"$CLIENT" "$@" --ready "$WORK/$name.ready" --json "$WORK/$name.json" >"$WORK/$name.log" 2>&1 &
	pid=$!
	echo "$pid" >"$WORK/$name.pid"
	wait_until --moving "cpu_of $pid" is_ready "$name" "$pid" || return
	[ -s "$WORK/$name.ready" ] || {
		cat "$WORK/$name.log"
		return 1
	}
}

# ends NAME FILTER VALUE: ends the client, and checks that its report has that value; a failed client has no report
ends() {
	local pid seen
	pid=$(cat "$WORK/$1.pid")
	kill -TERM "$pid" && wait_until --moving "cpu_of $pid" ended "$pid" || return
	seen=$(jq -c "$2" "$WORK/$1.json")
	[ "$seen" = "$3" ] || {
		echo "expected: $2 = $3, seen: $seen"
		cat "$WORK/$1.log"
		return 1
	}
}

# set_up: configures the taps, with queues that hold all packets
set_up() {
	for tap in tap0 tap1 tap2; do
		sysctl -q "net.ipv6.conf.$tap.disable_ipv6=1"
		ip link set "$tap" txqueuelen 32 up
		tc qdisc replace dev "$tap" root pfifo limit "$PACKETS"
	done
	for tap in tap0 tap1; do
		ip address replace "10.99.${tap#tap}.1/24" dev "$tap"
		ip neighbour replace "10.99.${tap#tap}.2" lladdr 02:00:00:00:00:02 dev "$tap" nud permanent
		# tap2 is a new device each time, so the redirect must be set up again.
		tc qdisc del dev "$tap" clsact 2>/dev/null || true
		tc qdisc add dev "$tap" clsact
		tc filter add dev "$tap" ingress matchall action mirred egress redirect dev tap2
	done
}

# arrived: prints the number of packets taken off the last ring
arrived() { cat /sys/class/net/tap2/statistics/tx_packets; }
all_arrived() { [ "$(arrived)" -ge "$PACKETS" ]; }

# passes FROM: whether all packets sent into that tap come out of the other
passes() {
	client receive receive --tap tap2 --backpressure && set_up || return
	"$CLIENT" flood --to "10.99.${1#tap}.2" --dev "$1" --count "$PACKETS" || return
	wait_until --moving arrived all_arrived || echo "seen: $(arrived) of $PACKETS packets"
	ends receive '[.received, .gaps, .reorders, .duplicates, .leftover]' "[$PACKETS,0,0,0,0]"
}

load_vhost tuntap_ring
# The checks depend on each other.
run_alone "${RUN_ALONE:-tests/vm/run}" forward
plan 4
check "tuntap-client forward attaches two taps" client forward forward --tap tap0 --tap tap1 --backpressure \
	--ring-size 64
check "all packets pass from the first tap to the second, once and in order" passes tap0
check "all packets pass from the second tap to the first, once and in order" passes tap1
check "tuntap-client forward counts both ways" ends forward '[.there.frames, .back.frames]' "[$PACKETS,$PACKETS]"
unload_vhost
rm -rf "$WORK"
finish
