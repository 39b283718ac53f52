#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# macvtap and ipvtap, with more files than the device has transmit queues. Their rings are filled by a
# receive handler; the device's only transmit queue carries the opposite direction, and nobody stops it
# but this test.
#
#    +---- the other namespace ----+      +--------- network namespace ---------+
#    |                             |      |                ring 0 ─▶ vhost_net ┐|
#    |  flood, 32 senders ─▶ v1    ══veth══ v0 ─▶ m0 ─┬─▶ ring 1 ─▶ vhost_net ┤▶ client
#    |                             |      |            └─▶ ring 2 ─▶ vhost_net ┘|
#    +-----------------------------+      +-------------------------------------+

# shellcheck disable=SC2317 # functions that run calls
# shellcheck source=tests/selftests/lib.sh
. "$(dirname "$0")/lib.sh"

FILES=3
COUNT=$(packets 3000)
KINDS=('macvtap mode bridge' 'macvtap mode private' 'macvtap mode vepa' 'macvtap mode passthru')
STOPPED=('macvtap mode bridge')
if modprobe ipvtap 2>/dev/null; then
	KINDS+=('ipvtap mode l2' 'ipvtap mode l3')
	STOPPED+=('ipvtap mode l2')
else
	on_target ipvtap
fi
# The modes differ in who hears whom, not at the ring.
[ "$PERCENT" = 100 ] || KINDS=("${STOPPED[@]}")
other=''
TAP=m0 STATISTICS=/sys/class/net/m0/statistics

# make_device KIND...: and its node; a node in /dev may be another namespace's
make_device() {
	local mac numbers
	ip -batch - <<-BATCH || return
		link add v0 type veth peer name v1 netns $other
		link set v0 up
		link add link v0 name m0 type $*
		link set m0 txqueuelen 1000 up
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

# What such a device counts is what went into its rings, so the client is asked what came out.
came() {
	ask status && [[ $answer =~ \"received\":\ ?([0-9]+) ]] && ((BASH_REMATCH[1] >= $1))
}
all_arrived() { came "$sent"; }

# through KIND...: what the files get of a flood, at a rate that they can take
through() {
	make_device "$@" && start_client --device "$WORK/tap" --queues "$FILES" &&
		start_flood --senders 32 --count "$((COUNT / 32))" --rate 4000 && wait_for_flood && settle
}

all_files() { account "queues == FILES" "\$queues of \$FILES files had traffic"; }

# What the queue of index 0 has got.
of_first_file() {
	ask status && [[ $answer =~ \"queues\":\ ?\[\{\"frames\":\ ?([0-9]+) ]] && REPLY=${BASH_REMATCH[1]}
}

# stops KIND...: stops the device's only queue, which is that of the first file, and sends a few packets of
# one flow, which goes to one of the files; until each case has been seen thrice
stops() {
	local flow before is_stopped
	woken=0 not_woken=0 left_alone=0 woken_by_others=0
	make_device "$@" && start_client --device "$WORK/tap" --queues "$FILES" || return
	for ((flow = 1; flow <= 40; flow++)); do
		((woken + not_woken < 3 || left_alone + woken_by_others < 3)) || break
		of_first_file && before=$REPLY && "$RING" stop "$TAP" 0 && start_flood --sender "$flow" --count 20 &&
			wait_for_flood && wait_for "$((10 * SECOND))" came "$((20 * flow))" && of_first_file || return
		# By the time that the client has a frame its vhost is done with the queue.
		is_stopped=no
		! "$RING" stopped "$TAP" 0 0 || is_stopped=yes
		case $((REPLY > before)),$is_stopped in
		1,no) woken=$((woken + 1)) ;;
		1,yes) not_woken=$((not_woken + 1)) ;;
		0,yes) left_alone=$((left_alone + 1)) ;;
		0,no) woken_by_others=$((woken_by_others + 1)) ;;
		esac
	done
	end_client
}

woken_by_its_file() {
	[ -n "${woken:-}" ] || return "$NOT_SEEN"
	echo "woken $woken times of $((woken + not_woken))"
	((woken > 0 && not_woken == 0))
}

left_alone_by_others() {
	[ -n "${woken:-}" ] || return "$NOT_SEEN"
	echo "left alone $left_alone times of $((left_alone + woken_by_others))"
	((left_alone > 0 && woken_by_others == 0))
}

plan $((2 * ${#KINDS[@]} + 2 * ${#STOPPED[@]} + 2))
setup_ns other || give_up "cannot make a second namespace"
SENDER=(ip netns exec "$other" "$CLIENT") FROM=v1
modprobe -a veth macvtap
for kind in "${KINDS[@]}"; do
	# shellcheck disable=SC2086 # words
	run through $kind
	both "$kind: each packet arrives once, in order" conserved
	both "$kind: each of $FILES files gets some" all_files
	remove_device
done
for kind in "${STOPPED[@]}"; do
	unset woken
	# shellcheck disable=SC2086 # words
	run stops $kind
	promise "$kind: a stopped queue is woken by the file whose it is" woken_by_its_file
	both "$kind: a stopped queue is left alone by the other files" left_alone_by_others
	remove_device
done

# The same of a tun device, whose queue may be woken only with IFF_BACKPRESSURE. It is stopped while its
# ring is not empty: vhost takes 64 at most before it has somewhere to put them.
TAP=tap0 STATISTICS=/sys/class/net/tap0/statistics SENDER=("$CLIENT") FROM=tap0
stop_tun() {
	woken=''
	make_tap 100 && start_client --tap "$TAP" --ring-size 1 "$@" && ask pause &&
		start_flood --count 99 && wait_for_flood && "$RING" stop "$TAP" 0 && ask resume &&
		wait_for "$((10 * SECOND))" came 99 || return
	woken=no
	"$RING" stopped "$TAP" 0 0 || woken=yes
	end_client
}
is_woken() {
	[ -n "$woken" ] || return "$NOT_SEEN"
	echo "woken: $woken"
	[ "$woken" = "$1" ]
}
run stop_tun --backpressure
both "tun with IFF_BACKPRESSURE: a stopped queue is woken" is_woken yes
remove_tap
run stop_tun
both "tun without: a stopped queue is left alone" is_woken no
remove_tap
finish
