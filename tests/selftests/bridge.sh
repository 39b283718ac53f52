#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Forwards packets to a tap: as a port of a bridge, with the default qdiscs of a tap; with `tc mirred`; and with
# generic XDP, which bypasses the qdisc. In each flow the client waits until the queue has been stopped. Each packet
# must arrive or be counted as dropped, and no packet may wait after the end.
#
#    +- the other namespace -+      +------------------- network namespace --------------------+
#    |                       |      |         br0                                              |
#    |  flood ─▶ v1          ══veth══ v0 ─▶ or mirred ─▶ qdisc ─▶ tap0 [ring] ─▶ vhost_net ─▶ client
#    |                       |      |     └─ XDP ──────────────────┘                           |
#    +-----------------------+      +----------------------------------------------------------+
#
# Parts: QDISC, mq-QDISC, vlan-filtering, ipv6, fq-stamped, mirred-fq, xdp.

# shellcheck disable=SC2317 # functions that run calls
# shellcheck source=tests/selftests/lib.sh
. "$(dirname "$0")/lib.sh"

SLOTS=32 VIRTQUEUE=64
# More than ring, virtqueue and vhost hold, and fewer than the backlog of a CPU, which holds packets from a veth.
COUNT=$(($(enough_to_stop "$SLOTS" "$VIRTQUEUE") + $(packets 700)))
# libbpf rejects paths with a period.
BPF=/tmp/bpf
other='' stamps=''

# forward [OPTION...]: makes a tap, and a veth that leads to it; the options are passed to `ip tuntap`
forward() {
	make_tap "$SLOTS" "$@" && ip -batch - <<-BATCH &&
		link add v0 type veth peer name v1 netns $other
		link set v0 up
	BATCH
		ip -n "$other" -batch - <<-BATCH
			link set v1 up
			address add $HOST/24 dev v1
			neighbour replace $GUEST lladdr $GUEST_MAC dev v1 nud permanent
		BATCH
}

# bridge [OPTION...]: makes tap and veth ports of br0; the options are passed to the bridge
bridge() {
	ip -batch - <<-BATCH
		address flush dev $TAP
		link add br0 type bridge $*
		link set v0 master br0
		link set $TAP master br0
		link set br0 up
	BATCH
}

# mirred: redirects packets received from v0 to the tap
mirred() {
	tc qdisc add dev v0 clsact &&
		tc filter add dev v0 ingress matchall action mirred egress redirect dev "$TAP"
}

# xdp: redirects packets received from v0 to the tap, bypassing its qdisc
xdp() {
	local index
	index=$(<"/sys/class/net/$TAP/ifindex") && mkdir "$BPF" && mount -t bpf bpf "$BPF" &&
		bpftool prog load "$BUILT/redirect.bpf.o" "$BPF/redirect" pinmaps "$BPF" &&
		bpftool map update pinned "$BPF/out" key 0 0 0 0 \
			value $((index & 255)) $((index >> 8 & 255)) 0 0 &&
		bpftool net attach xdpgeneric pinned "$BPF/redirect" dev v0
}

# stamp: has the kernel write the receive time into each packet, as for a capture. fq must not use this time as a
# time to send.
stamp() {
	python3 -c 'import signal, socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, 29, 1) # SO_TIMESTAMP
print("stamps", flush=True)
signal.pause()' >"$WORK/stamps" &
	stamps=$!
	wait_until --moving "cpu_of $stamps" test -s "$WORK/stamps"
}

# all_arrived: whether each packet has arrived or is counted as dropped. The device also counts other packets, so the
# client's count is used.
all_arrived() {
	local tx_dropped qdisc
	ask status && [[ $answer =~ \"received\":\ ?([0-9]+) ]] || return
	came_so_far=${BASH_REMATCH[1]}
	statistic tx_dropped && qdisc=$(tc -s qdisc show dev "$TAP" root) &&
		[[ $qdisc =~ dropped\ ([0-9]+).*backlog\ [0-9]+b\ ([0-9]+)p ]] &&
		((came_so_far + tx_dropped - dropped_before + BASH_REMATCH[1] >= sent && BASH_REMATCH[2] == 0))
}
came_so_far=0
traffic() { echo "$came_so_far came, $(cat "$STATISTICS"/tx_packets "$STATISTICS"/tx_dropped)"; }

# flow QUEUES SENDERS: a flood from the other namespace, to a client that waits until a queue has been stopped
flow() {
	start_client --tap "$TAP" --queues "$1" --backpressure --ring-size "$VIRTQUEUE" && start_watch && ask pause &&
		start_flood --senders "$2" --count "$((COUNT / $2))" && wait_until --moving traffic any_stopped "$1" &&
		ask resume && wait_for_flood && settle
}
any_stopped() {
	local queue
	for ((queue = 0; queue < $1; queue++)); do
		! is_stopped "$queue" || return 0
	done
	return 1
}

# by_bridge QDISC [OPTION...]
by_bridge() { forward && set_qdisc "$1" && bridge "${@:2}" && flow 1 4; }

# by_default QDISC: a tap with four queues and the kernel's default qdisc
by_default() {
	local default status=0
	default=$(of_first_namespace cat "$DEFAULT_QDISC")
	of_first_namespace sh -c "echo $1 >$DEFAULT_QDISC" && forward multi_queue && tc qdisc del dev "$TAP" root &&
		bridge && flow 4 8 || status=1
	of_first_namespace sh -c "echo $default >$DEFAULT_QDISC"
	return "$status"
}
DEFAULT_QDISC=/proc/sys/net/core/default_qdisc
# Only the first network namespace has this setting, which applies to all namespaces.
of_first_namespace() { nsenter --target 1 --net "$@"; }

with_ipv6() {
	local device
	for device in all default; do
		echo 0 >/proc/sys/net/ipv6/conf/$device/disable_ipv6
	done
	by_bridge fq_codel
}

by_stamped() { stamp && by_bridge fq; }
by_mirred() { forward && set_qdisc fq && stamp && mirred && flow 1 4; }
by_xdp() { forward && set_qdisc pfifo && xdp && flow 1 1; }

remove_all() {
	local device
	[ -z "$stamps" ] || kill "$stamps"
	stamps=''
	! mountpoint -q "$BPF" || { umount "$BPF" && rmdir "$BPF"; }
	ip link del v0 2>/dev/null
	ip link del br0 2>/dev/null
	for device in all default; do
		echo 1 >/proc/sys/net/ipv6/conf/$device/disable_ipv6
	done
	remove_tap
}

# check_forwarded NAME COMMAND...
check_forwarded() {
	run "${@:2}"
	common "$1: each packet arrives once, in order, or is counted as dropped" conserved
	common "$1: no queue is stopped beside an empty ring" never_stalled
}

# check_held NAME COMMAND...: packets that find the ring full wait in the qdisc
check_held() {
	check_forwarded "$@"
	tuntap_ring_only "$1: no packet is dropped at the device" no_device_drops
	remove_all
}

check_qdisc() { check_held "bridge, $1" by_bridge "$1"; }
check_default() { check_held "bridge, default mq of $1" by_default "$1"; }
check_vlan_filtering() { check_held "bridge with vlan_filtering" by_bridge fq_codel vlan_filtering 1; }
check_ipv6() { check_held "bridge with IPv6" with_ipv6; }
check_stamped() { check_held "bridge, fq, packets with a receive time" by_stamped; }
check_mirred() { check_held "mirred, fq, packets with a receive time" by_mirred; }
check_xdp() {
	check_forwarded "generic XDP" by_xdp
	remove_all
}

trap 'remove_all 2>/dev/null; clean_up' EXIT
setup_ns other || give_up "cannot make a second namespace"
# IPv6 sends its own packets, which a qdisc may drop.
for scope in all default; do
	ip netns exec "$other" sh -c "echo 1 >/proc/sys/net/ipv6/conf/$scope/disable_ipv6"
done
SENDER=(ip netns exec "$other" "$CLIENT") FROM=v1
modprobe -a veth bridge || on_target "veth or bridge"
for qdisc in fq_codel pfifo_fast fq; do
	part "$qdisc" 3 check_qdisc "$qdisc"
done
for qdisc in fq_codel pfifo_fast; do
	part "mq-$qdisc" 3 check_default "$qdisc"
done
part vlan-filtering 3 check_vlan_filtering
part ipv6 3 check_ipv6
part fq-stamped 3 check_stamped
part mirred-fq 3 check_mirred
part xdp 2 check_xdp
run_parts
