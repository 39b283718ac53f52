# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# Functions of all scripts. To be sourced, after `set -euo pipefail`.

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tuntap-ring}
BUILD=$TOP/build
# shellcheck disable=SC2034 # used by the sourcing script
RESULTS=$BUILD/results
# The seconds and the text of each build step.
STEPS=$BUILD/log/steps
# The first Linux whose tun has backpressure.
SINCE=7.3

# our_version: prints the version of modules, tools and packages
our_version() { sed -n 's/^TUNTAP_RING_VERSION := //p' "$TOP/Kbuild"; }

# has_backpressure RELEASE: checks that a kernel is as new as SINCE
has_backpressure() { printf '%s\n' "$SINCE" "$1" | sort -VC; }

# die MESSAGE...: exits with the message `thing: problem; fix`
die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# header: prints the header of the running script, which is its --help
header() { sed -n '4,/^$/ { s/^# \{0,1\}//; p }' "$0"; }

# usage: prints the header, and exits with 2
usage() {
	header >&2
	exit 2
}

# value OPTION [VALUE]: prints the value, or fails without one
value() {
	[ $# -ge 2 ] || die "$1 requires a value"
	printf '%s\n' "$2"
}

# number OPTION [VALUE]: prints the value if it is a whole number above 0
number() {
	[[ ${2:-} =~ ^[1-9][0-9]*$ ]] || die "$1 requires a whole number above 0, not '${2:-}'"
	echo "$2"
}

# size OPTION [VALUE]: prints the value if it is a size of memory
size() {
	[[ ${2:-} =~ ^[1-9][0-9]*[MG]$ ]] || die "$1 requires a size such as 512M or 2G, not '${2:-}'"
	echo "$2"
}

# A file that is sourced without arguments has those of the sourcing script.
if [ "${1:-}" = --help ]; then
	header
	exit 0
fi

# Checked before anything is done.
[[ $CACHE = /* ]] || die "CACHE=$CACHE is not an absolute path"
# With KDIR=, they belong to the user's own kernel tree.
[ -n "${KDIR:-}" ] || case ${ARCH:-x86_64} in
x86 | x86_64) unset ARCH ;;
# The kernel's makefiles read these from the environment, too.
arm64) export ARCH CROSS_COMPILE=aarch64-linux-gnu- CROSS_COMPILE_COMPAT=arm-linux-gnueabihf- ;;
*) die "ARCH=$ARCH is not valid; use x86_64 or arm64" ;;
esac
[ "${BENCH:-full}" = full ] || die "BENCH=$BENCH is not valid; use BENCH=full, or leave it unset"

# step TEXT COMMAND...: runs a long step with its output in a log, and prints its time. The command may print
# its progress on descriptor 3.
step() {
	local text=$1 log start=$EPOCHREALTIME status=0 seconds
	shift
	mkdir -p "$BUILD/log"
	log=$BUILD/log/$(tr -cs 'a-zA-Z0-9\n' - <<<"${text%...}").log
	printf '  %-58s' "$text ..." >&2
	"$@" 3>&2 >"$log" 2>&1 </dev/null || status=$?
	seconds=$((${EPOCHREALTIME%.*} - ${start%.*}))
	if [ "$status" -ne 0 ]; then
		printf ' failed after %d s\n' "$seconds" >&2
		tail -n 25 "$log" >&2
		die "step '$text' failed (status $status); see $log"
	fi
	printf ' %3d s\n' "$seconds" >&2
	[ "$seconds" = 0 ] || echo "$seconds $text" >>"$STEPS"
}

# phase TEXT COMMAND...: as step(), for tests: STEPS lists build steps only
phase() {
	local STEPS=/dev/null
	step "$@"
}

# unless_silent SECONDS FILE COMMAND...: runs a command that writes to FILE. Kills it and returns 124 when FILE has not
# grown for that many seconds. The first output may take 900 s, because a VM has to boot.
unless_silent() {
	local limit=$1 file=$2 pid size=-1 seen last=$SECONDS status=0 sleeper BOOT=900
	shift 2
	set -m
	"$@" &
	pid=$!
	set +m
	while kill -0 "$pid" 2>/dev/null; do
		sleep 5 &
		sleeper=$!
		wait -n "$pid" "$sleeper" || true
		kill "$sleeper" 2>/dev/null || true
		seen=$(stat -c %s "$file" 2>/dev/null) || true
		if [ "$seen" != "$size" ]; then
			size=$seen last=$SECONDS
		elif ((SECONDS - last >= (size > 0 || limit > BOOT ? limit : BOOT))); then
			kill -KILL -- "-$pid"
			wait "$pid" 2>/dev/null || true
			return 124
		fi
	done
	wait "$pid" || status=$?
	return "$status"
}

# locked NAME COMMAND...: runs a command under the lock NAME of the cache
locked() {
	local name=$1 status=0
	shift
	mkdir -p "$CACHE"
	exec 9>"$CACHE/$name.lock"
	if ! flock --nonblock 9; then
		echo "  waiting for another run that holds $CACHE/$name.lock" >&2
		flock 9
	fi
	"$@" || status=$?
	exec 9>&-
	return "$status"
}

# build_modules TREE FOLDER SOURCES ARG...: builds the modules of the checkout SOURCES for the kernel tree TREE
# into FOLDER/modules, in the build root; the arguments go to make
build_modules() {
	local tree=$1 folder=$2 sources=$3
	shift 3
	mkdir -p "$folder/modules"
	make -C "$tree" M="$sources" MO="$folder/modules" "$@"
}

# build_unit TREE FOLDER SOURCES UNIT ARG...: then builds the modules in SOURCES/UNIT into FOLDER/UNIT
build_unit() {
	local tree=$1 folder=$2 sources=$3 unit=$4
	shift 4
	mkdir -p "$folder/$unit"
	make -C "$tree" M="$sources/$unit" MO="$folder/$unit" "$@" \
		TUNTAP_RING_GENERATED="$folder/modules/src/bindings" \
		KBUILD_EXTRA_SYMBOLS="$folder/modules/Module.symvers"
}

# output_folder: prints the folder of the modules below build/, for KDIR=, ARCH= and OUTPUT=
output_folder() {
	local tree=${KDIR:+$(realpath -m "$KDIR")}
	tree=${tree:-${ARCH:-}}
	echo "${OUTPUT:-modules${tree:+-${tree##*/}}}"
}

# compiler_of TREE: prints the name of the compiler that the kernel was built with
compiler_of() {
	sed -n 's/^CONFIG_CC_VERSION_TEXT="\([^ ]*\) .*/\1/p' "$1/.config"
}

# is_duration VARIABLE VALUE: checks a duration of torture, in seconds
is_duration() {
	[[ $2 =~ ^[1-9][0-9]{0,6}$ ]] || die "$1=$2 is not a whole number above 0"
}

# is_seed VALUE: checks a seed of torture
is_seed() {
	[[ $1 =~ ^[0-9]{1,9}$ ]] || die "SEED=$1 is not a number of at most nine digits"
}

# is_consumer NAME: checks the name of the consumer under test
is_consumer() {
	[[ $1 =~ ^(in-kernel|tuntap_ring)$ ]] || die "CONSUMER=$1 is neither in-kernel nor tuntap_ring"
}

# host_mirror: prints the Debian mirror of this host
host_mirror() {
	if [ -n "${DEBIAN_MIRROR:-}" ]; then
		echo "$DEBIAN_MIRROR"
	elif [ "$(. /etc/os-release && echo "$ID")" = debian ]; then
		# From its sources, as it may not have fetched an index yet.
		apt-get update --print-uris |
			sed -n "s|^'\\(.*[^/]\\)/*/dists/\\([^/']*\\)/InRelease'.*|\\1 \\2|p" |
			awk '$2 !~ /security/ { print $1; exit }'
	fi
}

# alone: takes the lock of this checkout, for runs that write to all of build/
alone() {
	mkdir -p "$BUILD"
	# A run that holds the lock passes the descriptor on to its children.
	[ /proc/self/fd/8 -ef "$BUILD/.lock" ] || exec 8>"$BUILD/.lock"
	flock --nonblock 8 ||
		die "this checkout is locked by another run; wait for it, or use a second clone"
}

# Lines of a kernel log that are failures even if all tests pass.
REPORTS='WARNING:|BUG:|Oops|RIP:|Call Trace|INFO: .*(blocked|detected (expedited )?stall|possible)|UBSAN|KASAN|KCSAN|lockdep|refcount_t|suspected memory leak|leak detector disabled|tick-stop error|general protection|NETDEV WATCHDOG|soft lockup|stack-protector|Kernel panic|waiting for .* to become free|ref_tracker: |ODEBUG'

# log_reports LOG: prints the reports in a kernel log. Reports before all CPUs are up are left out, as no module is
# loaded then. A data race is left out if both functions are in no module, and in no call of tuntap_ring.
log_reports() {
	awk '
		/smp: Brought up [0-9]+ node/ { count = 0; next }
		{ lines[count++] = $0 }
		END { for (i = 0; i < count; i++) print lines[i] }
	' "$1" | awk -v reports="$REPORTS" '
		# A report that is cut off may be about any function.
		function end(is_whole) { if (in_race && !is_whole) print title; in_race = 0 }
		/BUG: KCSAN: data-race in [^][]*$/ { end(0); in_race = 1; title = $0; next }
		/==========/ { end(1) }
		in_race && /\[tuntap_ring(_test|_kunit)?\]/ { end(0) }
		# Another report from another CPU, inside a race report.
		!in_race || $0 ~ reports
		END { end(0) }
	' | grep -E "$REPORTS"
}

# last_words NAME: prints the end of the console if the script did not end, and first the panic, which may be
# further up
last_words() {
	local console=$RESULTS/$1.console
	[ ! -e "$RESULTS/$1.status" ] && [ -e "$console" ] || return 0
	grep -m 3 -E 'Kernel panic|BUG:|Oops' "$console" >&2 || true
	tail -n 40 "$console" >&2
}

# verdict NAME: returns the status of the script in its guest; 1 if it did not end, or if the kernel log or the
# console has a report. The console has messages after the log was saved, and may end inside a race report.
verdict() {
	local name=$1 log=$RESULTS/$1.dmesg status reports
	if ! status=$(cat "$RESULTS/$name.status" 2>/dev/null) || [ ! -s "$log" ]; then
		echo "${0##*/}: '$name': guest ended without a status (panic, hang or no boot); see build/results/$name.console" >&2
		return 1
	fi
	reports=$({
		log_reports "$log"
		{ tr -d '\r' <"$RESULTS/$name.console" && echo ==========; } | log_reports -
	} | awk '!said[$0]++') || true
	if [ -n "$reports" ]; then
		printf '%s: the kernel log (%s) has reports:\n%s\n' "${0##*/}" "$log" "$reports" >&2
		return 1
	fi
	return "$status"
}
