# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# Runs the parts of a suite, which are functions that print KTAP. Sourced in a VM, after tests/lib/ktap.sh.

# run_parts PART...: runs the parts in that order; each prints its own plan
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
