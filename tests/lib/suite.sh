# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# The beginning of each suite's `run`. To be sourced, first of all, without arguments. Once the suite has checked its
# own arguments it calls `prepare`, which makes what the header of that file declares, so that a suite that is run by
# hand has what it has in `make test`:
#
#    # Needs: NAME...                     of those below
#    # Needs with OPTION: NAME...         the same, if the suite is run with that option
#    # In make test: N s[, ARG...]        what `make test` runs, and how long that may take; without this line it
#    #                                    leaves the suite out
#    # In make test-all: N s[, ARG...]    the same
#    # By name: N s                       how long all of it takes
#
#    root      the build root
#    source    the kernel's source, in the root
#    herd      herd7
#    docs      Sphinx
#    kernel    the target kernel's tree, to build modules against
#    modules   the modules for the target kernel, in build/modules
#    tools     tuntap-client and tuntap-run
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

# prepare [OPTION]: of the suite, if its needs are others with that
prepare() {
	alone
	need "$(needs_of "$SUITE_RUN" "$@")"
}
