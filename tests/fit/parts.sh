# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# The parts of tests/fit. To be sourced.

FIELDS=$(dirname "${BASH_SOURCE[0]}")/fields
# Of another build, loaded by the part `other`.
# shellcheck disable=SC2034 # of those that source this
OTHER_DRIVER=tun-tun_file-tun-1

# field_parts: one part per line of `fields`
field_parts() { sed -e '/^#/d' -e '/^$/d' "$FIELDS" | awk '{ print $1 "-" $2 "-" $3 "-" $4 }'; }

# field_line PART: its line of `fields`
field_line() {
	sed -e '/^#/d' -e '/^$/d' "$FIELDS" | awk -v part="^$1\$" '($1 "-" $2 "-" $3 "-" $4) ~ part'
}

# all_parts: in the order in which they run
all_parts() { echo "host layouts own-drivers $(field_parts | xargs) release other"; }
