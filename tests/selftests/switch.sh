#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# `tuntap-ring on` and `off` switch a host to tuntap_ring and back several times during one flood. The client does not
# set IFF_BACKPRESSURE, and the in-kernel vhost_net stays loaded.
#
#    +------------------------- network namespace --------------------------+
#    |                          in-kernel vhost_net                         |
#    |  flood ─▶ pfifo ─▶ tap0 [ring] ─▶ ┌ vhost_net_buf_peek ┐ ─▶ client   |
#    |                     │  ▲          └ live-patched or not┘             |
#    |                     flag, or not                                     |
#    +----------------------------------------------------------------------+
#
# Parts: N-queues; stopped: a client with SIGSTOP; frozen: a client in a frozen cgroup; kthread: vhost workers that are
# kernel threads; polling: vhost workers that poll for five seconds
#
# SWITCHES=N  how often to switch on and off (default: 3)

# shellcheck disable=SC2317 # functions that run calls
# shellcheck source=tests/selftests/lib.sh
. "$(dirname "$0")/lib.sh"

TOOL=$TOP/build/tools/release/tuntap-ring
SLOTS=100
# On a busy machine a client may not run for longer than the default: its device would be released, and drop packets.
OPTIONS=/run/modprobe.d/tuntap_ring.conf
# Prints a line now and then, as a run without output is taken for a hang.
exec {progress}>&1
[ "$PERCENT" = 100 ] || SWITCHES=${SWITCHES:-2}
SWITCHES=${SWITCHES:-3}

# Other tests load modules that use tuntap_ring and would keep it loaded.
load() {
	rmmod tuntap_ring_test 2>/dev/null
	load_vhost in-kernel || give_up "cannot load the in-kernel vhost_net"
	rmmod tuntap_ring 2>/dev/null
	[ ! -e /sys/module/tuntap_ring ] || give_up "tuntap_ring is in use"
	modinfo tuntap_ring_livepatch >/dev/null || give_up "there is no tuntap_ring_livepatch.ko"
	mkdir -p "${OPTIONS%/*}" || give_up "cannot make ${OPTIONS%/*}"
	echo "options tuntap_ring stall_timeout=0" >"$OPTIONS" || give_up "cannot write $OPTIONS"
	with_debugfs
	without_ipv6
}

# check_status: whether tuntap-ring status shows the device while switched on
check_status() {
	local seen expected="live-patched tap* $TAP tap tuntap-client policy pfifo"
	seen=$("$TOOL" status --json | jq -r --arg tap "$TAP" '[.consumer, .patterns[], (.devices[] | select(.name == $tap) |
		.name, .kind, .programs[0].name, .flag, .qdisc)] | join(" ")')
	[ "$seen" = "$expected" ] || status_seen=$seen
}

has_flag() { (($(<"/sys/class/net/$TAP/tun_flags") & 0x80)); }

# on_and_off QUEUES: switches on and off under a flood. drops_on counts packets that the device drops while switched on;
# `taken` counts packets that tuntap_ring takes.
on_and_off() {
	local i tx_dropped before options=()
	drops_on=0 taken=0 flags_left=0 status_seen=
	[ "$1" = 1 ] || options=(multi_queue)
	make_tap "$SLOTS" "${options[@]}" &&
		start_client --tap "$TAP" --queues "$1" --ring-size 64 --delay 500 &&
		start_flood --keep-going --senders "$((2 * $1))" || return
	for ((i = 0; i < SWITCHES; i++)); do
		goes_on && "$TOOL" on "tap*" && check_status && goes_on && statistic tx_dropped || return
		before=$tx_dropped
		goes_on && goes_on && statistic tx_dropped || return
		drops_on=$((drops_on + tx_dropped - before))
		taken=$((taken + $(counter entries)))
		"$TOOL" off || return
		! has_flag || flags_left=1
		((i % 10 != 9)) || echo "# switched $((i + 1)) times" >&"$progress"
	done
	goes_on && end_flood && settle
}

# held HOLD LET_GO: switches on and off while the client is stopped with HOLD; after LET_GO it takes the packets that
# have arrived
held() {
	make_tap "$SLOTS" && start_client --tap "$TAP" --ring-size 64 && start_flood --keep-going && goes_on &&
		"$1" && "$TOOL" on "tap*" && "$TOOL" off && "$TOOL" on "tap*" && "$2" && goes_on && "$TOOL" off &&
		goes_on && end_flood && settle
}
stop() { kill -STOP "$client"; }
continue_() { kill -CONT "$client"; }
GROUP=/sys/fs/cgroup/switch
freeze() {
	mountpoint -q /sys/fs/cgroup || mount -t cgroup2 cgroup2 /sys/fs/cgroup || return
	mkdir "$GROUP" && echo "$client" >"$GROUP/cgroup.procs" && echo 1 >"$GROUP/cgroup.freeze" &&
		wait_until grep -q "frozen 1" "$GROUP/cgroup.events"
}
thaw() {
	echo 0 >"$GROUP/cgroup.freeze" && echo "$client" >/sys/fs/cgroup/cgroup.procs && rmdir "$GROUP"
}

# kernel_threads QUEUES: on_and_off with a vhost whose workers are kernel threads
kernel_threads() {
	local status=0
	rmmod vhost_net vhost && modprobe vhost fork_from_owner_default=0 && modprobe vhost_net || return
	on_and_off "$1" || status=$?
	rmmod vhost_net vhost && modprobe vhost_net && return "$status"
}

# polling: switches on and off while vhost polls, with and without traffic
polling() {
	make_tap "$SLOTS" && start_client --tap "$TAP" --ring-size 64 --busy-poll 5000000 &&
		start_flood --keep-going && goes_on && "$TOOL" on "tap*" && goes_on && "$TOOL" off && goes_on && end_flood &&
		"$TOOL" on "tap*" && "$TOOL" off && settle
}

whole() {
	account "sent > 0 && missing == 0 && late == 0 && backlog == 0 && reorders == 0 && duplicates == 0 &&
		leftover == 0" \
		"\$received of \$sent came, \$device_drops dropped at the device, \$missing unaccounted for, \$all_reorders out of order, \$duplicates doubled"
}
# A packet that finds the ring full just after the flag was set is dropped, and stops the queue. With one queue this
# happens before the count begins, as more than a ring-full has come through since.
dropped_none() {
	local most=0
	[ "$1" = 1 ] || most=$(($1 * SWITCHES))
	account "drops_on <= $most" "\$drops_on dropped at the device while on"
}
took() { account "taken > 400 * SWITCHES" "\$taken taken by tuntap_ring"; }
status_shown() {
	[ -z "$status_seen" ] || { echo "seen: $status_seen"; return 1; }
}
flag_gone() { account "$flags_left == 0" "flag left behind: $flags_left"; }

check_switches() {
	run on_and_off "$1"
	common "$1 queues, switched on and off: each packet that was not dropped at the device arrives once, in order" whole
	common "$1 queues, switched on: the device drops no packet of a stopped queue" dropped_none "$1"
	common "$1 queues, switched on: tuntap_ring takes the packets" took
	common "$1 queues, switched on: tuntap-ring status shows the device" status_shown
	common "$1 queues, switched off: the device no longer has the flag" flag_gone
	remove_tap
}

# check_whole NAME COMMAND...
check_whole() {
	run "${@:2}"
	common "$1, switched on and off: each packet that was not dropped at the device arrives once, in order" whole
	remove_tap
}
check_stopped() { check_whole "stopped client" held stop continue_; }
check_frozen() { check_whole "frozen client" held freeze thaw; }
check_polling() { check_whole "workers that poll" polling; }
check_kthread() { check_whole "workers that are kernel threads" kernel_threads 1; }

part stopped 1 check_stopped
part frozen 1 check_frozen
part kthread 1 check_kthread
part polling 1 check_polling
for queues in 1 4; do
	part "$queues-queues" 5 check_switches "$queues"
done
status=0
run_parts || status=1
rm -f "$OPTIONS"
exit "$status"
