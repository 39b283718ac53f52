# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# For tests in a guest whose kernel has kmemleak. To be sourced.

KMEMLEAK=/sys/kernel/debug/kmemleak

# Prints memory that is referred to no more. (The file has no size, whatever is in it.)
no_leaks() {
	local leaks
	# kmemleak does not report what is younger than 5 s (MSECS_MIN_AGE of mm/kmemleak.c), which can't be set. So
	# this is no wait for anything that might be slow: both count the same seconds, and all that was left before
	# the first scan is older at the second. Scans are done when `echo` returns.
	echo scan >"$KMEMLEAK" && sleep 6 && echo scan >"$KMEMLEAK" && leaks=$(<"$KMEMLEAK") || return
	printf '%s' "$leaks"
	[ -z "$leaks" ]
}
