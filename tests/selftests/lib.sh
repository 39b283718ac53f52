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
#    SELFTESTS_KERNEL=          its name, if it is not the target
#    SELFTESTS_PERCENT=100      of the packets, for a kernel that is slow; and what is done again and again
#                               is done once then
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
# How often a thing is done that is done again and again.
# shellcheck disable=SC2034 # used by those that source this
REPEATS=({1..3})
# shellcheck disable=SC2034
[ "$PERCENT" = 100 ] || REPEATS=(1)
SEEN=$RESULTS/selftests-${SELFTESTS_KERNEL:+$SELFTESTS_KERNEL-}$CONSUMER.txt

TAP=tap0 GUEST=10.99.0.2 GUEST_MAC=02:00:00:00:00:02 HOST=10.99.0.1
STATISTICS=/sys/class/net/$TAP/statistics

# shellcheck source=/dev/null
. "$BUILT/kselftest/ktap_helpers.sh"
# shellcheck source=/dev/null
. "$BUILT/net/lib.sh"
# shellcheck source=scripts/vhost.sh
. /src/scripts/vhost.sh

# Of the kernel's helpers, what runs at each turn of a loop: without a process of its own, of which each
# takes its time in a virtual machine.
timestamp_ms() { echo $((${EPOCHREALTIME/./} / 1000)); }
rest() { read -rt "$1" -u "$NEVER"; }

# wait_for MS COMMAND...: until it succeeds, or for so long
wait_for() { loopy_wait 'rest 0.01' "$@" >/dev/null; }

# on_target WHAT: what another kernel may lack the target has
on_target() {
	[ -n "${SELFTESTS_KERNEL:-}" ] || give_up "this kernel has no $1"
}

# give_up REASON...: the rest of the plan is missing, so the run has failed
give_up() {
	ktap_exit_fail_msg "$*"
}

# All of a test runs in a network namespace, which goes at its end with all that is in it.
if [ -z "${SELFTESTS_NS:-}" ]; then
	NS=''
	trap cleanup_all_ns EXIT
	setup_ns NS || give_up "cannot make a network namespace"
	SELFTESTS_NS=$NS ip netns exec "$NS" bash "$0"
	exit
fi
WORK=$(mktemp -d)
mkfifo "$WORK"/{never,watch,to,from}
exec {NEVER}<>"$WORK/never" {FROM_WATCH}<>"$WORK/watch" {TO_CLIENT}<>"$WORK/to" {FROM_CLIENT}<>"$WORK/from"
client='' flood='' watch=''
# Who sends, and through what.
SENDER=("$CLIENT") FROM=$TAP

kill_all() {
	local pid
	for pid in $flood $watch $client; do
		kill -KILL "$pid" && wait "$pid"
	done 2>/dev/null
	client='' flood='' watch=''
}

clean_up() {
	kill_all
	cleanup_all_ns
	rm -rf "$WORK"
}
trap clean_up EXIT

# plan N: and what all of them need
plan() {
	local scope
	ktap_print_header
	ktap_set_plan "$1"
	[ "$CONSUMER" = stock ] || [ "$CONSUMER" = ours ] || give_up "CONSUMER is stock or ours"
	[ ! -e "$SEEN" ] || sed -i "/^$TEST: /d" "$SEEN"
	# Anew, with the parameters that it has by default.
	rmmod tuntap_ring_test 2>/dev/null
	# shellcheck disable=SC2086 # a list
	load_vhost "$CONSUMER" ${SELFTESTS_OURS:-} || give_up "cannot load the vhost_net of $CONSUMER"
	# The test module takes our exports, whoever calls them.
	[ -e /sys/module/tuntap_ring ] || modprobe tuntap_ring 2>/dev/null ||
		insmod "${SELFTESTS_OURS%% *}"
	insmod "${SELFTESTS_MODULE:-/src/build/tests-vm/tuntap_ring_test.ko}" ||
		give_up "cannot load tuntap_ring_test"
	# Nobody speaks unasked.
	for scope in all default; do
		scope=/proc/sys/net/ipv6/conf/$scope/disable_ipv6
		[ ! -e "$scope" ] || echo 1 >"$scope"
	done
}

# What a command ends with if there was nothing to see. That nobody expects.
NOT_SEEN=2

both() { judge both "$@"; }
promise() { judge ours "$@"; }

# judge both|ours NAME COMMAND...
judge() {
	local whose=$1 name=$2 seen verdict=holds figure
	shift 2
	seen=$("$@" 2>&1) || { [ $? = "$NOT_SEEN" ] && whose=both; verdict='falls short'; }
	figure=${seen##*$'\n'}
	printf '%s: %s\t%s\t%s\t%s\n' "$TEST" "$name" "$CONSUMER" "$verdict" "$figure" >>"$SEEN"
	if [ "$verdict" = holds ]; then
		ktap_test_pass "$name"
	elif [ "$whose" = ours ] && [ "$CONSUMER" = stock ]; then
		# As ktap_test_xfail(), and with what was seen.
		__ktap_test ok "$name" "XFAIL $figure"
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

# make_tap SLOTS [OPTION...]: a tap that is up, with a FIFO that holds whatever comes; options are of
# `ip tuntap`
make_tap() {
	local slots=$1
	shift
	ip -batch - <<-BATCH && set_qdisc pfifo limit 1000000
		tuntap add dev $TAP mode tap vnet_hdr $*
		link set $TAP txqueuelen $slots up
		address add $HOST/24 dev $TAP
		neighbour replace $GUEST lladdr $GUEST_MAC dev $TAP nud permanent
	BATCH
}

remove_tap() {
	ip link del "$TAP"
}

# set_qdisc QDISC...: on top
set_qdisc() {
	tc qdisc replace dev "$TAP" root "$@"
}

# start_client OPTION...: of `receive`, which then waits for commands
start_client() {
	rm -f "$WORK/client.json"
	# What one that was killed has not read or said.
	while read -rt 0.001 -u "$TO_CLIENT" || read -rt 0.001 -u "$FROM_CLIENT"; do :; done
	"$CLIENT" receive --control --idle 100 --json "$WORK/client.json" "$@" \
		<"$WORK/to" >"$WORK/from" 2>"$WORK/client.log" &
	client=$!
	ask status || { cat "$WORK/client.log"; return 1; }
}

# ask COMMAND: a line to the client, its answer goes into the variable answer
ask() {
	local second part
	answer=''
	echo "$*" >&"$TO_CLIENT"
	for ((second = 0; second < 10 * PATIENCE; second++)); do
		# Of a line that is not whole yet, it keeps what there is.
		if read -rt 1 -u "$FROM_CLIENT" part; then
			answer+=$part
			[[ $answer = ok* ]] || echo "client: $*: $answer"
			[[ $answer = ok* ]]
			return
		fi
		answer+=$part
		kill -0 "$client" 2>/dev/null || break
	done
	echo "client: $*: no answer"
	return 1
}

# end_client: drains, then tells what came
end_client() {
	local pid=$client
	ask quit && client='' && wait "$pid" && return
	cat "$WORK/client.log"
	return 1
}

# Of the client's rings.
start_watch() { start_ring watch; }
start_interrupts() { start_ring interrupt; }

# start_ring COMMAND
start_ring() {
	local line=''
	"$RING" "$1" "$client" "$TAP" >"$WORK/watch" &
	watch=$!
	read -rt "$((10 * PATIENCE))" -u "$FROM_WATCH" line
	[ "$line" = watching ] || { echo "$line"; return 1; }
}

# end_watch: the longest stall is of all watches of a run
end_watch() {
	local pid=$watch line=''
	watch=''
	# One that has interrupted enough has ended by itself.
	kill -TERM "$pid" 2>/dev/null
	wait "$pid" && read -rt "$PATIENCE" -u "$FROM_WATCH" line &&
		[[ $line =~ \"stalled_ms\":\ ([0-9]+) ]] || return
	((BASH_REMATCH[1] <= longest_stall)) || longest_stall=${BASH_REMATCH[1]}
	echo "$line" >"$WORK/watch.json"
}

# start_flood OPTION...: of `flood`, until end_flood if they have no end
start_flood() {
	rm -f "$WORK"/flood.*
	statistic tx_dropped && statistic tx_packets || return
	dropped_before=$tx_dropped packets_before=$tx_packets
	[[ " $*" = *" --count "* || " $*" = *" --duration "* ]] || set -- --duration 3600 "$@"
	"${SENDER[@]}" flood --to "$GUEST" --dev "$FROM" --json "$WORK/flood.json" "$@" \
		>"$WORK/flood.log" 2>&1 &
	flood=$!
}

end_flood() {
	kill -TERM "$flood" && wait_for_flood
}

# One that has an end comes to it, unless its queue stays stopped.
wait_for_flood() {
	local pid=$flood over=0
	wait_for "$((10 * SECOND))" flood_is_over || {
		echo "the flood does not come to its end"
		over=1
		kill -TERM "$pid"
	}
	flood=''
	wait "$pid" || { cat "$WORK/flood.log"; return 1; }
	return "$over"
}
flood_is_over() { ! kill -0 "$flood" 2>/dev/null; }

# until_queue stopped|running [QUEUE]
until_queue() {
	"$RING" "$1" "$TAP" "${2:-0}" "$((10 * SECOND))" || { echo "queue ${2:-0} is not $1"; return 1; }
}

# An account is these variables, each of them a number:
FIELDS=(sent received missing late backlog reorders all_reorders duplicates strays leftover device_drops
	qdisc_drops milliseconds queues stopped stalled wakes wakes_while_full
	interrupted)

# run COMMAND...: which is to end with settle, which makes the account
run() {
	unset "${FIELDS[@]}"
	longest_stall=0
	rm -f "$WORK/watch.json" "$WORK/flood.json"
	"$@" && return
	echo "# failed: $*"
	# With what is known of the ring.
	[ -z "$watch" ] || ! end_watch || sed 's/^/# /' "$WORK/watch.json"
	kill_all
}

# statistic NAME: of the tap, into that variable
statistic() { read -r "$1" <"$STATISTICS/$1"; }

# What came out of the ring, and what the device dropped, must be all; or else the qdisc has dropped or
# still has it.
all_arrived() {
	local tx_packets tx_dropped qdisc
	statistic tx_packets && statistic tx_dropped || return
	((tx_packets += tx_dropped - dropped_before - packets_before))
	((tx_packets < sent)) || return 0
	qdisc=$(tc -s qdisc show dev "$TAP" root)
	[[ $qdisc =~ dropped\ ([0-9]+).*backlog\ [0-9]+b\ ([0-9]+)p ]] &&
		((tx_packets + BASH_REMATCH[1] >= sent && BASH_REMATCH[2] == 0))
}

# goes_on: waits until more has come through than had
goes_on() {
	local tx_packets
	statistic tx_packets && wait_for "$((10 * SECOND))" more_than "$((tx_packets + 200))" && return
	echo "nothing comes through any more"
	return 1
}
more_than() {
	local tx_packets
	statistic tx_packets && ((tx_packets >= $1))
}

# until_quiet: nothing has come for a while
until_quiet() {
	local tx_packets=-1 before
	for (( ; ; )); do
		before=$tx_packets
		statistic tx_packets || return
		((tx_packets != before)) || return 0
		rest 0.2
	done
}

# settle_what_is_left: where some must be missing, which nobody waits for
settle_what_is_left() { wait_for "$SECOND" nothing_waits; until_quiet && SECOND=0 settle; }
nothing_waits() { [[ $(tc -s qdisc show dev "$TAP" root) =~ backlog\ 0b\ 0p ]]; }

# settle: once the flood has ended: waits for a second at most until all has arrived, ends watch and
# client, and makes the account of what that flood sent; all_reorders and what is not of a sender is of
# all floods
settle() {
	local tx_dropped name value
	[[ $(<"$WORK/flood.json") =~ \"sent\":\ ([0-9]+) ]] && sent=${BASH_REMATCH[1]} || return
	late=0
	# shellcheck disable=SC2034 # conditions of account use it
	wait_for "$SECOND" all_arrived || late=1
	[ -z "$watch" ] || end_watch || return
	[ -e "$WORK/watch.json" ] || echo '{}' >"$WORK/watch.json"
	tc -s -j qdisc show dev "$TAP" root >"$WORK/qdisc.json" && statistic tx_dropped && end_client ||
		return
	# What was not there when the second was over comes with the drain, or is left over.
	while IFS='=' read -r name value; do
		printf -v "$name" %s "$value"
	done <<<"$(jq -n -r --argjson dropped "$((tx_dropped - dropped_before))" \
		--argjson longest_stall "$longest_stall" --slurpfile flood "$WORK/flood.json" \
		--slurpfile client "$WORK/client.json" --slurpfile qdisc "$WORK/qdisc.json" \
		--slurpfile watch "$WORK/watch.json" '
		$client[0] as $client | ($qdisc[0][0] // {}) as $qdisc | ($qdisc.drops // 0) as $qdisc_drops |
		[$flood[0].senders[].id] as $ids |
		[$client.senders[] | select(IN(.id; $ids[]))] as $senders |
		([$senders[].received] | add // 0) as $received |
		($client | { received: $received, reorders: ([$senders[].reorders] | add // 0),
			all_reorders: .reorders, duplicates, strays, leftover,
			milliseconds: (.seconds * 1000 | round),
			queues: [.queues[] | select(.frames > 0)] | length }) +
		($watch[0] | { stopped, stalled: (if .stalled_ms then $longest_stall else null end), wakes, wakes_while_full, interrupted }) +
		{ device_drops: $dropped, qdisc_drops: $qdisc_drops, backlog: ($qdisc.qlen // 0),
		  missing: ($flood[0].sent - $received - ($dropped - $flood[0].down) - $qdisc_drops) } |
		to_entries[] | select(.value != null) | "\(.key)=\(.value)"')"
}

# account CONDITION TEXT: whether it holds of the account, both with its variables
account() {
	local name
	[ -n "${received:-}" ] || { echo "there is no account"; return "$NOT_SEEN"; }
	(($1)) || {
		for name in "${FIELDS[@]}"; do
			echo "$name=${!name:-}"
		done
		[ ! -s "$WORK/watch.json" ] || cat "$WORK/watch.json"
	}
	eval "echo \"$2\""
	(($1))
}

# conserved [CONDITION]: what must hold wherever nobody destroys packets, with any consumer
conserved() {
	account "sent > 0 && missing == 0 && late == 0 && backlog == 0 && reorders == 0 &&
		duplicates == 0 && leftover == 0 && ${1:-1}" \
		"\$received of \$sent came, \$missing unaccounted for, \$((backlog + leftover)) stuck, \$all_reorders out of order, \$duplicates doubled"
}

never_stalled() {
	[ -n "${stalled:-}" ] || { echo "nobody watched"; return "$NOT_SEEN"; }
	account "stalled < SECOND" "stopped beside a dry ring for \$stalled ms"
}

no_device_drops() {
	account "device_drops == 0" "\$device_drops of \$sent dropped at the device"
}
