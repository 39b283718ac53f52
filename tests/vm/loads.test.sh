#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Loads and unloads the modules many times, in some rounds with traffic, and checks that they leave nothing behind.
#
#    flood ─▶ tap0 ─▶ ring ─▶ tuntap_ring ─▶ vhost_net ─▶ client, which checks the numbers
#
# usage: loads.test.sh [TUNTAP_RING.KO VHOST_NET.KO]    default: the modules that modprobe finds
#
# ROUNDS=         number of rounds (default: 40; with QUICK=1: 20)
# LEAKS=later     leaves the check for leaks to the caller
# TRAFFIC_EVERY=  every Nth round has traffic (default: 20)

# shellcheck disable=SC2317 # functions that check calls
# shellcheck source=tests/lib/ktap.sh
. /src/tests/lib/ktap.sh
# shellcheck source=tests/lib/wait.sh
. /src/tests/lib/wait.sh
# shellcheck source=tests/kmemleak.sh
. /src/tests/kmemleak.sh
# shellcheck source=scripts/in-vm/vhost.sh
. /src/scripts/in-vm/vhost.sh

ROUNDS=${ROUNDS:-$([ -z "${QUICK:-}" ] && echo 40 || echo 20)} TRAFFIC_EVERY=${TRAFFIC_EVERY:-20}
PACKETS=500
CLIENT=/src/build/tools/release/tuntap-client
MODULES=("$@")
WORK=$(mktemp -d)
exec {progress}>&1
# Allows for random differences, such as pages of growing caches, and for 1 KiB a round: smaller leaks are left to
# kmemleak. kmemleak and KASAN need memory for each object, also freed ones, so with kmemleak growth is not checked.
SLACK_KIB=$((512 + ROUNDS))

load() {
	if [ ${#MODULES[@]} = 0 ]; then
		modprobe tuntap_ring
	else
		insmod "${MODULES[0]}"
	fi
}

# arrived: prints the number of packets taken off the ring
arrived() { cat /sys/class/net/tap0/statistics/tx_packets; }
all_arrived() { [ "$(arrived)" -ge "$PACKETS" ]; }
is_ready() { [ -s "$WORK/ready" ] || ended "$1"; }

# traffic: sends numbered packets through a new tap, and checks that all arrive
traffic() {
	local client seen
	rm -f "$WORK"/{ready,json}
	ip tuntap add dev tap0 mode tap vnet_hdr || return
	sysctl -q net.ipv6.conf.tap0.disable_ipv6=1
	ip link set tap0 txqueuelen 64 up && ip address add 10.99.0.1/24 dev tap0 &&
		ip neighbour replace 10.99.0.2 lladdr 02:00:00:00:00:02 dev tap0 nud permanent &&
		tc qdisc replace dev tap0 root pfifo limit "$PACKETS" || return
	"$CLIENT" receive --tap tap0 --backpressure --ready "$WORK/ready" --json "$WORK/json" &
	client=$!
	wait_until --moving "cpu_of $client" is_ready "$client" && [ -s "$WORK/ready" ] || return
	"$CLIENT" flood --to 10.99.0.2 --dev tap0 --count "$PACKETS" || return
	wait_until --moving arrived all_arrived || echo "seen: $(arrived) of $PACKETS packets"
	kill -TERM "$client" && wait "$client" && ip link del tap0 || return
	seen=$(jq -c '[.received, .gaps, .reorders, .duplicates]' "$WORK/json")
	if [ "$seen" != "[$PACKETS,0,0,0]" ] || [ "$(counter entries)" -lt "$PACKETS" ]; then
		echo "expected: received, gaps, reorders, duplicates = $PACKETS,0,0,0, and as many entries"
		echo "seen: $seen, entries $(counter entries)"
		return 1
	fi
}

# once NUMBER: one round. Every other round loads only tuntap_ring; while vhost_net is loaded, tuntap_ring must not
# unload.
once() {
	if [ $(($1 % TRAFFIC_EVERY)) = 0 ] || [ $(($1 % 2)) = 0 ]; then
		load_vhost tuntap_ring "${MODULES[@]}" || return
		expect_error 1 "in use" rmmod tuntap_ring || return
		[ $(($1 % TRAFFIC_EVERY)) != 0 ] || traffic || return
		unload_consumer || return
	else
		load || return
	fi
	[ "$(cat /sys/module/tuntap_ring/refcnt)" = 0 ] && rmmod tuntap_ring &&
		[ ! -e /sys/module/tuntap_ring ]
}

# rounds FROM TO
rounds() {
	local i
	for ((i = $1; i <= $2; i++)); do
		once "$i" || { echo "in round $i"; return 1; }
		# A run without output for long is taken for a hang.
		((i % 10 != 0)) || echo "# $i rounds" >&"$progress"
	done
}

# memory KIND: prints an amount in KiB, or the number of areas
memory() {
	case $1 in
	slab) awk '/^SUnreclaim:/ { print $2 }' /proc/meminfo ;;
	vmalloc) awk '/^VmallocUsed:/ { print $2 }' /proc/meminfo ;;
	areas) wc -l </proc/vmallocinfo ;;
	esac
}

# note FILE: records memory use, with caches dropped
note() {
	local kind
	echo 3 >/proc/sys/vm/drop_caches
	for kind in slab vmalloc areas; do
		echo "$kind $(memory "$kind")"
	done >"$WORK/$1"
}

# grew KIND: prints the growth between the two notes
grew() {
	local before after
	before=$(sed -n "s/^$1 //p" "$WORK/before") after=$(sed -n "s/^$1 //p" "$WORK/after")
	echo "$1: $before before, $after after $ROUNDS rounds" >&2
	echo $((after - before))
}

# is_at_most KIND MOST: whether the growth is at most MOST
is_at_most() {
	local growth
	growth=$(grew "$1" 2>/dev/null)
	((growth >= least)) || least=$growth
	[ "$growth" -le "$2" ] || {
		note after
		return 1
	}
}
least_growth() { echo "$least"; }

# no_more_than KIND MOST: waits until the growth is at most MOST. RCU and work queues free memory later: as long as
# the smallest growth decreases, waiting goes on.
no_more_than() {
	local least
	least=$(grew "$1" 2>/dev/null)
	wait_until --moving least_growth is_at_most "$1" "$2" || {
		echo "expected: $1 grows by $2 at most"
		grew "$1"
		return 1
	}
}

no_growth() { no_more_than slab "$SLACK_KIB" && no_more_than vmalloc "$SLACK_KIB"; }

# nothing_of FILE...: whether no file contains the module's name
nothing_of() {
	[ -e "$1" ] && ! grep -rIs -e tuntap_ring "$@"
}

no_files() {
	local left
	left=$(find /sys /proc/sys -name '*tuntap*ring*' 2>/dev/null)
	echo "$left"
	[ -z "$left" ]
}

rmmod tuntap_ring_test 2>/dev/null
unload_vhost
modprobe -a vhost tun tap
# Expedited grace periods make the rounds much faster.
[ ! -w /sys/kernel/rcu_expedited ] || echo 1 >/sys/kernel/rcu_expedited
mountpoint -q "$TRACING" || mount -t tracefs tracefs "$TRACING" 2>/dev/null

# User-mode Linux has no trace events.
traces=0
[ ! -e "$TRACING/available_events" ] || traces=1
leaks=1
[ "${LEAKS:-}" != later ] || leaks=0
# The checks depend on each other.
if [ ${#MODULES[@]} = 0 ]; then
	run_alone "${RUN_ALONE:-tests/vm/run}" loads
else
	run_alone tests/loads/run
fi
plan $((7 + leaks + traces))
# The first rounds allocate memory that stays: caches, and memory of other drivers.
check "modules load and unload, with traffic in one round" rounds 1 "$TRAFFIC_EVERY"
note before
check "modules load and unload $ROUNDS times, some rounds with traffic" rounds 1 "$ROUNDS"
note after
check "no file of tuntap_ring stays in /sys, debugfs, tracefs" no_files
check "no symbol of tuntap_ring stays" nothing_of /proc/kallsyms
[ "$traces" = 0 ] || check "no trace event of tuntap_ring stays" nothing_of "$TRACING/available_events" \
	"$TRACING/kprobe_events"
check "no module stays that is or uses tuntap_ring" nothing_of /proc/modules
check "no memory area of tuntap_ring stays" nothing_of /proc/vmallocinfo
check "the number of memory areas does not grow" no_more_than areas $((ROUNDS / 4))
if [ "$leaks" = 0 ]; then
	echo "# leaks are checked later"
elif [ -w "$KMEMLEAK" ]; then
	check "kmemleak finds no leak" no_leaks
else
	check "neither slabs nor vmalloc grow" no_growth
fi
echo "# $ROUNDS rounds, each ${TRAFFIC_EVERY}th with traffic"
for kind in areas vmalloc slab; do
	grew "$kind" 2>&1 >/dev/null | ktap_diagnostic
done
rm -rf "$WORK"
[ ! -w /sys/kernel/rcu_expedited ] || echo 0 >/sys/kernel/rcu_expedited
finish
