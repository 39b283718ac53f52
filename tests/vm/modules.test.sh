#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Tests loading and unloading of the modules, and the dependencies that the kernel counts.
#
#   tuntap_ring_livepatch --uses--> tuntap_ring --uses--> tun, tap
#        |                               |
#        +--holds--> vhost_net           |
#   tuntap_ring_test --uses--------------+
#
# On kernels without live patching, tuntap_ring_vhost_net replaces the live patch.
#
# QUICK=1  fewer rounds

# shellcheck disable=SC2317 # functions that check calls
# shellcheck source=tests/lib/ktap.sh
. ../lib/ktap.sh
# shellcheck source=scripts/in-vm/vhost.sh
. ../../scripts/in-vm/vhost.sh

ROUNDS=20 ALL_ROUNDS=3
[ -z "${QUICK:-}" ] || ROUNDS=5 ALL_ROUNDS=1

# fails COMMAND...: whether the command fails
fails() {
	! "$@" || {
		echo "expected: a status other than 0 of: $*"
		return 1
	}
}

is_loaded() {
	[ -d "/sys/module/$1" ]
}

# users MODULE: prints the names of modules that use it
users() {
	ls "/sys/module/$1/holders"
}

load_and_unload() {
	for ((i = 0; i < ROUNDS; i++)); do
		modprobe tuntap_ring && is_loaded tuntap_ring || return
		rmmod tuntap_ring && fails is_loaded tuntap_ring || return
	done
}

load_and_unload_all() {
	for ((i = 0; i < ALL_ROUNDS; i++)); do
		load_vhost tuntap_ring && is_loaded tuntap_ring || return
		unload_vhost && fails is_loaded "$consumer" && fails is_loaded tuntap_ring || return
	done
}

rejects_unload() {
	expect_error 1 "rmmod: ERROR: Module $1 is in use" rmmod "$1" && is_loaded "$1"
}

pulls_in() {
	modprobe "$1" && is_loaded "$2"
}

# uses USER MODULE
uses() {
	users "$2" | grep -qx "$1" || {
		echo "expected: $1 among the users of $2, seen:" "$(users "$2")"
		return 1
	}
}

is_in_kernel_module() {
	local file
	file=$(modinfo -n "$1")
	[[ $file = */kernel/* ]] || {
		echo "expected: a file below kernel/, seen: $file"
		return 1
	}
}

# A flag that an opener has set stays; tests/vm/policy.test.c tests that.
unload_clears_the_flag() {
	local flag=0x80 status=0
	modprobe tuntap_ring 'backpressure=mod*' && ip tuntap add mod0 mode tap || return
	(($(<"/sys/class/net/mod0/tun_flags") & flag)) || { echo "expected: mod0 has the flag"; status=1; }
	rmmod tuntap_ring || return
	! (($(<"/sys/class/net/mod0/tun_flags") & flag)) || { echo "expected: mod0 has lost the flag"; status=1; }
	ip link del mod0
	return "$status"
}

unloads() {
	rmmod "$1" && fails is_loaded "$1"
}

# same_build MODULE: whether the loaded module has the srcversion of the module file
same_build() {
	local file memory
	file=$(modinfo -F srcversion "$1") memory=$(cat "/sys/module/$1/srcversion")
	[ "$file" = "$memory" ] || {
		echo "expected: srcversion $file, as in the file; seen: $memory"
		return 1
	}
}

# takes PARAMETER=VALUE: whether tuntap_ring loads with the parameter, and unloads
takes() {
	modprobe tuntap_ring "$1" && rmmod tuntap_ring
}

# logs TEXT COMMAND...: whether the command succeeds, and the kernel logs a line with the text
logs() {
	local text=$1 before
	shift
	before=$(dmesg | wc -l)
	"$@" || return
	dmesg | tail -n +$((before + 1)) | grep -F "$text" || {
		echo "expected: a line in the kernel log with: $text"
		echo "seen: $(dmesg | tail -n +$((before + 1)))"
		return 1
	}
}

# does_not_load PARAMETER=VALUE: whether modprobe fails with EINVAL
does_not_load() {
	expect_error 1 "Invalid argument" modprobe tuntap_ring "$1" && fails is_loaded tuntap_ring
}

# rejects PARAMETER=VALUE: whether tuntap_ring rejects the value, and logs the reason
rejects() {
	logs "tuntap_ring: $1: not a percentage (-22)" does_not_load "$1"
}

# rejected_by_kernel PARAMETER=VALUE: whether the kernel rejects the value, which the parameter's type does not have
rejected_by_kernel() {
	logs "tuntap_ring: \`${1#*=}' invalid for parameter \`${1%%=*}'" does_not_load "$1"
}

# Enabled trace points do not keep the module loaded, and are removed with it.
unloads_while_traced() {
	local events=/sys/kernel/tracing/events/tuntap_ring
	modprobe tuntap_ring && echo 1 >$events/enable && unloads tuntap_ring &&
		fails test -e $events || return
	modprobe tuntap_ring && [ "$(cat $events/enable)" = 0 ] && unloads tuntap_ring
}

# insert_without_sysfs FILE: loads the module in a mount namespace whose /sys is empty
insert_without_sysfs() {
	# shellcheck disable=SC2016 # expanded there
	unshare --mount sh -c 'mount -t tmpfs none /sys && exec insmod "$1"' sh "$1"
}

# tuntap_ring reads the build IDs of drivers from sysfs. For ENOENT kmod prints a message about symbols.
rejects_without_sysfs() {
	modprobe -a tun tap &&
		logs "tuntap_ring: tun: cannot read the build ID below /sys (-2)" expect_error 1 "Unknown symbol" \
			insert_without_sysfs "$(modinfo -n tuntap_ring)" && fails is_loaded tuntap_ring
}

# The kernel ignores an unknown parameter, and logs that.
passes_over() {
	logs "tuntap_ring: unknown parameter '${1%%=*}' ignored" takes "$1"
}

# The parameter can be set only at load, so it must not be in sysfs.
wake_after_is_not_in_sysfs() {
	modprobe tuntap_ring wake_after=75 &&
		fails test -e /sys/module/tuntap_ring/parameters/wake_after &&
		rmmod tuntap_ring
}

# The checks depend on each other.
consumer=tuntap_ring_livepatch count=30
modinfo "$consumer" >/dev/null 2>&1 || consumer=tuntap_ring_vhost_net count=28
run_alone "${RUN_ALONE:-tests/vm/run}" modules
plan "$count"
check "tuntap_ring does not unload while tuntap_ring_test uses it" rejects_unload tuntap_ring
check "tuntap_ring_test unloads" unloads tuntap_ring_test
check "tuntap_ring unloads when unused" unloads tuntap_ring
check "unloading tuntap_ring removes its counters" fails test -e /sys/kernel/debug/tuntap_ring
check "unloading tuntap_ring removes its trace points" fails test -e /sys/kernel/tracing/events/tuntap_ring
check "tuntap_ring unloads while it is traced" unloads_while_traced
check "tuntap_ring loads and unloads $ROUNDS times" load_and_unload
for value in 1 100; do
	check "tuntap_ring accepts wake_after=$value" takes "wake_after=$value"
done
for value in 0 101 255; do
	check "tuntap_ring rejects wake_after=$value with EINVAL" rejects "wake_after=$value"
done
for value in 256 -1 half; do
	check "the kernel rejects wake_after=$value" rejected_by_kernel "wake_after=$value"
done
check "the kernel ignores an unknown parameter" passes_over wake_before=1
check "tuntap_ring does not load without sysfs, and logs the error" rejects_without_sysfs
check "wake_after cannot be written through sysfs" wake_after_is_not_in_sysfs
check "unloading tuntap_ring clears IFF_BACKPRESSURE where tuntap_ring has set it" unload_clears_the_flag
check "modprobe finds the in-kernel vhost_net" is_in_kernel_module vhost_net
check "modprobe $consumer also loads tuntap_ring" pulls_in "$consumer" tuntap_ring
check "$consumer uses tuntap_ring" uses "$consumer" tuntap_ring
check "tuntap_ring uses tun" uses tuntap_ring tun
check "tuntap_ring uses tap" uses tuntap_ring tap
check "the loaded $consumer is the build that modinfo finds" same_build "$consumer"
check "tuntap_ring does not unload while $consumer uses it" rejects_unload tuntap_ring
check "tun does not unload while tuntap_ring uses it" rejects_unload tun
if [ "$consumer" = tuntap_ring_livepatch ]; then
	check "the live patch does not unload while it is enabled" rejects_unload "$consumer"
	check "vhost_net does not unload while it is patched" rejects_unload vhost_net
fi
unload_vhost
check "$consumer and the modules it uses load and unload $ALL_ROUNDS times" load_and_unload_all
finish
