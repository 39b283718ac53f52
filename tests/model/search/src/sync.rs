// SPDX-License-Identifier: GPL-2.0

//! The barriers that `consume.rs` imports from `crate::sync`.
//!
//! This search is sequentially consistent: all actors see all stores at once and in program order, so
//! a barrier has no effect. Litmus tests (`tests/lkmm`) and loom (`../weak`) check the barriers.

pub(crate) fn smp_mb() {}

/// Used by a mutant of `tests/mutants` only.
#[allow(dead_code, reason = "used in one mutant")]
pub(crate) fn smp_wmb() {}
