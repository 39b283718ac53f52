# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# For suites of parts, each a function that prints KTAP. To be sourced in a guest, after tests/lib/ktap.sh.

# run_parts PART...: one after the other, each with results of its own
run_parts() {
	local part start status=0
	for part; do
		echo "# $part"
		start=$SECONDS
		# shellcheck disable=SC2034 # of tests/lib/ktap.sh
		ktap_failed=0
		"$part" || status=1
		echo "# $part: $((SECONDS - start)) s"
	done
	return "$status"
}
