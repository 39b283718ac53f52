# shellcheck shell=sh
# SPDX-License-Identifier: GPL-2.0
#
# What is asked of a host. Sourced by packaging/install; packaging/deb puts it into the scripts of packages.

# The fifth byte of the firmware's variable.
secure_boot() {
	[ "$(od -An -tu1 -j4 -N1 /sys/firmware/efi/efivars/SecureBoot-* 2>/dev/null | tr -d ' ')" = 1 ]
}

# takes_signed_only: whether the running kernel does
takes_signed_only() {
	secure_boot || grep -qs Y /sys/module/module/parameters/sig_enforce ||
		grep -qsE '\[(integrity|confidentiality)\]' /sys/kernel/security/lockdown
}
