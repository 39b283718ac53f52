# shellcheck shell=sh
# SPDX-License-Identifier: GPL-2.0
#
# Checks of the host. Sourced by packaging/install; packaging/deb copies it into the packages' scripts.

# The fifth byte of the firmware's variable.
secure_boot() {
	[ "$(od -An -tu1 -j4 -N1 /sys/firmware/efi/efivars/SecureBoot-* 2>/dev/null | tr -d ' ')" = 1 ]
}

# requires_signatures: checks whether the running kernel loads only signed modules
requires_signatures() {
	secure_boot || grep -qs Y /sys/module/module/parameters/sig_enforce ||
		grep -qsE '\[(integrity|confidentiality)\]' /sys/kernel/security/lockdown
}
