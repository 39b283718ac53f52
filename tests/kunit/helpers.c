// SPDX-License-Identifier: GPL-2.0
/* The module's own helpers, which it does not export. */

#include "../../src/bindings/helpers.c"
