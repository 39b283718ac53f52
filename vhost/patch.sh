#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Applies the semantic patch to a kernel's net.c, and says which spot did not match.
#
# usage: patch.sh NET.C VHOST_NET.COCCI OUTPUT

set -eu

source=$1 patch=$2 output=$3
log=$output.log

[ -f "$source" ] || {
	echo "patch.sh: no $source: rebuilding vhost_net takes the kernel's full source, its headers are not enough" >&2
	exit 1
}
spatch --very-quiet -D patch --sp-file "$patch" "$source" -o "$output" >"$log" 2>&1 || {
	cat "$log" >&2
	exit 1
}
if grep -q '^MISSING ' "$log"; then
	sed -n "s|^MISSING |patch.sh: $source does not match at: |p" "$log" >&2
	rm -f "$output"
	exit 1
fi
