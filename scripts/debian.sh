# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# Creates Debian 13 systems in folders. To be sourced, after lib.sh.

SUITE=trixie

# can_download URL: checks it with the host's own proxies and options
can_download() {
	local scratch status=0
	scratch=$(mktemp -d)
	if [ -x /usr/lib/apt/apt-helper ]; then
		/usr/lib/apt/apt-helper -o Acquire::Retries=1 -o APT::Sandbox::User=root \
			download-file "$1" "$scratch/file" >/dev/null 2>&1 || status=$?
	else
		curl --fail --silent --location --output "$scratch/file" "$1" || status=$?
	fi
	rm -rf "$scratch"
	return "$status"
}

install_mmdebstrap() {
	apt-get update
	DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends mmdebstrap
}

# Passes on the host's acquire options (proxies, validity) and its certificates. Closes the lock files:
# the hooks of mmdebstrap pass descriptors to a shell that accepts only one digit.
bootstrap() {
	local root=$1 pocket sources=()
	apt-config dump Acquire | grep -v -e '^Acquire::IndexTargets' -e '^Acquire::Changelogs' \
		-e '^Acquire::CompressionTypes' -e ' "";$' >"$root.apt.conf" || true
	for pocket in "" -updates -backports; do
		sources+=("deb $MIRROR $SUITE$pocket main")
	done
	mmdebstrap --variant=apt --aptopt="$root.apt.conf" \
		--aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
		--dpkgopt=force-unsafe-io --dpkgopt=path-exclude=/usr/share/doc/* \
		--dpkgopt=path-exclude=/usr/share/man/* --dpkgopt=path-exclude=/usr/share/locale/* \
		--skip=cleanup/apt --include=ca-certificates "$SUITE" "$root" "${sources[@]}" \
		8>&- 9>&- ||
		return
	rm -f "$root.apt.conf"
	# From backports comes the kernel and nothing else: its newer compilers are not the kernel's.
	cat >"$root/etc/apt/preferences.d/kernel" <<-PIN
		Package: src:linux
		Pin: release n=$SUITE-backports
		Pin-Priority: 900
	PIN
	certificates "$root"
	cat >"$root/etc/hosts" <<-HOSTS
		127.0.0.1 localhost tuntap-ring
		::1 localhost
	HOSTS
}

# The host may reach its registries through its own certificate authority.
certificates() {
	local root=$1 bundle=/etc/ssl/certs/ca-certificates.crt
	if [ -f "$bundle" ]; then
		mkdir -p "$root/usr/local/share/ca-certificates"
		find /usr/local/share/ca-certificates -name '*.crt' -exec \
			cp -t "$root/usr/local/share/ca-certificates" {} + 2>/dev/null || true
		cat "$bundle" >"$root$bundle"
	fi
}

# Test images: systems to install packages on. Each is created once from a list of packages and kept in the
# cache. Changes go to build/machines/NAME, and machine_new discards them.

MACHINE_NEED_GIB=3

# machine_key PACKAGES LATER: prints the hash in the name of a test image
machine_key() {
	{
		echo "$* $(debian_key)"
		declare -f machine_packages
	} | sha256sum | cut -c1-12
}

# debian_key: prints the hash in the name of the Debian that all test images start from
debian_key() {
	{
		echo "${DEBIAN_MIRROR:-}"
		declare -f bootstrap certificates
	} | sha256sum | cut -c1-12
}

# machine_packages ROOT PACKAGES LATER: installs PACKAGES, and downloads LATER to be installed without a
# network
machine_packages() {
	local root=$1 apt=(env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends
		-o Dpkg::Use-Pty=0 -o APT::Sandbox::User=root -o APT::Keep-Downloaded-Packages=true)
	# Without the drivers of what no virtual machine has depmod takes a tenth of the time, and so does an
	# initramfs without any, which guests boot without.
	printf "path-exclude=/usr/lib/modules/*/kernel/%s/*\n" sound fs/{btrfs,ceph,f2fs,gfs2,nfs*,ocfs2,smb,ubifs,xfs} \
		drivers/{accel,ata,bluetooth,comedi,gpu,hid,hwmon,iio,infiniband,input,md,media,mmc,mtd} \
		drivers/{net/ethernet,net/wireless,platform,scsi,staging,target,usb,video} \
		net/{bluetooth,ceph,mac80211,rxrpc,sctp,sunrpc,tipc,wireless} >"$root/etc/dpkg/dpkg.cfg.d/hardware"
	mkdir -p "$root/etc/initramfs-tools/conf.d"
	echo MODULES=list >"$root/etc/initramfs-tools/conf.d/small"
	# What it began as may be of another day.
	enter "$root" apt-get update -o APT::Sandbox::User=root || return
	# shellcheck disable=SC2086 # lists
	{
		enter "$root" "${apt[@]}" $2 && rm -f "$root"/var/cache/apt/archives/*.deb || return
		[ -z "$3" ] || enter "$root" "${apt[@]}" --download-only $3
	}
}

# make_machine NAME PACKAGES LATER: creates a test image
make_machine() {
	local name=$1 free
	# Another run may have created it during the wait for the lock.
	[ ! -d "$BASE" ] || return 0
	free=$(($(df --output=avail -k "$CACHE" | tail -n 1) / 1024 / 1024))
	[ "$free" -ge "$MACHINE_NEED_GIB" ] ||
		die "$CACHE has $free GiB of free disk, $MACHINE_NEED_GIB are needed; set CACHE= to another place"
	rm -rf "$CACHE/machine-$name"-*.partial*
	cp -a "$CACHE/debian-$(debian_key)" "$BASE.partial"
	step "packages of the test image '$name'" machine_packages "$BASE.partial" "$2" "$3"
	mv -T "$BASE.partial" "$BASE"
}

make_debian() {
	local debian
	debian=$CACHE/debian-$(debian_key)
	[ ! -d "$debian" ] || return 0
	MIRROR=$(host_mirror)
	[ -n "$MIRROR" ] ||
		die "no Debian mirror is configured on this host; set DEBIAN_MIRROR=http://..."
	rm -rf "$CACHE"/debian-*.partial*
	step "a minimal Debian 13 for test images" bootstrap "$debian.partial"
	mv -T "$debian.partial" "$debian"
}

# machine NAME PACKAGES [LATER]: creates a test image unless it exists, and sets BASE and STATE to its folders
machine() {
	BASE=$CACHE/machine-$1-$(machine_key "$2" "${3:-}")
	STATE=$BUILD/machines/$1
	[ ! -d "$BASE" ] || return 0
	locked debian make_debian
	locked "machine-$1" make_machine "$1" "$2" "${3:-}"
}

# machine_new: discards all changes since the installation of its packages
machine_new() {
	rm -rf "$STATE"
	mkdir -p "$STATE"/{upper,work,root}
}

# machine_run COMMAND...: runs it in the test image, natively
machine_run() { MACHINE="$BASE:$STATE" enter "$BASE" "$@"; }
