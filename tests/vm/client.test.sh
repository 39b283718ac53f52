#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# What the client says where it can't work: one line, and status 1.

# shellcheck disable=SC2317 # functions that check calls
# shellcheck source=tests/ktap.sh
. ../ktap.sh

CLIENT=(timeout 60 "$PWD/../../build/tools/release/tuntap-client")
WORK=$(mktemp -d)

# refuses WORDS COMMAND...: it fails with status 1 and one line that has them
refuses() {
	local words=$1 status=0 output
	shift
	output=$("$@" 2>&1) || status=$?
	printf '%s\n' "$output"
	[ "$status" = 1 ] && [ "$(wc -l <<<"$output")" = 1 ] && [[ $output = tuntap-client:*$words* ]] &&
		! ip link show tap0 2>/dev/null
}

# Nobody, who may use neither device.
nobody() { setpriv --reuid=65534 --clear-groups --bounding-set=-all --inh-caps=-all "$@"; }

# A tap that nobody may use, so that it is the other device that is refused.
without_vhost() {
	local status=0
	ip tuntap add dev tap1 mode tap vnet_hdr user 65534 || return
	refuses "ermission denied" nobody "${CLIENT[@]}" receive --tap tap1 --vhost "$WORK/vhost-net" ||
		status=1
	ip link del tap1
	return "$status"
}

not_a_tap() { "${CLIENT[@]}" receive --fd 5 5</dev/null; }
not_open() { "${CLIENT[@]}" receive --fd 77; }

modprobe vhost_net
# The node may be there without the module, and then opening it loads that.
mknod -m 600 "$WORK/vhost-net" c 10 238
chmod 755 "$WORK"
plan 9
check "no /dev/vhost-net" refuses "modprobe vhost_net" "${CLIENT[@]}" receive --tap tap0 \
	--vhost "$WORK/none"
check "no permission for /dev/vhost-net" without_vhost
check "no permission to make a tap" refuses "run as root" nobody "${CLIENT[@]}" receive --tap tap0
check "another device than vhost-net" refuses "give --vhost a vhost-net device" "${CLIENT[@]}" receive \
	--tap tap0 --vhost /dev/null
check "no such tap device" refuses "$WORK/tap0" "${CLIENT[@]}" receive --device "$WORK/tap0"
check "another device than a tap" refuses "use a tun/tap device" "${CLIENT[@]}" receive --device /dev/null
check "a descriptor that is no tap" refuses "fd 5" not_a_tap
check "a descriptor that is not open" refuses "77" not_open
check "no such interface to send through" refuses "none0" "${CLIENT[@]}" flood --to 10.99.0.2 --dev none0 \
	--count 1
rm -rf "$WORK"
modprobe -r vhost_net
finish
