# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# For tests in a guest whose kernel has kmemleak. To be sourced.

KMEMLEAK=/sys/kernel/debug/kmemleak

# Says what nobody refers to any more. (The file has no size, whatever is in it.)
no_leaks() {
	local leaks
	# What is younger than some seconds is not reported.
	echo scan >"$KMEMLEAK" && sleep 6 && echo scan >"$KMEMLEAK" && leaks=$(<"$KMEMLEAK") || return
	printf '%s' "$leaks"
	[ -z "$leaks" ]
}
