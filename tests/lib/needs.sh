# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# Preparing what a suite declares in its header, see tests/lib/suite.sh. To be sourced, after scripts/lib.sh.

# declared NAME FILE: the value of that line in a header, nothing if there is none
declared() { sed -n -e '/^$/q' -e "s/^# $1: *//p" "$2"; }

# need "NAME...": in the order given, unless PREPARED has it
need() {
	local name
	for name in $1; do
		case " ${PREPARED:-} " in
		*" $name "*) continue ;;
		esac
		prepare_need "$name"
		export PREPARED="${PREPARED:-} $name"
	done
}

prepare_need() {
	case $1 in
	root) "$TOP/scripts/root" path >/dev/null ;;
	source) "$TOP/scripts/kernel" source ;;
	herd) "$TOP/scripts/herd" path >/dev/null ;;
	docs) "$TOP/scripts/docs" path >/dev/null ;;
	kernel) "$TOP/scripts/kernel" prepare ;;
	modules) step "the modules" "$TOP/scripts/kernel" modules ;;
	tools) step "the client" "$TOP/scripts/client" build ;;
	uml) "$TOP/scripts/uml" prepare ;;
	debug | kcsan) "$TOP/scripts/custom" prepare "$1" ;;
	*) die "no need '$1'; tests/lib/suite.sh lists them" ;;
	esac
}
