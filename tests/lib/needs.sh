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

# prepare_shared "NAME...": those of the list that most suites share, the client beside the kernel's tree, as neither
# keeps all CPUs busy by itself
prepare_shared() {
	local name client='' log=$BUILD/log/client.log
	case " $1 " in
	*" root "* | *" kernel "* | *" modules "* | *" tools "* | *" uml "* | *" debug "* | *" kcsan "*) need root ;;
	esac
	if [[ " $1 " = *" tools "* ]]; then
		mkdir -p "${log%/*}"
		"$TOP/scripts/client" build >"$log" 2>&1 </dev/null &
		client=$!
		# shellcheck disable=SC2064 # that process
		trap "kill $client 2>/dev/null || true" EXIT
	fi
	for name in kernel modules; do
		[[ " $1 " != *" $name "* ]] || need "$name"
	done
	[ -z "$client" ] || {
		step "the client" wait_for_client "$client" "$log"
		trap - EXIT
		export PREPARED="$PREPARED tools"
	}
}

wait_for_client() { wait "$1" || { cat "$2"; return 1; }; }
