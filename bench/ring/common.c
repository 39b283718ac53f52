// SPDX-License-Identifier: GPL-2.0
/* What the benches share. */

#include "../common/bench.c"
