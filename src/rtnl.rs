// SPDX-License-Identifier: GPL-2.0

//! RTNL, the lock of all network configuration, and data that it protects.
//!
//! C header: [`include/linux/rtnetlink.h`](srctree/include/linux/rtnetlink.h)

use crate::bindings;
use core::cell::UnsafeCell;
use kernel::types::NotThreadSafe;

/// Evidence that this thread holds RTNL.
///
/// # Invariants
///
/// RTNL is held by this thread for as long as the value lives, and there is no other value meanwhile.
pub(crate) struct Rtnl {
    release: bool,
    _thread: NotThreadSafe,
}

impl Rtnl {
    /// Takes the lock.
    ///
    /// Context: may sleep.
    pub(crate) fn lock() -> Self {
        // SAFETY: Process context, and not called with RTNL held: no function that takes an [`Rtnl`] calls this.
        unsafe { bindings::rtnl_lock() };
        // INVARIANT: Just taken, and no other thread holds it.
        Self {
            release: true,
            _thread: NotThreadSafe,
        }
    }

    /// Returns evidence for code that is called with the lock held.
    ///
    /// # Safety
    ///
    /// The caller holds RTNL for as long as the value lives, and there is no other value meanwhile.
    pub(crate) unsafe fn held() -> Self {
        // INVARIANT: By the safety contract.
        Self {
            release: false,
            _thread: NotThreadSafe,
        }
    }
}

impl Drop for Rtnl {
    fn drop(&mut self) {
        if self.release {
            // SAFETY: Taken in `lock()`.
            unsafe { bindings::rtnl_unlock() };
        }
    }
}

/// Data that only the holder of RTNL may use.
pub(crate) struct UnderRtnl<T>(UnsafeCell<T>);

// SAFETY: Only the holder of RTNL gets a reference, see `get()`.
unsafe impl<T: Send> Sync for UnderRtnl<T> {}

impl<T> UnderRtnl<T> {
    pub(crate) const fn new(data: T) -> Self {
        Self(UnsafeCell::new(data))
    }

    /// Returns the data, and the lock for further use. Both stay borrowed together, so there is one reference at most.
    pub(crate) fn get<'a>(&'a self, rtnl: &'a mut Rtnl) -> (&'a mut T, &'a Rtnl) {
        // SAFETY: There is no other `Rtnl`, and this one cannot be borrowed again while the reference lives.
        (unsafe { &mut *self.0.get() }, rtnl)
    }
}
