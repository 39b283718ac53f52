# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# KTAP for suites that are commands. To be sourced.
#
#    plan 2                                numbers begin anew
#    check "the description" command...    passes if the command exits with 0
#    skip "the description" "why"
#    finish                                fails if a check did
#    speaks command...                     for commands that print such a document each

ktap_count=0 ktap_failed=0

plan() {
	ktap_count=0
	echo "KTAP version 1"
	echo "1..$1"
}

# check DESCRIPTION COMMAND...: the output of a command that fails is shown as diagnostics
check() {
	local description=$1 output
	shift
	ktap_count=$((ktap_count + 1))
	if output=$("$@" 2>&1); then
		echo "ok $ktap_count $description"
	else
		printf '%s\n' "$output" | tail -n 40 | sed 's/^/# /'
		echo "not ok $ktap_count $description"
		ktap_failed=$((ktap_failed + 1))
	fi
}

# skip DESCRIPTION REASON: only what tests/skips lists may be
skip() {
	ktap_count=$((ktap_count + 1))
	echo "ok $ktap_count $1 # SKIP $2"
}

# speaks COMMAND...: runs it, and fails if it prints no plan: in a suite of several documents one more would
# not be missed
speaks() {
	local said status=0
	said=$(mktemp) || return
	"$@" 2>&1 | tee "$said"
	status=${PIPESTATUS[0]}
	if ! grep -q '^1\.\.[1-9]' "$said"; then
		echo "Bail out! no plan was printed by: $*"
		status=1
	fi
	rm -f "$said"
	return "$status"
}

finish() {
	[ "$ktap_failed" = 0 ]
}
