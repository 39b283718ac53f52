#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Loads and unloads the modules many times, at times with traffic in between, and looks at what is
# left: nothing.
#
#    flood ─▶ tap0 ─▶ ring ─▶ tuntap_ring ─▶ vhost_net ─▶ client, which knows the numbers
#
# usage: loads.test.sh [TUNTAP_RING.KO VHOST_NET.KO]    these, or those that modprobe finds
#
# ROUNDS=         how often (default 100)
# LEAKS=later     somebody else has kmemleak look for them, when all is over
# TRAFFIC_EVERY=  which of these have traffic (default: each 20th)

# shellcheck disable=SC2317 # functions that check calls
# shellcheck source=tests/ktap.sh
. /src/tests/ktap.sh
# shellcheck source=tests/kmemleak.sh
. /src/tests/kmemleak.sh
# shellcheck source=scripts/vhost.sh
. /src/scripts/vhost.sh

ROUNDS=${ROUNDS:-100} TRAFFIC_EVERY=${TRAFFIC_EVERY:-20}
PACKETS=500
CLIENT=/src/build/tools/release/tuntap-client
MODULES=("$@")
WORK=$(mktemp -d)
# What may differ by chance, such as pages of caches that grow, and a KiB a round: less than that is
# kmemleak's to find. That and KASAN keep memory of their own for what there is and was, so where kmemleak
# is it finds all.
SLACK_KIB=$((512 + ROUNDS))

load() {
	if [ ${#MODULES[@]} = 0 ]; then
		modprobe tuntap_ring
	else
		insmod "${MODULES[0]}"
	fi
}

# Numbered packets through a tap of its own, all of which arrive.
traffic() {
	local client
	rm -f "$WORK"/{ready,json}
	ip tuntap add dev tap0 mode tap vnet_hdr || return
	sysctl -q net.ipv6.conf.tap0.disable_ipv6=1
	ip link set tap0 txqueuelen 64 up && ip address add 10.99.0.1/24 dev tap0 &&
		ip neighbour replace 10.99.0.2 lladdr 02:00:00:00:00:02 dev tap0 nud permanent &&
		tc qdisc replace dev tap0 root pfifo limit "$PACKETS" || return
	"$CLIENT" receive --tap tap0 --backpressure --ready "$WORK/ready" --json "$WORK/json" &
	client=$!
	until [ -s "$WORK/ready" ]; do
		kill -0 "$client" || return
		sleep 0.02
	done
	"$CLIENT" flood --to 10.99.0.2 --dev tap0 --count "$PACKETS" || return
	kill -TERM "$client" && wait "$client" && ip link del tap0 || return
	[ "$(jq -c '[.received, .gaps, .reorders, .duplicates]' "$WORK/json")" = "[$PACKETS,0,0,0]" ] &&
		[ "$(counter entries)" -ge "$PACKETS" ]
}

# once NUMBER: every other one has tuntap_ring only; while vhost_net is loaded, tuntap_ring stays
once() {
	if [ $(($1 % TRAFFIC_EVERY)) = 0 ] || [ $(($1 % 2)) = 0 ]; then
		load_vhost ours "${MODULES[@]}" || return
		! rmmod tuntap_ring 2>/dev/null || { echo "unloaded under vhost_net"; return 1; }
		[ $(($1 % TRAFFIC_EVERY)) != 0 ] || traffic || return
		rmmod vhost_net || return
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
	done
}

# memory KIND: in KiB, or areas of it
memory() {
	case $1 in
	slab) awk '/^SUnreclaim:/ { print $2 }' /proc/meminfo ;;
	vmalloc) awk '/^VmallocUsed:/ { print $2 }' /proc/meminfo ;;
	areas) wc -l </proc/vmallocinfo ;;
	esac
}

# note FILE: what there is, once all that is freed later has been
note() {
	local kind
	echo 3 >/proc/sys/vm/drop_caches
	for kind in slab vmalloc areas; do
		echo "$kind $(memory "$kind")"
	done >"$WORK/$1"
}

# grew KIND: between the two notes
grew() {
	local before after
	before=$(sed -n "s/^$1 //p" "$WORK/before") after=$(sed -n "s/^$1 //p" "$WORK/after")
	echo "$1: $before before, $after after $ROUNDS rounds" >&2
	echo $((after - before))
}

# no_more_than KIND MOST: has been added; what goes by RCU or a work queue may take its time
no_more_than() {
	for _ in {1..50}; do
		[ "$(grew "$1")" -gt "$2" ] || return 0
		sleep 0.2
		note after
	done 2>/dev/null
	grew "$1"
	return 1
}

no_growth() { no_more_than slab "$SLACK_KIB" && no_more_than vmalloc "$SLACK_KIB"; }

# nothing_of WHERE: has the module's name
nothing_of() {
	[ -e "$1" ] && ! grep -rIsl -e tuntap_ring "$@"
}

no_files() {
	local left
	left=$(find /sys /proc/sys -name '*tuntap*ring*' 2>/dev/null)
	echo "$left"
	[ -z "$left" ]
}

rmmod vhost_net tuntap_ring_test tuntap_ring 2>/dev/null
modprobe -a vhost tun tap
# Most of the time goes into grace periods.
[ ! -w /sys/kernel/rcu_expedited ] || echo 1 >/sys/kernel/rcu_expedited
mountpoint -q "$TRACING" || mount -t tracefs tracefs "$TRACING" 2>/dev/null

# User-mode Linux has no trace events.
traces=0
[ ! -e "$TRACING/available_events" ] || traces=1
leaks=1
[ "${LEAKS:-}" != later ] || leaks=0
plan $((7 + leaks + traces))
# What the first ones take stays: caches, and the memory of drivers that are used.
check "the first rounds" rounds 1 "$TRAFFIC_EVERY"
note before
check "$ROUNDS rounds, each ${TRAFFIC_EVERY}th with traffic" rounds 1 "$ROUNDS"
note after
check "no file is left in /sys, debugfs, tracefs" no_files
check "no symbol is left" nothing_of /proc/kallsyms
[ "$traces" = 0 ] || check "no trace event is left" nothing_of "$TRACING/available_events" "$TRACING/kprobe_events"
check "no module is left" nothing_of /proc/modules
check "no memory is left under the module's name" nothing_of /proc/vmallocinfo
check "memory areas do not grow in number" no_more_than areas $((ROUNDS / 4))
if [ "$leaks" = 0 ]; then
	echo "# leaks are looked for later"
elif [ -w "$KMEMLEAK" ]; then
	check "nothing leaks" no_leaks
else
	check "neither slabs nor vmalloc grow" no_growth
fi
for kind in areas vmalloc slab; do
	grew "$kind" 2>&1 >/dev/null | sed 's/^/# /'
done
rm -rf "$WORK"
[ ! -w /sys/kernel/rcu_expedited ] || echo 0 >/sys/kernel/rcu_expedited
finish
