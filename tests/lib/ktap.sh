# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# KTAP output for shell suites. Sourced.
#
#    run_alone COMMAND...          sets the command that repeats a single check; its word %s stands for the
#                                  name of the check
#    only NAME...                  runs only these checks
#    plan N                        prints the plan; numbers start at 1 again
#    check NAME COMMAND...         passes if the command exits with status 0
#    skip NAME REASON              only a check that tests/skips lists may be skipped
#    finish                        fails if a check failed, or if a name given to `only` does not exist
#
#    expect_error STATUS TEXT COMMAND...    a command for `check`, see below
#    document COMMAND...                    runs a program that prints its own KTAP document
#
# A failed check prints the command that was expected to succeed, its output, and the command that runs only
# this check.

ktap_count=0 ktap_failed=0
ktap_alone=() ktap_only=()
declare -A ktap_found=()

run_alone() { ktap_alone=("$@"); }

only() { ktap_only=("$@"); }

plan() {
	local count=$1
	[ ${#ktap_only[@]} = 0 ] || count=${#ktap_only[@]}
	ktap_count=0
	echo "KTAP version 1"
	echo "1..$count"
}

# ktap_selected NAME: whether to run the check
ktap_selected() {
	local name
	[ ${#ktap_only[@]} != 0 ] || return 0
	for name in "${ktap_only[@]}"; do
		if [ "$name" = "$1" ]; then
			ktap_found[$name]=1
			return 0
		fi
	done
	return 1
}

# ktap_diagnostic: prints standard input as diagnostics
ktap_diagnostic() { sed 's/^/# /'; }

# ktap_pass NAME [DIRECTIVE]
ktap_pass() {
	ktap_count=$((ktap_count + 1))
	echo "ok $ktap_count $1${2:+ # $2}"
}

# ktap_fail NAME [DIAGNOSTIC]: prints the diagnostic, and the command that runs only this check
ktap_fail() {
	local word command=''
	ktap_count=$((ktap_count + 1))
	ktap_failed=$((ktap_failed + 1))
	[ -z "${2:-}" ] || printf '%s\n' "$2" | ktap_diagnostic
	for word in "${ktap_alone[@]}"; do
		[ "$word" != %s ] || printf -v word %q "$1"
		command+=" $word"
	done
	[ -z "$command" ] || echo "# run alone:$command"
	echo "not ok $ktap_count $1"
}

check() {
	local name=$1 output status=0
	shift
	ktap_selected "$name" || return 0
	output=$("$@" 2>&1) || status=$?
	if [ "$status" = 0 ]; then
		ktap_pass "$name"
	else
		ktap_fail "$name" "expected: status 0 of: $*
seen: status $status${output:+, and the output:
$(tail -n 40 <<<"$output")}"
	fi
}

skip() {
	! ktap_selected "$1" || ktap_pass "$1" "SKIP $2"
}

finish() {
	local name
	for name in "${ktap_only[@]}"; do
		[ -z "${ktap_found[$name]:-}" ] || continue
		echo "Bail out! no check '$name'"
		ktap_failed=$((ktap_failed + 1))
	done
	[ "$ktap_failed" = 0 ]
}

# expect_error STATUS TEXT COMMAND...: whether the command exits with that status (`any`: any except 0) and prints
# exactly one line, which contains the text
expect_error() {
	local expected=$1 text=$2 output status=0
	shift 2
	output=$("$@" 2>&1) || status=$?
	if [[ $status = "$expected" || ($expected = any && $status != 0) ]] &&
		[[ $output = *"$text"* && $output != *$'\n'* ]]; then
		return
	fi
	printf 'expected: status %s, and one line with: %s\n' "$expected" "$text"
	printf 'seen: status %s, and: %s\n' "$status" "$output"
	return 1
}

# document COMMAND...: fails if the command prints no plan: among other documents a missing plan would go unnoticed
document() {
	local copy status=0
	copy=$(mktemp) || return
	"$@" 2>&1 | tee "$copy"
	status=${PIPESTATUS[0]}
	if ! grep -q '^1\.\.[1-9]' "$copy"; then
		echo "Bail out! no plan was printed by: $*"
		status=1
	fi
	rm -f "$copy"
	return "$status"
}
