// SPDX-License-Identifier: GPL-2.0

//! A guard that keeps bottom halves off.
//!
//! C header: [`include/linux/bottom_half.h`](srctree/include/linux/bottom_half.h)

use crate::bindings;
use kernel::types::NotThreadSafe;

/// Evidence that bottom halves are off on this CPU.
///
/// Dropping the last guard turns them on again and runs pending softirqs, so no lock should be held
/// then.
#[must_use = "bottom halves come on again when the guard is dropped"]
pub(crate) struct Off(NotThreadSafe);

/// Turns bottom halves off. Must not be called with interrupts off.
pub(crate) fn off() -> Off {
    // SAFETY: May be called in process and softirq context.
    unsafe { bindings::tuntap_ring_helper_local_bh_disable() };
    Off(NotThreadSafe)
}

impl Drop for Off {
    fn drop(&mut self) {
        // SAFETY: Pairs with the call in `off()`; the guard can't have moved to another thread.
        unsafe { bindings::tuntap_ring_helper_local_bh_enable() };
    }
}
