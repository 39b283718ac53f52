// SPDX-License-Identifier: GPL-2.0
/* Defines the trace points, and for each the function that Rust calls when it is on. */

#define CREATE_TRACE_POINTS
#define CREATE_RUST_TRACE_POINTS
#include "trace.h"
