# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# Functions for the selftests. Sourced, in a VM, by a script whose arguments select its parts:
#
#    part NAME N COMMAND...            declares a part: a command that runs N checks
#    common NAME COMMAND...            a check that holds for any consumer
#    tuntap_ring_only NAME COMMAND...  a check that holds only for tuntap_ring: with the in-kernel vhost_net
#                                      its failure is expected (XFAIL)
#    run_parts                         runs the parts that match the arguments, which are patterns (default:
#                                      all), and prints a KTAP document
#
# A command succeeds if the check holds. It prints the expected and the seen values; its last line is a figure.
# Each check adds a line to /tmp/results/selftests-CONSUMER.txt: name, consumer, `holds` or `falls short`, and
# the figure.
#
# No check depends on the speed of the machine. Each test creates the state that it requires; a wait fails only
# without progress.
#
# From the environment:
#
#    CONSUMER=in-kernel|tuntap_ring        the in-kernel vhost_net, or tuntap_ring (default: tuntap_ring)
#    SELFTESTS_KERNEL=          the kernel's name, if it is not the target kernel
#    SELFTESTS_PERCENT=100      percentage of packets to send; below 100, repeated steps run once
#    SELFTESTS_TUNTAP_RING=     tuntap_ring.ko and its vhost_net.ko, if modprobe does not find them
#    SELFTESTS_MODULE=          tuntap_ring_test.ko (default: built for the target kernel)
#    PATIENCE=300               seconds without progress after which a wait fails

TOP=/src
BUILT=$TOP/build/tests-selftests
CLIENT=$TOP/build/tools/release/tuntap-client
RING=$BUILT/ring
RESULTS=/tmp/results
TEST=$(basename "$0" .sh)

CONSUMER=${CONSUMER:-tuntap_ring}
CONSUMER_NAME=tuntap_ring
[ "$CONSUMER" = tuntap_ring ] || CONSUMER_NAME='in-kernel vhost_net'
PERCENT=${SELFTESTS_PERCENT:-100}
# Rounds of a repeated step.
# shellcheck disable=SC2034 # used by scripts that source this file
REPEATS=({1..3})
# shellcheck disable=SC2034
[ "$PERCENT" = 100 ] || REPEATS=(1)
SEEN=$RESULTS/selftests-${SELFTESTS_KERNEL:+$SELFTESTS_KERNEL-}$CONSUMER.txt

TAP=tap0 GUEST=10.99.0.2 GUEST_MAC=02:00:00:00:00:02 HOST=10.99.0.1
STATISTICS=/sys/class/net/$TAP/statistics
# vhost takes up to this many packets off a ring at once, before it has buffers for them.
VHOST_BATCH=64

# shellcheck source=tests/lib/ktap.sh
. "$TOP/tests/lib/ktap.sh"
# shellcheck source=tests/lib/wait.sh
. "$TOP/tests/lib/wait.sh"
# shellcheck disable=SC2034 # net/lib.sh waits so long for a namespace to go
WAIT_TIMEOUT=$PATIENCE
# shellcheck source=/dev/null
. "$BUILT/net/lib.sh"
# shellcheck source=scripts/in-vm/vhost.sh
. "$TOP/scripts/in-vm/vhost.sh"

# on_target FEATURE: ends the test on the target kernel, which must have the feature
on_target() {
	[ -n "${SELFTESTS_KERNEL:-}" ] || give_up "this kernel has no $1"
}

# give_up REASON...
give_up() {
	echo "Bail out! $*"
	exit 1
}

# The test runs in a network namespace, which is removed at its end with all devices in it.
if [ -z "${SELFTESTS_NS:-}" ]; then
	NS=''
	trap cleanup_all_ns EXIT
	setup_ns NS || give_up "cannot make a network namespace"
	SELFTESTS_NS=$NS ip netns exec "$NS" bash "$0" "$@"
	exit
fi
WORK=$(mktemp -d)
mkfifo "$WORK"/{watch,to,from}
exec {FROM_WATCH}<>"$WORK/watch" {TO_CLIENT}<>"$WORK/to" {FROM_CLIENT}<>"$WORK/from"
client='' flood='' watch=''
# The program that sends, and the device that it sends through.
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

[ "$CONSUMER" = in-kernel ] || [ "$CONSUMER" = tuntap_ring ] || give_up "CONSUMER is in-kernel or tuntap_ring"

declare -A part_checks part_command
unmatched=("$@")
parts=() patterns=("$@")
[ $# != 0 ] || patterns=('*')

# part NAME N COMMAND...
part() {
	local i matches=no
	for i in "${!patterns[@]}"; do
		# shellcheck disable=SC2053 # a pattern
		if [[ $1 = ${patterns[i]} ]]; then
			matches=yes
			unset "unmatched[i]"
		fi
	done
	[ "$matches" = yes ] || return 0
	parts+=("$1")
	part_checks[$1]=$2
	part_command[$1]=${*:3}
}

run_parts() {
	local checks=0 start
	[ ${#unmatched[@]} = 0 ] || give_up "$TEST has no part ${unmatched[*]}"
	for part in "${parts[@]}"; do
		checks=$((checks + part_checks[$part]))
	done
	plan "$checks"
	load
	for part in "${parts[@]}"; do
		if [ -n "${SELFTESTS_KERNEL:-}" ]; then
			run_alone "tests/$SELFTESTS_KERNEL/run" selftests
		else
			run_alone "CONSUMER=$CONSUMER" "${RUN_ALONE:-tests/vm/run}" "$TEST.$part"
		fi
		echo "# $part"
		start=${EPOCHREALTIME/./}
		# shellcheck disable=SC2086 # words
		${part_command[$part]}
		echo "# $part: $(((${EPOCHREALTIME/./} - start) / 1000)) ms"
	done
	# If a check has run before, its last result counts.
	tac "$SEEN" | awk -F '\t' '!seen[$1]++' | tac >"$WORK/seen" && cp "$WORK/seen" "$SEEN"
	finish
}

# Loads the modules with default parameters.
load() {
	[ ! -e "$SEEN" ] || [ "${patterns[*]}" != '*' ] || sed -i "/^$TEST: /d" "$SEEN"
	rmmod tuntap_ring_test 2>/dev/null
	# shellcheck disable=SC2086 # a list
	load_vhost "$CONSUMER" ${SELFTESTS_TUNTAP_RING:-} || give_up "cannot load the vhost_net of $CONSUMER"
	# The test module needs the exports of tuntap_ring, with either consumer.
	[ -e /sys/module/tuntap_ring ] || modprobe tuntap_ring 2>/dev/null ||
		insmod "${SELFTESTS_TUNTAP_RING%% *}"
	insmod "${SELFTESTS_MODULE:-$TOP/build/tests-vm/tuntap_ring_test.ko}" ||
		give_up "cannot load tuntap_ring_test"
	with_debugfs
	without_ipv6
}

# A network namespace has its own /sys.
with_debugfs() { mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug; }

# Without IPv6 the kernel sends no packets on its own.
without_ipv6() {
	local scope
	for scope in all default; do
		scope=/proc/sys/net/ipv6/conf/$scope/disable_ipv6
		[ ! -e "$scope" ] || echo 1 >"$scope"
	done
}

# The status of a check whose run failed: the check fails with either consumer.
NOT_SEEN=2
not_seen() {
	echo "seen: nothing, as the run failed"
	return "$NOT_SEEN"
}

common() { judge common "$@"; }
tuntap_ring_only() { judge tuntap_ring_only "$@"; }

# judge common|tuntap_ring_only NAME COMMAND...
judge() {
	local kind=$1 name=$2 full seen verdict=holds figure
	shift 2
	seen=$("$@" 2>&1) || { [ $? = "$NOT_SEEN" ] && kind=common; verdict='falls short'; }
	figure=${seen##*$'\n'}
	printf '%s: %s\t%s\t%s\t%s\n' "$TEST" "$name" "$CONSUMER" "$verdict" "$figure" >>"$SEEN"
	full="$TEST, $CONSUMER_NAME: $name"
	if [ "$verdict" = holds ]; then
		ktap_pass "$full"
	elif [ "$kind" = tuntap_ring_only ] && [ "$CONSUMER" = in-kernel ]; then
		ktap_pass "$full" "XFAIL $figure"
	else
		ktap_fail "$full" "$(tail -n 40 <<<"$seen")"
	fi
}

# packets N: prints SELFTESTS_PERCENT of N
packets() {
	echo $(($1 * PERCENT / 100))
}

# make_tap SLOTS [OPTION...]: makes a tap that is up, with a FIFO that never drops; the options are passed to
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

# set_qdisc QDISC...: sets the root qdisc of the tap
set_qdisc() {
	tc qdisc replace dev "$TAP" root "$@"
}

# start_client OPTION...: starts `tuntap-client receive`, which then waits for commands
start_client() {
	rm -f "$WORK/client.json"
	# Discards commands and answers that a killed client has left.
	while read -rt 0.001 -u "$TO_CLIENT" || read -rt 0.001 -u "$FROM_CLIENT"; do :; done
	"$CLIENT" receive --control --idle 10 --json "$WORK/client.json" "$@" \
		<"$WORK/to" >"$WORK/from" 2>"$WORK/client.log" &
	client=$!
	ask status || { cat "$WORK/client.log"; return 1; }
}

# read_line FD PID: reads the next line of that process into REPLY
read_line() {
	line=''
	wait_until --moving "cpu_of $2" read_part "$1" "$2" || return
	REPLY=$line
}
# If the line is incomplete, `read` fails and returns its beginning.
read_part() {
	local part='' whole=0
	read -rt 1 -u "$1" part || whole=1
	line+=$part
	[ "$whole" = 0 ] || ended "$2"
}

# ask COMMAND: sends a line to the client; sets `answer` to its answer
ask() {
	echo "$*" >&"$TO_CLIENT"
	read_line "$FROM_CLIENT" "$client"
	answer=$REPLY
	[[ $answer = ok* ]] || echo "client: $*: ${answer:-no answer}"
	[[ $answer = ok* ]]
}

# end_client: the client drains its rings and writes its report
end_client() {
	local pid=$client
	ask quit && client='' && wait_until --moving "cpu_of $pid" ended "$pid" && wait "$pid" && return
	cat "$WORK/client.log"
	return 1
}

# Both watch the client's rings.
start_watch() { start_ring watch; }
start_interrupts() { start_ring interrupt; }

# start_ring COMMAND
start_ring() {
	"$RING" "$1" "$client" "$TAP" >"$WORK/watch" &
	watch=$!
	read_line "$FROM_WATCH" "$watch"
	[ "$REPLY" = watching ] || { echo "$REPLY"; return 1; }
}

# end_watch: ends the watch; longest_stall is the longest stall of all watches of a run
end_watch() {
	local pid=$watch line=''
	watch=''
	# A watch that has interrupted often enough, or found a stall, has already ended.
	kill -TERM "$pid" 2>/dev/null
	wait "$pid" && read -rt 1 -u "$FROM_WATCH" line
	[[ $line =~ \"stalled_ms\":\ ([0-9]+) ]] || { echo "ring: ${line:-no result}"; return 1; }
	((BASH_REMATCH[1] <= longest_stall)) || longest_stall=${BASH_REMATCH[1]}
	echo "$line" >"$WORK/watch.json"
}

# stall_found: whether a watch has found a stall; it ends then
stall_found() { ((longest_stall > 0)) || { [ -n "$watch" ] && ended "$watch"; }; }

# traffic: the probe of wait_for
traffic() {
	local tx_packets tx_dropped
	statistic tx_packets && statistic tx_dropped && echo "$tx_packets out, $tx_dropped dropped"
}

# wait_for COMMAND...: waits until the command succeeds; fails if traffic stops or a stall is found
wait_for() {
	wait_until --moving traffic succeeds_or_stalls "$@" || return
	"$@" && return
	echo "expected: success of: $*"
	echo "seen: a queue stays stopped beside an empty ring"
	return 1
}
succeeds_or_stalls() { "$@" || stall_found; }

# start_flood OPTION...: starts `tuntap-client flood`; without --count it runs until end_flood
start_flood() {
	rm -f "$WORK"/flood.*
	statistic tx_dropped && statistic tx_packets || return
	dropped_before=$tx_dropped packets_before=$tx_packets
	[[ " $*" = *" --count "* ]] || set -- --count 1000000000000 "$@"
	"${SENDER[@]}" flood --to "$GUEST" --dev "$FROM" --json "$WORK/flood.json" "$@" \
		>"$WORK/flood.log" 2>&1 &
	flood=$!
}

end_flood() {
	kill -TERM "$flood" && wait_for_flood
}

# wait_for_flood: waits until the flood has ended; ends it if its queue stays stopped
wait_for_flood() {
	local pid=$flood over=0
	wait_for ended "$pid" || {
		over=1
		kill -TERM "$pid"
	}
	flood=''
	wait "$pid" || { cat "$WORK/flood.log"; return 1; }
	return "$over"
}

# until_stopped QUEUE
until_stopped() { "$RING" stopped "$TAP" "$1"; }

is_stopped() { "$RING" is-stopped "$TAP" "$1"; }

# enough_to_stop SLOTS SIZE: prints how many packets fill the ring while the client, with a virtqueue of SIZE, is paused
enough_to_stop() { echo $(($1 + $2 + VHOST_BATCH + 1)); }

# until_woken SLOTS SIZE: waits for more packets than were in flight when the queue was stopped
until_woken() {
	local tx_packets
	statistic tx_packets && wait_for more_than "$((tx_packets + $(enough_to_stop "$1" "$2")))"
}

# The account of a run: each of these variables is a number.
FIELDS=(sent received missing late backlog reorders all_reorders duplicates strays leftover device_drops
	qdisc_drops milliseconds queues stopped stalled wakes wakes_while_full
	interrupted)

# run COMMAND...: runs a command that ends with settle, which makes the account
run() {
	unset -v "${FIELDS[@]}"
	longest_stall=0
	rm -f "$WORK/watch.json" "$WORK/flood.json"
	"$@" >"$WORK/run.log" 2>&1 && return
	echo "# failed: $*"
	# Adds the state of the ring.
	[ -z "$watch" ] || ! end_watch >>"$WORK/run.log" 2>&1 || cat "$WORK/watch.json" >>"$WORK/run.log"
	ktap_diagnostic <"$WORK/run.log"
	kill_all
}

# statistic NAME: reads the statistic of the tap into the variable NAME
statistic() { read -r "$1" <"$STATISTICS/$1"; }

# all_arrived: whether all packets have come out of the ring or were dropped, by the device or the qdisc, and the
# qdisc is empty
all_arrived() {
	local tx_packets tx_dropped qdisc
	statistic tx_packets && statistic tx_dropped || return
	((tx_packets += tx_dropped - dropped_before - packets_before))
	((tx_packets < sent)) || return 0
	qdisc=$(tc -s qdisc show dev "$TAP" root)
	[[ $qdisc =~ dropped\ ([0-9]+).*backlog\ [0-9]+b\ ([0-9]+)p ]] &&
		((tx_packets + BASH_REMATCH[1] >= sent && BASH_REMATCH[2] == 0))
}

# goes_on: waits until 200 more packets have come out of the ring
goes_on() {
	local tx_packets
	statistic tx_packets && wait_for more_than "$((tx_packets + 200))"
}
more_than() {
	local tx_packets
	statistic tx_packets && ((tx_packets >= $1))
}

# until_quiet: waits until no packet moves and no task could run
until_quiet() { "$RING" quiet "$TAP"; }

# settle_what_is_left: settle() for floods of which some packets are lost, so that waiting for them would fail
settle_what_is_left() { until_quiet && settle quiet; }

# settle [quiet]: after the end of a flood: waits until all packets have arrived, ends watch and client, and makes
# the account of that flood; all_reorders and strays cover all floods
settle() {
	local tx_dropped name value
	[[ $(<"$WORK/flood.json") =~ \"sent\":\ ([0-9]+) ]] && sent=${BASH_REMATCH[1]} || return
	late=0
	# shellcheck disable=SC2034 # conditions of account use it
	[ "${1:-}" = quiet ] || wait_for all_arrived || late=1
	[ -z "$watch" ] || end_watch || return
	[ -e "$WORK/watch.json" ] || echo '{}' >"$WORK/watch.json"
	tc -s -j qdisc show dev "$TAP" root >"$WORK/qdisc.json" && statistic tx_dropped && end_client ||
		return
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
			all_reorders: .reorders, duplicates, strays, leftover: .leftover_numbered,
			milliseconds: (.seconds * 1000 | round),
			queues: [.queues[] | select(.frames > 0)] | length }) +
		($watch[0] | { stopped, stalled: (if .stalled_ms != null then $longest_stall else null end), wakes, wakes_while_full, interrupted }) +
		{ device_drops: $dropped, qdisc_drops: $qdisc_drops, backlog: ($qdisc.qlen // 0),
		  missing: ($flood[0].sent - $received - ($dropped - $flood[0].down) - $qdisc_drops) } |
		to_entries[] | select(.value != null) | "\(.key)=\(.value)"')"
}

# account CONDITION TEXT: whether the condition holds for the account; prints the text. Both use its variables.
account() {
	local name fields=''
	[ -n "${received:-}" ] || { not_seen; return; }
	(($1)) || {
		for name in "${FIELDS[@]}"; do
			fields+=" $name=${!name:-}"
		done
		echo "expected: ${1//$'\n\t\t'/ }"
		echo "seen:$fields"
		[ ! -s "$WORK/watch.json" ] || cat "$WORK/watch.json"
	}
	eval "echo \"$2\""
	(($1))
}

# conserved [CONDITION]: whether no packet is lost, doubled or out of order, and the condition holds
conserved() {
	account "sent > 0 && missing == 0 && late == 0 && backlog == 0 && reorders == 0 &&
		duplicates == 0 && leftover == 0 && ${1:-1}" \
		"\$received of \$sent came, \$missing unaccounted for, \$((backlog + leftover)) stuck, \$all_reorders out of order, \$duplicates doubled"
}

never_stalled() {
	[ -n "${stalled:-}" ] || { not_seen; return; }
	account "stalled == 0" "stopped beside an empty ring for \$stalled ms"
}

no_device_drops() {
	account "device_drops == 0" "\$device_drops of \$sent dropped at the device"
}
