# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# The parts of tests/fit. Sourced.

FIELDS=$(dirname "${BASH_SOURCE[0]}")/fields
# The driver of another build that the part `other` loads.
# shellcheck disable=SC2034 # used by scripts that source this file
OTHER_DRIVER=tun-tun_file-tun-1

# field_parts: prints a part for each line of `fields`
field_parts() { sed -e '/^#/d' -e '/^$/d' "$FIELDS" | awk '{ print $1 "-" $2 "-" $3 "-" $4 }'; }

# field_line PART: prints its line of `fields`
field_line() {
	sed -e '/^#/d' -e '/^$/d' "$FIELDS" | awk -v part="^$1\$" '($1 "-" $2 "-" $3 "-" $4) ~ part'
}

# all_parts: prints all parts in the order in which they run
all_parts() { echo "host layouts own-drivers $(field_parts | xargs) release other"; }
