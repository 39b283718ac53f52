#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The life of the modules, as the kernel counts their users.
#
#   vhost_net (ours, in updates/) --uses--> tuntap_ring --uses--> tun, tap
#                                                |
#   tuntap_ring_test --uses----------------------+

# shellcheck disable=SC2317 # functions that check calls
# shellcheck source=tests/ktap.sh
. ../ktap.sh

ROUNDS=20

# fails COMMAND...: whether it does
fails() {
	! "$@"
}

is_loaded() {
	[ -d "/sys/module/$1" ]
}

# users MODULE: those that use it, by name
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
	for ((i = 0; i < 3; i++)); do
		modprobe vhost_net && is_loaded tuntap_ring || return
		modprobe -r vhost_net && fails is_loaded vhost_net || return
	done
}

refuses_unload() {
	fails rmmod "$1" && is_loaded "$1"
}

pulls_in() {
	modprobe "$1" && is_loaded "$2"
}

uses() {
	users "$2" | grep -qx "$1"
}

is_from_updates() {
	[[ $(modinfo -n "$1") = */updates/* ]]
}

unloads() {
	rmmod "$1" && fails is_loaded "$1"
}

# The file says what the memory holds.
same_build() {
	[ "$(modinfo -F srcversion "$1")" = "$(cat "/sys/module/$1/srcversion")" ]
}

# takes PARAMETER=VALUE: loads with it, and unloads
takes() {
	modprobe tuntap_ring "$1" && rmmod tuntap_ring
}

# refuses_value PARAMETER=VALUE: does not load with it, and says why
refuses_value() {
	fails modprobe tuntap_ring "$1" && dmesg | grep -qF "tuntap_ring: $1 is not"
}

# What listens to its events does not keep the module, and does not outlive it.
unloads_while_traced() {
	local events=/sys/kernel/tracing/events/tuntap_ring
	modprobe tuntap_ring && echo 1 >$events/enable && unloads tuntap_ring &&
		fails test -e $events || return
	modprobe tuntap_ring && [ "$(cat $events/enable)" = 0 ] && unloads tuntap_ring
}

# refused_by_kernel PARAMETER=VALUE: it is no value of that type
refused_by_kernel() {
	fails modprobe tuntap_ring "$1" && fails is_loaded tuntap_ring &&
		dmesg | grep -qF "tuntap_ring: \`${1#*=}' invalid for parameter \`${1%%=*}'"
}

# An unknown one is the kernel's to pass over, which says so.
passes_over() {
	takes "$1" && dmesg | grep -qF "tuntap_ring: unknown parameter '${1%%=*}' ignored"
}

# Set at load only: nothing in sysfs that could be written to.
no_parameter_in_sysfs() {
	modprobe tuntap_ring wake_after=75 &&
		fails test -e /sys/module/tuntap_ring/parameters/wake_after &&
		fails test -e /sys/module/tuntap_ring/parameters/qdisc_on_sender &&
		rmmod tuntap_ring
}

plan 29
check "a user keeps tuntap_ring loaded" refuses_unload tuntap_ring
check "tuntap_ring_test unloads" unloads tuntap_ring_test
check "tuntap_ring unloads when unused" unloads tuntap_ring
check "its counters go with it" fails test -e /sys/kernel/debug/tuntap_ring
check "its trace points go with it" fails test -e /sys/kernel/tracing/events/tuntap_ring
check "it unloads while it is traced" unloads_while_traced
check "$ROUNDS times loaded and unloaded" load_and_unload
for value in 1 100; do
	check "wake_after=$value" takes "wake_after=$value"
done
check "qdisc_on_sender=1" takes qdisc_on_sender=1
for value in 0 101 255; do
	check "wake_after=$value is refused" refuses_value "wake_after=$value"
done
for value in 256 -1 half; do
	check "wake_after=$value is refused by the kernel" refused_by_kernel "wake_after=$value"
done
for value in 2 maybe; do
	check "qdisc_on_sender=$value is refused by the kernel" refused_by_kernel "qdisc_on_sender=$value"
done
check "an unknown parameter is passed over" passes_over wake_before=1
check "no parameter can be written through sysfs" no_parameter_in_sysfs
check "vhost_net is ours" is_from_updates vhost_net
check "vhost_net pulls tuntap_ring in" pulls_in vhost_net tuntap_ring
check "vhost_net uses tuntap_ring" uses vhost_net tuntap_ring
check "tuntap_ring uses tun" uses tuntap_ring tun
check "tuntap_ring uses tap" uses tuntap_ring tap
check "the loaded vhost_net is the file's" same_build vhost_net
check "vhost_net keeps tuntap_ring loaded" refuses_unload tuntap_ring
check "tuntap_ring keeps tun loaded" refuses_unload tun
check "vhost_net and all it pulled in, 3 times" load_and_unload_all
finish
