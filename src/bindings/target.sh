#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Prints a property of a driver of the target kernel: its types as C, the layouts of the fields in `fields`, the note
# that contains its build ID, its file, or the reason why a function of it cannot be live-patched, nothing if it can.
# The driver is a module, of the build tree or of an installed kernel, or built in.
#
# usage: target.sh types|layouts|build-id|file OBJTREE KERNELRELEASE MODULE
#        target.sh patchable OBJTREE KERNELRELEASE MODULE FUNCTION
#
# TUNTAP_RING_MODULES names another directory to look for modules in, before all others.

set -eu

what=$1 objtree=$2 release=$3 module=$4
here=$(dirname "$0")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

fail() {
	echo "target.sh: $*" >&2
	exit 1
}

# first_file FILE...: prints the first that exists
first_file() {
	for file; do
		if [ -f "$file" ]; then
			echo "$file"
			return
		fi
	done
}

# find_module: prints the module's file, or nothing if it is built in
find_module() {
	for directory in ${TUNTAP_RING_MODULES:+"$TUNTAP_RING_MODULES"} \
			"$objtree/drivers" "/lib/modules/$release/kernel/drivers"; do
		[ -d "$directory" ] || continue
		found=$(find "$directory" -name "$module.ko" -o -name "$module.ko.*" | sort | head -n 1)
		if [ -n "$found" ]; then
			echo "$found"
			return
		fi
	done
}

# unpack PROGRAM [OPTION...]: unpacks the module's file
unpack() {
	command -v "$1" > /dev/null || fail "no $1 here, by which $file is packed; install it"
	"$@" "$file" > "$scratch/object"
}

vmlinux=$(first_file "$objtree/vmlinux" "/lib/modules/$release/build/vmlinux" \
	"/usr/lib/debug/boot/vmlinux-$release")
file=$(find_module)
case $file in
*.ko)	cp "$file" "$scratch/object" ;;
*.ko.xz) unpack xz -dc ;;
*.ko.zst) unpack zstd -qdc ;;
*.ko.gz) unpack gzip -dc ;;
*)
	grep -q -i "^CONFIG_$module=y" "$objtree/include/config/auto.conf" ||
		fail "no $module.ko for $release: neither in $objtree nor in /lib/modules/$release; install or build that kernel's modules"
	[ -n "$vmlinux" ] || fail "$module is built in, but there is no vmlinux in $objtree"
	file=$vmlinux
	cp "$vmlinux" "$scratch/object"
	;;
esac

# dump FORMAT: prints the types
dump() {
	if ${OBJDUMP:-objdump} -h "$scratch/object" | grep -q ' \.BTF '; then
		if [ "$file" = "$vmlinux" ]; then
			bpftool btf dump file "$scratch/object" format "$1"
			return
		fi
		[ -n "$vmlinux" ] || fail "$file has BTF, but no vmlinux was found that it builds on (install the kernel's headers)"
		# Format c includes the kernel's types.
		if [ "$1" = raw ]; then
			bpftool btf dump file "$vmlinux" format raw
			echo own
		fi
		bpftool -B "$vmlinux" btf dump file "$scratch/object" format "$1"
	else
		${PAHOLE:-pahole} --btf_encode_detached="$scratch/btf" "$scratch/object" || true
		[ -s "$scratch/btf" ] ||
			fail "$file has neither BTF nor debug info; build that kernel with CONFIG_DEBUG_INFO_BTF or CONFIG_DEBUG_INFO"
		bpftool btf dump file "$scratch/btf" format "$1"
	fi
}

case $what in
file)
	echo "$file"
	;;
build-id)
	section=.note.gnu.build-id
	[ "$file" != "$vmlinux" ] || section=.notes
	${OBJCOPY:-objcopy} -O binary --only-section="$section" "$scratch/object" "$scratch/note"
	[ -s "$scratch/note" ] || fail "$file has no build ID: was it linked without --build-id?"
	cat "$scratch/note"
	;;
types)
	dump c
	;;
patchable)
	# A function whose arguments the compiler has changed has a suffix.
	if [ "$file" = "$vmlinux" ]; then
		echo "$module is built in"
	elif ! ${NM:-nm} "$scratch/object" | grep -q " [tT] $5\$"; then
		echo "the compiler has inlined or changed $5() in $file"
	elif ! ${OBJDUMP:-objdump} -dr --disassemble="$5" "$scratch/object" | grep -q __fentry__; then
		echo "$5() in $file has no call of __fentry__()"
	fi
	;;
layouts)
	dump raw > "$scratch/dump"
	awk -v driver="$module" -f "$here/layouts.awk" "$here/fields" "$scratch/dump" 2> "$scratch/missing" ||
		fail "the types of $file lack $(cat "$scratch/missing"), which the module uses; use a kernel that has it"
	;;
*)
	fail "what is '$what'?"
	;;
esac
