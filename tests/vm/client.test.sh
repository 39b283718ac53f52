#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Tests the errors of tuntap-client: it prints one line, and exits with status 1.

# shellcheck disable=SC2317 # functions that check calls
# shellcheck source=tests/lib/ktap.sh
. ../lib/ktap.sh

CLIENT=$PWD/../../build/tools/release/tuntap-client
# A client that does not fail ends after a second, with status 0.
RECEIVE=("$CLIENT" receive --duration 1)
WORK=$(mktemp -d)

# fails_with TEXT COMMAND...: whether the client exits with status 1, prints one line with the text, and leaves no tap0
fails_with() {
	local text=$1
	shift
	expect_error 1 "$text" "$@" && expect_error 1 "tuntap-client: " "$@" || return
	! ip link show tap0 2>/dev/null || {
		echo "expected: no tap0, seen: tap0 as above"
		return 1
	}
}

# unprivileged COMMAND...: runs the command as a user who may use neither device
unprivileged() { setpriv --reuid=65534 --clear-groups --bounding-set=-all --inh-caps=-all "$@"; }

# This user may use the tap, so that the client fails on the vhost-net device.
without_vhost() {
	local status=0
	ip tuntap add dev tap1 mode tap vnet_hdr user 65534 || return
	fails_with "ermission denied" unprivileged "${RECEIVE[@]}" --tap tap1 --vhost "$WORK/vhost-net" || status=1
	ip link del tap1
	return "$status"
}

not_a_tap() { "${RECEIVE[@]}" --fd 5 5</dev/null; }
not_open() { "${RECEIVE[@]}" --fd 77; }

modprobe vhost_net
# Opening the usual node would load the module, so the tests use another node.
mknod -m 600 "$WORK/vhost-net" c 10 238
chmod 755 "$WORK"
run_alone "${RUN_ALONE:-tests/vm/run}" client
plan 9
check "client without /dev/vhost-net prints the modprobe command" \
	fails_with "modprobe vhost_net" "${RECEIVE[@]}" --tap tap0 --vhost "$WORK/none"
check "client without permission for /dev/vhost-net prints the error" without_vhost
check "client without permission to make a tap prints to run as root" \
	fails_with "run as root" unprivileged "${RECEIVE[@]}" --tap tap0
check "client rejects another device as --vhost" \
	fails_with "--vhost must name a vhost-net device" "${RECEIVE[@]}" --tap tap0 --vhost /dev/null
check "client names a tap device that does not exist" \
	fails_with "$WORK/tap0" "${RECEIVE[@]}" --device "$WORK/tap0"
check "client rejects another device as a tap" \
	fails_with "use a tun/tap device" "${RECEIVE[@]}" --device /dev/null
check "client rejects a descriptor that is not a tap" fails_with "fd 5" not_a_tap
check "client rejects a descriptor that is not open" fails_with "77" not_open
check "client names an interface that does not exist" \
	fails_with "none0" "$CLIENT" flood --to 10.99.0.2 --dev none0 --count 1
rm -rf "$WORK"
modprobe -r vhost_net
finish
