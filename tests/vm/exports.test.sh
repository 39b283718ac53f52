#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Tests the exports of tuntap_ring that other modules use, and the output of modinfo.
#
#   tuntap_ring.ko: .symtab, .export_symbol, .modinfo
#         |  load
#   kernel: /proc/kallsyms, /sys/module, debugfs

# shellcheck disable=SC2317 # functions that check calls
# shellcheck source=tests/lib/ktap.sh
. ../lib/ktap.sh

symvers=../../build/modules/Module.symvers
file=$(modinfo -n tuntap_ring)
# Reads both only once: reading takes seconds on an emulated CPU.
in_file=$(readelf --wide --symbols "$file") in_kernel=$(grep -F '[tuntap_ring]' /proc/kallsyms)

# is_gpl_export SYMBOL: whether Module.symvers has the symbol as a GPL-only export of tuntap_ring
is_gpl_export() {
	grep -q "^0x[0-9a-f]*	$1	tuntap_ring	EXPORT_SYMBOL_GPL	" "$symvers" || {
		echo "expected: $1 as EXPORT_SYMBOL_GPL in $symvers, seen:"
		cat "$symvers"
		return 1
	}
}

# is_in_ksymtab SYMBOL: whether the installed module has the symbol, as a function, and in its table of exports
is_in_ksymtab() {
	awk -v name="$1" '$8 == name && $4 == "FUNC" && $5 == "GLOBAL" { is_function = 1 }
		$8 == "__ksymtab_" name { is_exported = 1 }
		END { exit !(is_function && is_exported) }' <<<"$in_file" || {
		echo "expected: $1, a global function, and __ksymtab_$1 in $file, seen:"
		grep -w -e "$1" -e "__ksymtab_$1" <<<"$in_file"
		return 1
	}
}

# is_in_kernel SYMBOL: whether the running kernel has the symbol, as a text symbol of tuntap_ring
is_in_kernel() {
	awk -v name="$1" '$3 == name && $2 == "T" { found = 1 } END { exit !found }' <<<"$in_kernel" || {
		echo "expected: $1 as T of [tuntap_ring] in /proc/kallsyms, seen:"
		grep -w "$1" <<<"$in_kernel"
		return 1
	}
}

# has_field FIELD REGEX: whether the field of modinfo is one line that matches
has_field() {
	modinfo -F "$1" tuntap_ring | grep -qxE "$2" || {
		echo "expected: $1 that matches $2, seen: $(modinfo -F "$1" tuntap_ring)"
		return 1
	}
}

is_from_updates() {
	[[ $file = */updates/* ]] || {
		echo "expected: a file below updates/, seen: $file"
		return 1
	}
}

# has_event NAME FIELD...: whether the trace point exists and has exactly these fields, in that order
has_event() {
	local format=/sys/kernel/tracing/events/tuntap_ring/$1/format fields
	shift
	fields=$(sed -n 's/^\tfield:.* \([a-z]*\);\toffset:.*/\1/p' "$format" | grep -v '^common' | paste -sd ' ' -)
	[ "$fields" = "$*" ] || {
		echo "expected: fields $*, seen: $fields"
		return 1
	}
}

has_counters() {
	local counter
	for counter in calls entries wakes withheld rejected; do
		grep -qxE '[0-9]+' "/sys/kernel/debug/tuntap_ring/$counter" || {
			echo "expected: a number in the counter $counter, seen: $(cat "/sys/kernel/debug/tuntap_ring/$counter")"
			return 1
		}
	done
}

run_alone "${RUN_ALONE:-tests/vm/run}" exports
plan 17
for symbol in tun_ring_consume_batched tap_ring_consume_batched tuntap_ring_check_build; do
	check "$symbol is EXPORT_SYMBOL_GPL" is_gpl_export "$symbol"
	check "$symbol is in the module's table of exports" is_in_ksymtab "$symbol"
	check "$symbol is in the running kernel" is_in_kernel "$symbol"
done
check "modprobe finds tuntap_ring in updates/" is_from_updates
check "modinfo prints the license: GPL" has_field license GPL
check "modinfo prints an author" has_field author '.+'
check "modinfo prints a description" has_field description '.+'
check "modinfo prints a version of three numbers" has_field version '[0-9]+\.[0-9]+\.[0-9]+'
check "each counter in debugfs is a number" has_counters
check "the trace point consume_batched has its fields in order" \
	has_event consume_batched device queue asked taken freed
check "the trace point wake has its fields in order" has_event wake device queue consumed fill
finish
