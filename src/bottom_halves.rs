// SPDX-License-Identifier: GPL-2.0

//! Bottom halves, off for as long as a guard lives.
//!
//! C header: [`include/linux/bottom_half.h`](srctree/include/linux/bottom_half.h)

use crate::bindings;
use kernel::types::NotThreadSafe;

/// Evidence that bottom halves are off on this CPU.
///
/// Dropping it turns them on again, if it is the last, and then runs those that are pending: no
/// lock should be held by then.
#[must_use = "bottom halves come on again when the guard is dropped"]
pub(crate) struct Off(NotThreadSafe);

/// Turns bottom halves off. Not to be called with interrupts off.
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
