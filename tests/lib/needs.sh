# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# Prepares the needs that a suite declares in its header, see tests/lib/suite.sh. Sourced after scripts/lib.sh.

# Each suite has a kernel of its own, and so do the demo and the benchmarks.
unset ARCH CROSS_COMPILE CROSS_COMPILE_COMPAT

# declared NAME FILE: prints the value of that header line, or nothing
declared() { sed -n -e '/^$/q' -e "s/^# $1: *//p" "$2"; }

# needs_of FILE [ARG...]: prints the needs of a suite with these arguments, the first of which may be an option
needs_of() {
	local needs=''
	[[ ${2:-} != --* ]] || needs=$(declared "Needs with $2" "$1")
	echo "${needs:-$(declared Needs "$1")}"
}

# need "NAME...": prepares these needs in that order, except needs listed in PREPARED
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
	# Tests use modules for the target kernel, even if the user sets KDIR= for another kernel.
	modules) step "the modules" env -u KDIR -u OUTPUT "$TOP/scripts/kernel" modules ;;
	arm64) step "the arm64 modules" env -u KDIR -u OUTPUT ARCH=arm64 "$TOP/scripts/kernel" modules ;;
	tools) step "the client" "$TOP/scripts/client" build ;;
	uml) "$TOP/scripts/uml" prepare ;;
	debug | kcsan | rt) "$TOP/scripts/kernel" prepare "$1" ;;
	*) die "no need '$1'; tests/lib/suite.sh lists them" ;;
	esac
}

# prepare_shared "NAME...": prepares the needs that most suites share. The client and user-mode Linux are built in
# parallel with the kernel's tree, whose build does not keep all CPUs busy. Suites that need user-mode Linux wait for
# its build.
prepare_shared() {
	local name client=''
	case " $1 " in
	*" root "* | *" kernel "* | *" modules "* | *" tools "* | *" uml "* | *" debug "* | *" kcsan "* | *" rt "*) need root ;;
	esac
	mkdir -p "$BUILD/log"
	if [[ " $1 " = *" tools "* ]]; then
		start_beside client "$TOP/scripts/client" build
		client=$!
	fi
	if [[ " $1 " = *" uml "* ]]; then
		need source
		start_beside uml "$TOP/scripts/uml" prepare
	fi
	trap end_beside EXIT
	for name in kernel modules; do
		[[ " $1 " != *" $name "* ]] || need "$name"
	done
	[ -z "$client" ] || {
		step "the client" wait_for_client "$client"
		export PREPARED="$PREPARED tools"
	}
}

# start_beside NAME COMMAND...: starts the command in the background, in its own process group, so that end_beside()
# also ends its children
start_beside() {
	local log=$BUILD/log/$1.log
	shift
	set -m
	"$@" >"$log" 2>&1 </dev/null &
	set +m
	BESIDE+=("$!")
}
BESIDE=()

end_beside() {
	local group
	for group in "${BESIDE[@]}"; do
		kill -TERM -- "-$group" 2>/dev/null || true
	done
}

wait_for_client() { wait "$1" || { cat "$BUILD/log/client.log"; return 1; }; }
