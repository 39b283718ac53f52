# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# Toolsets: trees of a few Debian packages, for programs that the build root lacks. The packages are unpacked,
# not installed, and their programs run with the tree's own loader, without chroot and mounts. To be
# sourced, after lib.sh, once the build root exists, whose creation installs mmdebstrap.

TREE_NEED_GIB=1

# tree_key SUITE PACKAGES: prints a hash of everything that a toolset depends on. The date is not part of it: a
# toolset that works is kept.
tree_key() {
	{
		echo "$* ${DEBIAN_MIRROR:-}"
		declare -f unpack
	} | sha256sum | cut -c1-12
}

# unpack TREE SUITE PACKAGES COMMAND...: unpacks packages into TREE, and runs a command there as a test. For the
# acquire options and the lock files see bootstrap() in scripts/debian.sh
unpack() {
	local tree=$1 suite=$2 packages=$3
	shift 3
	apt-config dump Acquire | grep -v -e '^Acquire::IndexTargets' -e '^Acquire::Changelogs' \
		-e '^Acquire::CompressionTypes' -e ' "";$' >"$tree.apt.conf" || true
	mmdebstrap --variant=extract --aptopt="$tree.apt.conf" \
		--aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
		--dpkgopt=path-exclude=/usr/share/doc/* --dpkgopt=path-exclude=/usr/share/man/* \
		--include="$packages" "$suite" "$tree" "deb $MIRROR $suite main" \
		8>&- 9>&- ||
		return
	rm -f "$tree.apt.conf"
	in_tree "$tree" "$@"
}

# in_tree TREE PROGRAM ARG...: runs a program of the tree, with the tree's own loader and libraries
in_tree() {
	local tree=$1 program=$2 lib
	shift 2
	lib=$tree/usr/lib/x86_64-linux-gnu
	"$lib/ld-linux-x86-64.so.2" --library-path "$lib" "$tree/usr/bin/$program" "$@"
}

# make_tree NAME TEXT SUITE PACKAGES COMMAND...
make_tree() {
	local name=$1 text=$2 free
	shift 2
	# Another run may have created it during the wait for the lock.
	[ ! -d "$TREE" ] || return 0
	free=$(($(df --output=avail -k "$CACHE" | tail -n 1) / 1024 / 1024))
	[ "$free" -ge "$TREE_NEED_GIB" ] ||
		die "$CACHE has $free GiB of free disk, $TREE_NEED_GIB are needed; set CACHE= to another place"
	MIRROR=$(host_mirror)
	[ -n "$MIRROR" ] ||
		die "no Debian mirror is configured on this host; set DEBIAN_MIRROR=http://..."
	# Of interrupted runs.
	rm -rf "$CACHE/$name"-*.partial*
	step "$text, from Debian $1" unpack "$TREE.partial" "$@"
	# Complete from here on.
	mv -T "$TREE.partial" "$TREE"
}

# tree NAME TEXT SUITE PACKAGES COMMAND...: creates the toolset NAME unless it exists, and sets TREE to its path
tree() {
	TREE=$CACHE/$1-$(tree_key "$3" "$4")
	[ -d "$TREE" ] || locked "$1" make_tree "$@"
}
