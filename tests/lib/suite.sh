# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# Sourced first by each `run`, without arguments. prepare() builds what the header declares, also when the suite is run
# by hand. A suite calls prepare() after checking its own arguments. The lines of the header are:
#
#    # Needs: NAME...                     names from the list below
#    # Needs with OPTION: NAME...         the same, for a suite that is run with that option
#    # In make test: N s[, ARG...]        budget and arguments in `make test`, which skips the suite without this line
#    # In make test-all: N s[, ARG...]    the same for `make test-all`
#    # By name: N s                       the time of the whole suite
#
# A budget is the time that the suite takes in `make test` or `make test-all`, with another suite beside it on two CPUs.
# The names of needs are:
#
#    root      the build root
#    source    the kernel's source, in the root
#    herd      herd7
#    docs      Sphinx
#    kernel    the target kernel's tree, to build modules against
#    modules   the modules for the target kernel, in build/modules
#    tools     tuntap-ring and tuntap-client
#    uml       user-mode Linux
#    debug, kcsan, rt    that kernel of scripts/custom
#
# PREPARED= lists needs that scripts/test has prepared already.

set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"
# shellcheck source=tests/lib/needs.sh
. "$TOP/tests/lib/needs.sh"

# The suite may change its folder before it calls prepare().
SUITE_RUN=$(realpath "$0")

prepare() { prepare_with ''; }

# prepare_with OPTION: for a run with that option
prepare_with() {
	alone
	need "$(needs_of "$SUITE_RUN" "$1")"
}
