# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# The parts that the suites on custom kernels share. Sourced in a VM, after tests/parts.sh, with the kernel's
# name in KERNEL.

BUILT=/src/build/$KERNEL
export TEST_MODULE=$BUILT/tests/vm/tuntap_ring_test.ko
# Ring sizes to leave out: a kernel that checks each access reports the same for sizes 1, 16 and 33.
# shellcheck disable=SC2034 # used by scripts that source this file
SIZES='size_2 size_3 size_64 size_1000'
export THINNED=13

# Printed with each failed test, whose name follows as a comment.
export RUN_ALONE="tests/$KERNEL/run vm #"

# Only torture can run with the in-kernel vhost_net.
tortured=${CONSUMER:-tuntap_ring}
export CONSUMER=tuntap_ring

mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug

# A 500th of the operations of the native run.
kunit() {
	RUN_ALONE="tests/$KERNEL/run kunit #" sh /src/tests/kunit/in-guest "$BUILT" operations=20000
}

# Fewer packets, and only one ring, with 17 slots. The interrupt tests are left out: they are slow and do not depend
# on the kernel.
selftests() {
	SELFTESTS_KERNEL=$KERNEL SELFTESTS_PERCENT=5 SELFTESTS_RINGS=17 \
		SELFTESTS_INTERRUPTED='' SELFTESTS_MODULE=$TEST_MODULE bash /src/tests/selftests/in-guest \
		backpressure lifecycle read macvtap
}

torture() {
	# Torture loads the test module itself.
	rmmod tuntap_ring_test 2>/dev/null
	BED=$KERNEL /src/tests/torture/in-guest "$SECONDS_OF_TORTURE" "$SEED" "$tortured" \
		"$TEST_MODULE"
}
