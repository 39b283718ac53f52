# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# What the selftests share. To be sourced, in a guest. A test plans, checks and finishes:
#
#    plan N
#    both NAME COMMAND...       what stock and ours must do: where it does not hold, the test fails
#    promise NAME COMMAND...    what ours promises beyond: with stock an expected failure
#    finish
#
# A command says by its status whether it holds, and prints what was seen. Each check leaves a line in
# /tmp/results/selftests-CONSUMER.txt: name, consumer, `holds` or `falls short`, and what was seen.
#
# From the environment:
#
#    CONSUMER=stock|ours        whose vhost_net (default: ours)
#    SELFTESTS_PERCENT=100      of the packets, for a kernel that is slow
#    SELFTESTS_PATIENCE=5       a second is that long: on a machine without KVM all takes its time
#    SELFTESTS_OURS=            our tuntap_ring.ko and vhost_net.ko where modprobe doesn't find them
#    SELFTESTS_MODULE=          tuntap_ring_test.ko, if not that of the target kernel

BUILT=/src/build/tests-selftests
CLIENT=/src/build/tools/release/tuntap-client
RING=$BUILT/ring
RESULTS=/tmp/results
TEST=$(basename "$0" .sh)

CONSUMER=${CONSUMER:-ours}
PERCENT=${SELFTESTS_PERCENT:-100}
PATIENCE=${SELFTESTS_PATIENCE:-5}
SECOND=$((1000 * PATIENCE)) # in ms, as the kernel's helpers take it
SEEN=$RESULTS/selftests-$CONSUMER.txt

TAP=tap0 GUEST=10.99.0.2 GUEST_MAC=02:00:00:00:00:02 HOST=10.99.0.1
NS=''
WORK=$(mktemp -d)
ACCOUNT=$WORK/account
client='' flood='' watch=''

# shellcheck source=/dev/null
. "$BUILT/kselftest/ktap_helpers.sh"
# shellcheck source=/dev/null
. "$BUILT/net/lib.sh"
# shellcheck source=scripts/vhost.sh
. /src/scripts/vhost.sh

# give_up REASON...: the rest of the plan is missing, so the run has failed
give_up() {
	ktap_exit_fail_msg "$*"
}

clean_up() {
	local pid
	for pid in $flood $watch $client; do
		kill -KILL "$pid" 2>/dev/null
	done
	wait 2>/dev/null
	cleanup_all_ns
	rm -rf "$WORK"
}

# plan N: and what all of them need
plan() {
	ktap_print_header
	ktap_set_plan "$1"
	trap clean_up EXIT
	[ "$CONSUMER" = stock ] || [ "$CONSUMER" = ours ] || give_up "CONSUMER is stock or ours"
	[ ! -e "$SEEN" ] || sed -i "/^$TEST: /d" "$SEEN"
	# shellcheck disable=SC2086 # a list
	load_vhost "$CONSUMER" ${SELFTESTS_OURS:-} || give_up "cannot load the vhost_net of $CONSUMER"
	if [ ! -e /dev/tuntap-ring-test ]; then
		insmod "${SELFTESTS_MODULE:-/src/build/tests-vm/tuntap_ring_test.ko}" ||
			give_up "cannot load tuntap_ring_test"
	fi
}

both() { judge both "$@"; }
promise() { judge ours "$@"; }

# judge both|ours NAME COMMAND...
judge() {
	local whose=$1 name=$2 seen verdict=holds
	shift 2
	seen=$("$@" 2>&1) || verdict='falls short'
	printf '%s: %s\t%s\t%s\t%s\n' "$TEST" "$name" "$CONSUMER" "$verdict" "$(tail -n 1 <<<"$seen")" \
		>>"$SEEN"
	if [ "$verdict" = holds ]; then
		ktap_test_pass "$name"
	elif [ "$whose" = ours ] && [ "$CONSUMER" = stock ]; then
		# As ktap_test_xfail(), and with what was seen.
		__ktap_test ok "$name" "XFAIL $(tail -n 1 <<<"$seen")"
		KTAP_CNT_XFAIL=$((KTAP_CNT_XFAIL + 1))
	else
		printf '%s\n' "$seen" | tail -n 40 | sed 's/^/# /'
		ktap_test_fail "$name"
	fi
}

# finish: also of the script
finish() {
	ktap_finished
}

# packets N: as many as this machine is to send
packets() {
	echo $(($1 * PERCENT / 100))
}

# in_ns COMMAND...: in the namespace, as the same process
in_ns() { exec ip netns exec "$NS" "$@"; }

# make_ns: a new one; nobody speaks IPv6 there unasked
make_ns() {
	setup_ns NS || give_up "cannot make a namespace"
	ip netns exec "$NS" sh -c 'for scope in all default; do
		file=/proc/sys/net/ipv6/conf/$scope/disable_ipv6
		[ ! -e "$file" ] || echo 1 >"$file"
	done'
}

# make_tap SLOTS [OPTION...]: a tap that is up, with a FIFO that holds whatever comes; options are of
# `ip tuntap`
make_tap() {
	local slots=$1
	shift
	ip -n "$NS" tuntap add dev "$TAP" mode tap vnet_hdr "$@" &&
		ip -n "$NS" -batch - <<-BATCH &&
			link set $TAP txqueuelen $slots up
			address add $HOST/24 dev $TAP
			neighbour replace $GUEST lladdr $GUEST_MAC dev $TAP nud permanent
		BATCH
		set_qdisc pfifo limit 1000000
}

# set_qdisc QDISC...: on top
set_qdisc() {
	tc -n "$NS" qdisc replace dev "$TAP" root "$@"
}

# started NAME PID FILE: waits until that process has written to the file
started() {
	slowwait "$((10 * PATIENCE))" wrote "$@" || {
		echo "# $1 does not start:"
		sed 's/^/# /' "$WORK/$1.log"
		return 1
	}
}
wrote() { [ -s "$3" ] || ! kill -0 "$2" 2>/dev/null; }

# start_client OPTION...: of `receive`
start_client() {
	rm -f "$WORK"/client.*
	in_ns "$CLIENT" receive --tap "$TAP" --ready "$WORK/client.ready" --json "$WORK/client.json" \
		"$@" >"$WORK/client.log" 2>&1 &
	client=$!
	started client "$client" "$WORK/client.ready" && kill -0 "$client"
}

# end_client: drains, then tells what came
end_client() {
	local pid=$client
	client=''
	kill -TERM "$pid" && wait "$pid"
}

# start_watch: of the client's rings
start_watch() {
	in_ns "$RING" watch "$client" "$TAP" >"$WORK/watch.log" 2>&1 &
	watch=$!
	started watch "$watch" "$WORK/watch.log" && kill -0 "$watch"
}

end_watch() {
	local pid=$watch
	watch=''
	kill -TERM "$pid" && wait "$pid" && tail -n 1 "$WORK/watch.log" >"$WORK/watch.json"
}

# start_flood OPTION...: of `flood`, until end_flood if they have no end
start_flood() {
	rm -f "$WORK"/flood.*
	[[ " $* " = *" --count "* ]] || set -- --duration 3600 "$@"
	in_ns "$CLIENT" flood --to "$GUEST" --dev "$TAP" --json "$WORK/flood.json" "$@" \
		>"$WORK/flood.log" 2>&1 &
	flood=$!
}

end_flood() {
	kill -TERM "$flood" 2>/dev/null
	wait_for_flood
}

wait_for_flood() {
	local pid=$flood
	flood=''
	wait "$pid" || { sed 's/^/# /' "$WORK/flood.log"; return 1; }
}

# wait_until stopped|running [QUEUE]: its producer has stopped that queue, or it is running
wait_until() {
	ip netns exec "$NS" "$RING" "$1" "$TAP" "${2:-0}" "$((10 * SECOND))" || {
		echo "# queue ${2:-0} is not $1"
		return 1
	}
}

# What device and qdisc have counted, as JSON.
count() {
	jq -n -c --argjson link "$(ip -n "$NS" -s -j link show "$TAP")" \
		--argjson qdisc "$(tc -n "$NS" -s -j qdisc show dev "$TAP")" '
		$link[0].stats64.tx as $tx | ($qdisc | map(select(.root))[0] // {}) as $root |
		{ passed: $tx.packets, device_drops: $tx.dropped, qdisc_drops: ($root.drops // 0),
		  backlog: ($root.qlen // 0) }'
}

# all_arrived SENT: whether nothing is on its way any more
all_arrived() {
	local counted
	counted=$(count) && jq -e --argjson sent "$1" \
		'.backlog == 0 and .passed + .device_drops + .qdisc_drops >= $sent' <<<"$counted" >/dev/null
}

# settle: once the flood has ended: waits a second at most until all has arrived, ends watch and
# client, and makes the account of it all
settle() {
	local sent late=0
	sent=$(jq .sent "$WORK/flood.json") || return
	busywait "$SECOND" all_arrived "$sent" || late=1
	[ -n "$watch" ] && { end_watch || return; }
	[ -e "$WORK/watch.json" ] || echo '{}' >"$WORK/watch.json"
	count >"$WORK/count.json" && end_client || return
	# What was not yet there when the second was over comes with the drain, or is left over.
	jq -n -c --argjson late "$late" --slurpfile flood "$WORK/flood.json" \
		--slurpfile client "$WORK/client.json" --slurpfile count "$WORK/count.json" \
		--slurpfile watch "$WORK/watch.json" '
		$flood[0] as $f | $client[0] as $c | $count[0] as $n | $watch[0] as $w | {
			sent: $f.sent, received: $c.received, late: $late, backlog: $n.backlog,
			device_drops: $n.device_drops, qdisc_drops: $n.qdisc_drops,
			missing: ($f.sent - $c.received - $n.device_drops - $n.qdisc_drops),
			gaps: $c.gaps, reorders: $c.reorders, duplicates: $c.duplicates,
			strays: $c.strays, leftover: $c.leftover, seconds: $c.seconds,
			queues: [$c.queues[].frames], stopped: $w.stopped, stalled_ms: $w.stalled_ms,
			wakes: $w.wakes, wakes_while_full: $w.wakes_while_full, ring: $w.ring
		}' >"$ACCOUNT"
}

# account CONDITION [FIGURE]: whether that holds of the account just made; prints the figure, in jq
account() {
	[ -s "$ACCOUNT" ] || { echo "there is no account"; return 1; }
	jq -e "$1" "$ACCOUNT" >/dev/null && jq -r "${2:-.}" "$ACCOUNT" || {
		jq -c . "$ACCOUNT"
		jq -r "${2:-.}" "$ACCOUNT" | tail -n 1
		return 1
	}
}

# What must hold wherever nobody destroys packets, with any consumer.
CONSERVED='.sent > 0 and .missing == 0 and .late == 0 and .backlog == 0 and .reorders == 0 and
	.duplicates == 0 and .leftover == 0'
CONSERVED_FIGURE='"\(.received) of \(.sent), missing \(.missing), late \(.late), \(.reorders) reordered, \(.duplicates) doubled"'

conserved() { account "$CONSERVED and ${1:-true}" "$CONSERVED_FIGURE"; }

no_device_drops() {
	account '.device_drops == 0' '"\(.device_drops) of \(.sent) dropped at the device"'
}
