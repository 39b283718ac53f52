#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Tests macvtap and ipvtap, with more files than the device has transmit queues. A receive handler fills the rings of
# the files; the only transmit queue of the device carries the opposite direction. Only this test stops that queue, and
# no consumer wakes it.
#
#    +---- the other namespace ----+      +--------- network namespace ---------+
#    |                             |      |                ring 0 ─▶ vhost_net ┐|
#    |  flood, 32 senders ─▶ v1    ══veth══ v0 ─▶ m0 ─┬─▶ ring 1 ─▶ vhost_net ┤▶ client
#    |                             |      |            └─▶ ring 2 ─▶ vhost_net ┘|
#    +-----------------------------+      +-------------------------------------+
#
# Parts: KIND-MODE, KIND-MODE-stopped, tun-stopped, tun-stopped-without-flag.

# shellcheck disable=SC2317 # functions that run calls
# shellcheck source=tests/selftests/lib.sh
. "$(dirname "$0")/lib.sh"

FILES=3
# A round has fewer packets than any queue on their way, including the ring, has room for, so that none is dropped. All
# rounds together fill each ring more than once. The kernel chooses the port of a flow at random, and the file by the
# port: 60 flows leave out a file with a probability below 1 in 10^10. (The client distinguishes 64 senders.)
SLOTS=250 SENDERS=12 COUNT=18 ROUNDS=5
KINDS=('macvtap mode bridge' 'macvtap mode private' 'macvtap mode vepa' 'macvtap mode passthru')
STOPPED=('macvtap mode bridge')
if modprobe ipvtap 2>/dev/null; then
	KINDS+=('ipvtap mode l2' 'ipvtap mode l3')
	STOPPED+=('ipvtap mode l2')
else
	on_target ipvtap
fi
# The modes differ in the endpoints that can reach each other; the rings work the same.
if [ "$PERCENT" != 100 ]; then
	KINDS=("${STOPPED[@]}") SENDERS=60 COUNT=1 ROUNDS=1
fi
other=''
TAP=m0 STATISTICS=/sys/class/net/m0/statistics

# make_device KIND...: makes the device, and a node for it: a node in /dev may belong to another namespace
make_device() {
	local mac numbers
	ip -batch - <<-BATCH || return
		link add v0 type veth peer name v1 netns $other
		link set v0 up
		link add link v0 name m0 type $*
		link set m0 txqueuelen $SLOTS up
		address add $GUEST/24 dev m0
	BATCH
	mac=$(</sys/class/net/m0/address)
	ip -n "$other" -batch - <<-BATCH || return
		link set v1 up
		address add $HOST/24 dev v1
		neighbour replace $GUEST lladdr $mac dev v1 nud permanent
	BATCH
	numbers=$(cat /sys/class/net/m0/*vtap/tap*/dev) && rm -f "$WORK/tap" &&
		mknod "$WORK/tap" c "${numbers%:*}" "${numbers#*:}"
}

remove_device() { ip link del v0; }

# Statistics of macvtap count packets that enter the rings, so the client's count is used.
came_so_far=0
came() {
	ask status && [[ $answer =~ \"received\":\ ?([0-9]+) ]] && came_so_far=${BASH_REMATCH[1]} &&
		((came_so_far >= $1))
}
traffic() { echo "$came_so_far came"; }
all_arrived() { came "$total"; }

# send SENDER SENDERS COUNT: sends packets of new flows, and waits until all have arrived
send() {
	start_flood --sender "$1" --senders "$2" --count "$3" && wait_for_flood &&
		total=$((total + $2 * $3)) && wait_until --moving traffic all_arrived
}

# through KIND...: sends packets to all files
through() {
	local round
	total=0
	make_device "$@" && start_client --device "$WORK/tap" --queues "$FILES" || return
	for ((round = 0; round < ROUNDS; round++)); do
		send "$((round * SENDERS))" "$SENDERS" "$COUNT" || return
	done
	settle
}

all_files() { account "queues == FILES" "\$queues of \$FILES files had traffic"; }

# stops KIND...: stops the device's only queue, and sends packets to all files
stops() {
	local round
	left_stopped='' total=0
	make_device "$@" && start_client --device "$WORK/tap" --queues "$FILES" && "$RING" stop "$TAP" 0 || return
	for ((round = 0; round < ROUNDS; round++)); do
		send "$((round * SENDERS))" "$SENDERS" "$COUNT" || return
	done
	# When the client has a frame, its vhost has finished any check of the queue.
	left_stopped=no
	! is_stopped 0 || left_stopped=yes
	settle
}

is_left_stopped() {
	[ -n "${left_stopped:-}" ] || { not_seen; return; }
	echo "expected: left stopped: yes"
	echo "left stopped: $left_stopped"
	[ "$left_stopped" = yes ]
}

# Stops the queue of a tun device, which may be woken only with IFF_BACKPRESSURE. The ring is not empty then: vhost
# takes at most VHOST_BATCH packets before it has buffers for them.
stop_tun() {
	woken='' total=99
	make_tap 100 && start_client --tap "$TAP" --ring-size 1 "$@" && ask pause &&
		start_flood --count "$total" && wait_for_flood && "$RING" stop "$TAP" 0 && ask resume &&
		wait_until --moving traffic all_arrived || return
	woken=no
	is_stopped 0 || woken=yes
	end_client
}
is_woken() {
	[ -n "$woken" ] || { not_seen; return; }
	echo "expected: woken: $1"
	echo "woken: $woken"
	[ "$woken" = "$1" ]
}

check_through() {
	run through "$@"
	common "$*: each packet arrives once, in order" conserved "all_reorders == 0"
	common "$*: each of $FILES files has traffic" all_files
	remove_device
}

check_stopped() {
	unset left_stopped
	run stops "$@"
	common "$*: each of $FILES files has traffic beside a stopped queue" all_files
	common "$*: a stopped queue is not woken" is_left_stopped
	remove_device
}

# on_tun COMMAND...
on_tun() {
	local TAP=tap0 STATISTICS=/sys/class/net/tap0/statistics SENDER=("$CLIENT") FROM=tap0
	"$@"
	remove_tap
}

check_tun() {
	run stop_tun --backpressure
	common "tun with IFF_BACKPRESSURE: a stopped queue is woken" is_woken yes
}

check_tun_without() {
	run stop_tun
	common "tun without IFF_BACKPRESSURE: a stopped queue is not woken" is_woken no
}

setup_ns other || give_up "cannot make a second namespace"
SENDER=(ip netns exec "$other" "$CLIENT") FROM=v1
modprobe -a veth macvtap
for kind in "${KINDS[@]}"; do
	part "${kind/ mode /-}" 2 check_through "$kind"
done
for kind in "${STOPPED[@]}"; do
	part "${kind/ mode /-}-stopped" 2 check_stopped "$kind"
done
part tun-stopped 1 on_tun check_tun
part tun-stopped-without-flag 1 on_tun check_tun_without
run_parts
