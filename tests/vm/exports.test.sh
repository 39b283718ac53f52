#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# What tuntap_ring exports, as other modules see it, and what modinfo says of it.
#
#   tuntap_ring.ko: .symtab, .export_symbol, .modinfo
#         |  load
#   kernel: /proc/kallsyms, /sys/module, debugfs

# shellcheck disable=SC2317 # functions that check calls
# shellcheck source=tests/ktap.sh
. ../ktap.sh

symvers=../../build/modules/Module.symvers
file=$(modinfo -n tuntap_ring)

# Whether the build names it as a GPL-only export of ours.
is_gpl_export() {
	grep -q "^0x[0-9a-f]*	$1	tuntap_ring	EXPORT_SYMBOL_GPL	" "$symvers"
}

# Whether the installed module has it, as a function, and in its table of exports.
is_in_ksymtab() {
	readelf --wide --symbols "$file" | grep -qw "__ksymtab_$1" &&
		readelf --wide --symbols "$file" |
		awk -v name="$1" '$8 == name && $4 == "FUNC" && $5 == "GLOBAL" { found = 1 }
			END { exit !found }'
}

# Whether the running kernel has it, as a text symbol of our module.
is_in_kernel() {
	awk -v name="$1" '$3 == name && $2 == "T" && $4 == "[tuntap_ring]" { found = 1 }
		END { exit !found }' /proc/kallsyms
}

# Whether a field of modinfo is one line that matches.
has_field() {
	modinfo -F "$1" tuntap_ring | grep -qxE "$2"
}

is_from_updates() {
	[[ $file = */updates/* ]]
}

# has_event NAME FIELD...: whether there is a trace point with just these fields, in that order
has_event() {
	local format=/sys/kernel/tracing/events/tuntap_ring/$1/format
	shift
	[ "$(sed -n 's/^\tfield:.* \([a-z]*\);\toffset:.*/\1/p' "$format" | grep -v '^common' | paste -sd ' ' -)" = "$*" ]
}

has_counters() {
	for counter in calls entries wakes remote withheld turned_away; do
		grep -qxE '[0-9]+' "/sys/kernel/debug/tuntap_ring/$counter" || return 1
	done
}

plan 17
for symbol in tun_ring_consume_batched tap_ring_consume_batched tuntap_ring_check_build; do
	check "$symbol is EXPORT_SYMBOL_GPL" is_gpl_export "$symbol"
	check "$symbol is in the module's table of exports" is_in_ksymtab "$symbol"
	check "$symbol is in the running kernel" is_in_kernel "$symbol"
done
check "modprobe finds ours" is_from_updates
check "licence" has_field license GPL
check "author" has_field author '.+'
check "description" has_field description '.+'
check "version" has_field version '[0-9]+\.[0-9]+\.[0-9]+'
check "counters" has_counters
check "trace point consume_batched" has_event consume_batched device queue asked taken freed
check "trace point wake" has_event wake device queue consumed fill
finish
