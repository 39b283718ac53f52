# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# The parts that the suites on custom kernels have in common. To be sourced in a guest, after tests/parts.sh,
# with its name in KERNEL.

BUILT=/src/build/$KERNEL
export TEST_MODULE=$BUILT/tests/vm/tuntap_ring_test.ko
# Rings that are left out, as they are like others to a kernel that looks at each access: 1, 16 and 33 stay.
# shellcheck disable=SC2034 # used by those that source this
SIZES='size_2 size_3 size_64 size_1000'
export THINNED=13

# Printed with a test that fails, the test as a comment.
export RUN_ALONE="tests/$KERNEL/run vm #"

# Only torture can run with the in-kernel vhost_net.
tortured=${CONSUMER:-tuntap_ring}
export CONSUMER=tuntap_ring

mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug

# A 500th of what is done natively.
kunit() {
	RUN_ALONE="tests/$KERNEL/run kunit #" sh /src/tests/kunit/in-guest "$BUILT" operations=20000
}

# Fewer packets, and one ring, of 17 slots. The interrupt tests are left out: they are slow and do not depend on
# the kernel.
selftests() {
	SELFTESTS_KERNEL=$KERNEL SELFTESTS_PERCENT=5 SELFTESTS_RINGS=17 \
		SELFTESTS_INTERRUPTED='' SELFTESTS_MODULE=$TEST_MODULE bash /src/tests/selftests/in-guest \
		backpressure lifecycle read macvtap
}

torture() {
	# It loads its own.
	rmmod tuntap_ring_test 2>/dev/null
	BED=$KERNEL bash /src/tests/torture/in-guest "$SECONDS_OF_TORTURE" "$SEED" "$tortured" \
		"$TEST_MODULE"
}
