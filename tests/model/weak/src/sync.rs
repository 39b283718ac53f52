// SPDX-License-Identifier: GPL-2.0

//! What `consume.rs` imports as `crate::sync`, in terms of C11, which loom checks.

use loom::sync::atomic::{Ordering, fence};

/// The kernel's full barrier is at least as strong: it also restores what C11 leaves open among
/// relaxed accesses.
pub(crate) fn smp_mb() {
    fence(Ordering::SeqCst);
}

/// Used by a mistake of `tests/mutants` only. Orders earlier loads, too, which the kernel's does not.
#[allow(dead_code, reason = "used in one mutant")]
pub(crate) fn smp_wmb() {
    fence(Ordering::Release);
}
