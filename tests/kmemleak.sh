# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# Checks of kmemleak and lockdep. Sourced in a VM whose kernel has both.

KMEMLEAK=/sys/kernel/debug/kmemleak

# no_leaks: prints leaked memory, and fails if there is any. (The size of the kmemleak file is always 0.)
no_leaks() {
	local leaks
	# The sleep is not a deadline: kmemleak measures age with the same clock. It does not report memory younger than
	# 5 s (MSECS_MIN_AGE of mm/kmemleak.c, which cannot be set). Memory that leaked before the first scan is older
	# than that at the second. A scan is complete when `echo` returns.
	echo scan >"$KMEMLEAK" && sleep 6 && echo scan >"$KMEMLEAK" && leaks=$(<"$KMEMLEAK") || return
	printf '%s' "$leaks"
	[ -z "$leaks" ]
}

lockdep_is_active() { grep -qE '^ *lock-classes: +[1-9]' /proc/lockdep_stats; }

# check_leaks_and_locks: prints a KTAP document, after tests/lib/ktap.sh is sourced. A lockdep report turns lockdep
# off.
check_leaks_and_locks() {
	plan 2
	check "kmemleak finds no leak" no_leaks
	check "lockdep is active to the end" grep -qE '^ *debug_locks: +1' /proc/lockdep_stats
	finish
}
