// SPDX-License-Identifier: GPL-2.0

//! The barriers that `consume.rs` imports from `crate::sync`, as fences of C11, which loom checks.

use loom::sync::atomic::{Ordering, fence};

/// The kernel's full barrier is at least as strong: it also orders relaxed accesses that C11 does not
/// order.
pub(crate) fn smp_mb() {
    fence(Ordering::SeqCst);
}

/// Used by a mutant of `tests/mutants` only. It orders earlier loads, too, which the kernel's does not.
#[allow(dead_code, reason = "used in one mutant")]
pub(crate) fn smp_wmb() {
    fence(Ordering::Release);
}
