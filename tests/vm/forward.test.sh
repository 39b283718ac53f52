#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The client between two taps: all that is sent into one comes out of the other, in order.
#
#    flood ─▶ tap0 ─▶ forward ─▶ tap1 ─redirect─▶ tap2 ─▶ receive, which knows the numbers
#
# and the same from tap1 to tap0. The rings are small and stop their queues, so that each side has to
# wait for the next.

# shellcheck disable=SC2317 # functions that check calls
# shellcheck source=tests/ktap.sh
. ../ktap.sh

CLIENT=$PWD/../../build/tools/release/tuntap-client
PACKETS=20000
WORK=$(mktemp -d)

# client NAME ARG...: in the background, until it is ready
client() {
	local name=$1
	shift
	rm -f "$WORK/$name.json"
	"$CLIENT" "$@" --ready "$WORK/$name.ready" --json "$WORK/$name.json" >"$WORK/$name.log" 2>&1 &
	echo "$!" >"$WORK/$name.pid"
	until [ -s "$WORK/$name.ready" ]; do
		kill -0 "$!" || { cat "$WORK/$name.log"; return 1; }
		sleep 0.02
	done
}

# ended NAME FILTER VALUE: ends it, and says whether its result is so; it has none if it failed
ended() {
	local pid
	pid=$(cat "$WORK/$1.pid")
	kill -TERM "$pid" && timeout 30 tail --pid="$pid" -f /dev/null || return
	cat "$WORK/$1.log"
	[ "$(jq -c "$2" "$WORK/$1.json")" = "$3" ]
}

# A queue that holds all packets and drops none.
set_up() {
	for tap in tap0 tap1 tap2; do
		sysctl -q "net.ipv6.conf.$tap.disable_ipv6=1"
		ip link set "$tap" txqueuelen 32 up
		tc qdisc replace dev "$tap" root pfifo limit "$PACKETS"
	done
	for tap in tap0 tap1; do
		ip address replace "10.99.${tap#tap}.1/24" dev "$tap"
		ip neighbour replace "10.99.${tap#tap}.2" lladdr 02:00:00:00:00:02 dev "$tap" nud permanent
		# Anew, for a tap2 that is another one each time.
		tc qdisc del dev "$tap" clsact 2>/dev/null || true
		tc qdisc add dev "$tap" clsact
		tc filter add dev "$tap" ingress matchall action mirred egress redirect dev tap2
	done
}

# goes FROM: whether all packets that are sent into that tap come out at the other
goes() {
	client receive receive --tap tap2 --backpressure && set_up || return
	"$CLIENT" flood --to "10.99.${1#tap}.2" --dev "$1" --count "$PACKETS" || return
	ended receive '[.received, .gaps, .reorders, .duplicates, .leftover]' "[$PACKETS,0,0,0,0]"
}

modprobe vhost_net
plan 4
check "two taps are attached" client forward forward --tap tap0 --tap tap1 --backpressure \
	--ring-size 64
check "all packets go from the first tap to the second" goes tap0
check "all packets go from the second tap to the first" goes tap1
check "both ways are counted" ended forward '[.there.frames, .back.frames]' "[$PACKETS,$PACKETS]"
modprobe -r vhost_net
finish
