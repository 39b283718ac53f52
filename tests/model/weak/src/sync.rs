// SPDX-License-Identifier: GPL-2.0

//! What `consume.rs` imports as `crate::sync`, in terms of C11, which loom checks.

use loom::sync::atomic::{Ordering, fence};

/// The kernel's full barrier is at least as strong: it also restores what C11 leaves open among
/// relaxed accesses.
pub(crate) fn smp_mb() {
    fence(Ordering::SeqCst);
}

/// Orders earlier loads, too, which the kernel's does not. There the litmus tests decide.
pub(crate) fn smp_wmb() {
    fence(Ordering::Release);
}
