# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# Creates the tap of the demo, and starts the programs at its ends. To be sourced in the guest.

# shellcheck source=tests/lib/wait.sh
. /src/tests/lib/wait.sh

CLIENT=/src/build/tools/release/tuntap-client
TAP=tap0 GUEST=10.99.0.2 HOST=10.99.0.1/24

# make_tap RING
make_tap() {
	ip tuntap add dev "$TAP" mode tap vnet_hdr
	sysctl -qe "net.ipv6.conf.$TAP.disable_ipv6=1"
	ip link set "$TAP" txqueuelen "$1" up
	ip address add "$HOST" dev "$TAP"
	ip neighbour replace "$GUEST" lladdr 02:00:00:00:00:02 dev "$TAP" nud permanent
	tc qdisc replace dev "$TAP" root fq_codel
}

# start_client DELAY OPTION...: starts a client that sleeps DELAY µs after each batch; sets `client` to its PID
start_client() {
	local delay=$1
	shift
	rm -f /run/ready
	"$CLIENT" receive --tap "$TAP" --delay "$delay" --ready /run/ready --json /run/client.json \
		"$@" >/run/client.log 2>&1 &
	client=$!
	wait_until --moving "cpu_of $client" client_started_or_ended
	[ -s /run/ready ] || {
		cat /run/client.log
		return 1
	}
}

client_started_or_ended() { [ -s /run/ready ] || ended "$client"; }

# flood OPTION...: sends at full speed
flood() {
	"$CLIENT" flood --to "$GUEST" --dev "$TAP" --json /run/flood.json "$@" >/dev/null
}
