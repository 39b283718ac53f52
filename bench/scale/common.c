// SPDX-License-Identifier: GPL-2.0
/* The common parts of the benchmarks. */

#include "../common/bench.c"
