# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# Sourced first by each `run`, without arguments. A suite calls prepare() after checking its arguments. prepare() builds
# the needs that the header declares, also when the suite is run by hand. The lines of the header are:
#
#    # Needs: NAME...                     names from the list below
#    # Needs with OPTION: NAME...         the same, for a run with that option
#    # In make test: N s[, ARG...]        budget and arguments in `make test`, which skips the suite without this line
#    # In make test-all: N s[, ARG...]    the same for `make test-all`
#    # By name: N s                       duration of the whole suite
#
# A budget is the duration of the suite in `make test` or `make test-all`, with another suite running in parallel on two
# CPUs. The needs are:
#
#    root      the build root
#    source    the kernel's source, in the build root
#    herd      herd7
#    docs      Sphinx
#    kernel    the target kernel's tree, for building modules
#    modules   the modules for the target kernel, in build/modules
#    arm64     the modules for Debian's arm64 kernel, in build/modules-arm64
#    tools     tuntap-ring and tuntap-client
#    uml       user-mode Linux
#    debug, kcsan, rt    the kernel of that name, see scripts/kernel
#
# PREPARED= lists the needs that scripts/test has already prepared.

set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"
# shellcheck source=tests/lib/needs.sh
. "$TOP/tests/lib/needs.sh"

# An absolute path, as the suite may change its directory before it calls prepare().
SUITE_RUN=$(realpath "$0")

prepare() { prepare_with ''; }

# prepare_with OPTION: prepares the needs of a run with that option
prepare_with() {
	alone
	need "$(needs_of "$SUITE_RUN" "$1")"
}
