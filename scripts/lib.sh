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

# A file that is sourced without arguments has those of the sourcing script.
if [ "${1:-}" = --help ]; then
	header
	exit 0
fi

# Checked before anything is done.
[[ $CACHE = /* ]] || die "CACHE=$CACHE is not an absolute path"
# With KDIR=, they belong to the user's own kernel tree.
# The architecture of this host needs no ARCH=. The kernel's makefiles read these from the environment, too.
[ -n "${KDIR:-}" ] || case ${ARCH:-}:$(uname -m) in
:aarch64 | arm64:aarch64)
	unset ARCH
	export CROSS_COMPILE_COMPAT=arm-linux-gnueabihf-
	;;
:* | x86:x86_64 | x86_64:x86_64) unset ARCH ;;
arm64:x86_64) export ARCH CROSS_COMPILE=aarch64-linux-gnu- CROSS_COMPILE_COMPAT=arm-linux-gnueabihf- ;;
*) die "ARCH=$ARCH is not valid on this host; use x86_64 or arm64 on x86_64, and arm64 on arm64" ;;
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

# in_root COMMAND...: runs it in the build root, in /src, which is the checkout, with the kernel that ARCH= selects
in_root() {
	local root
	root=$(MACHINE='' "$TOP/scripts/root" path) || return
	[ "${ARCH:-}" != arm64 ] || MACHINE='' "$TOP/scripts/root" kver arm64 >/dev/null || return
	enter "$root" "$@"
}

# enter ROOT COMMAND...: runs it in new namespaces, so that nothing stays mounted or running. The first
# process of a PID namespace ignores SIGINT and SIGTERM, so this shell handles them and kills it.
enter() {
	local root=$1 pid status=0
	shift
	{
		export -f inside
		# shellcheck disable=SC2016 # expanded there
		exec setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child --propagation private \
			bash -c 'inside "$@"' bash "$root" "$TOP" "$@"
	} <&0 &
	pid=$!
	trap 'kill -KILL "$pid"; exit 129' HUP
	trap 'kill -KILL "$pid"; exit 130' INT
	trap 'kill -KILL "$pid"; exit 143' TERM
	wait "$pid" || status=$?
	trap - HUP INT TERM
	return "$status"
}

# inside ROOT CHECKOUT COMMAND...: mounts /proc, /dev, the checkout as /src, and more in ROOT, and runs a command there,
# in the namespaces of enter(). With MACHINE=BASE:STATE, it mounts that test image at /mnt or, if BASE is ROOT, as the
# root.
inside() {
	set -euo pipefail
	unset -f inside
	local root=$1 checkout=$2 base state at
	shift 2
	mount --bind "$root" "$root"
	if [ -n "${MACHINE:-}" ]; then
		base=${MACHINE%%:*} state=${MACHINE#*:} at=$root/mnt
		[ "$base" != "$root" ] || at=$state/root root=$state/root
		mount -t overlay -o "lowerdir=$base,upperdir=$state/upper,workdir=$state/work" overlay "$at"
		unset MACHINE
	fi
	mkdir -p "$root/src"
	mount -t proc proc "$root/proc"
	mount --rbind /dev "$root/dev"
	mount --rbind /sys "$root/sys"
	mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
	mount -t tmpfs tmpfs "$root/run"
	mount --bind "$checkout" "$root/src"
	# The host's resolver, for cargo and apt.
	if [ -e /etc/resolv.conf ]; then
		cat /etc/resolv.conf >"$root/run/resolv.conf"
		[ -e "$root/etc/resolv.conf" ] || : >"$root/etc/resolv.conf"
		mount --bind "$root/run/resolv.conf" "$root/etc/resolv.conf"
	fi
	# The host may name its mirrors in its hosts file.
	mount --bind /etc/hosts "$root/etc/hosts"
	exec chroot "$root" /usr/bin/env -C /src HOME=/root \
		PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
}
