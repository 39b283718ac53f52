// SPDX-License-Identifier: GPL-2.0

//! What `consume.rs` imports as `crate::sync`.
//!
//! This search is sequentially consistent: all see all stores at once, and in program order, so
//! that a barrier has nothing to add. What becomes of the protocol when they do not is for the
//! litmus tests (`tests/lkmm`) and for loom (`../weak`).

pub(crate) fn smp_mb() {}

/// Used by a mistake of `tests/mutants` only.
#[allow(dead_code, reason = "used in one mutant")]
pub(crate) fn smp_wmb() {}
