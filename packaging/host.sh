# shellcheck shell=sh
# SPDX-License-Identifier: GPL-2.0
#
# What is asked of a host whose modules change. Sourced by packaging/install; packaging/deb puts it into the
# scripts of packages.

# loaded: which vhost_net is: ours, the kernel's own, or none
loaded() {
	if [ -e /sys/module/tuntap_ring/holders/vhost_net ]; then
		echo ours
	elif [ -e /sys/module/vhost_net ]; then
		echo own
	fi
}

# reload: what to do about the one that is loaded; not by modprobe -r, which only knows of modules that are
# still installed
reload() {
	echo "end the virtual machines that use it," \
		"then 'rmmod vhost_net$([ "$(loaded)" != ours ] || echo ' tuntap_ring') && modprobe vhost_net'; or reboot"
}

# The fifth byte of the firmware's variable.
secure_boot() {
	[ "$(od -An -tu1 -j4 -N1 /sys/firmware/efi/efivars/SecureBoot-* 2>/dev/null | tr -d ' ')" = 1 ]
}

# takes_signed_only: whether the running kernel does
takes_signed_only() {
	secure_boot || grep -qs Y /sys/module/module/parameters/sig_enforce ||
		grep -qsE '\[(integrity|confidentiality)\]' /sys/kernel/security/lockdown
}

# in_initramfs IMAGE: whether it has a copy of its own, from when it was made
in_initramfs() {
	[ -f "$1" ] && command -v lsinitramfs >/dev/null && lsinitramfs "$1" | grep '/vhost_net\.ko' >/dev/null
}
