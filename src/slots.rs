// SPDX-License-Identifier: GPL-2.0

//! Arrays of slots, to resize a ring.
//!
//! C header: [`include/linux/ptr_ring.h`](srctree/include/linux/ptr_ring.h)

use crate::{
    bindings,
    ptr_ring::LockedProducer, //
};
use core::{
    ffi::c_void,
    mem::ManuallyDrop,
    ptr::NonNull, //
};

/// An array of slots that belongs to no ring.
///
/// # Invariants
///
/// `slots` is an array of `count` slots that the kernel has allocated for a ring.
pub(crate) struct Slots {
    slots: NonNull<*mut c_void>,
    count: i32,
}

impl Slots {
    /// Allocates an array of empty slots, at least one.
    ///
    /// Context: may sleep.
    pub(crate) fn new(count: usize) -> Option<Self> {
        let count = i32::try_from(count).ok().filter(|&count| count > 0)?;
        // SAFETY: Process context, by the contract above.
        let slots = NonNull::new(unsafe { bindings::tuntap_ring_helper_new_slots(count) })?;
        // INVARIANT: Just allocated. An array of at least one slot is not `ZERO_SIZE_PTR`.
        Some(Self { slots, count })
    }

    /// Returns the number of slots.
    pub(crate) fn count(&self) -> usize {
        // Never negative.
        self.count as u32 as usize
    }

    /// Exchanges the array of a ring for this one, as `ptr_ring_resize()` does, and returns the ring's old array.
    /// Leaks entries for which this array has no slot.
    pub(crate) fn exchange(self, producer: &LockedProducer<'_>) -> Self {
        // A size is an `int`.
        let count = producer.size() as i32;
        let new = ManuallyDrop::new(self);
        // SAFETY: The ring is valid by the type invariants of `LockedProducer`, both locks are held, and the array was
        // allocated for a ring.
        let old = unsafe {
            bindings::tuntap_ring_helper_swap_slots(
                producer.as_raw(),
                new.slots.as_ptr(),
                new.count,
            )
        };
        // SAFETY: A ring always has an array, which may be `ZERO_SIZE_PTR`.
        let slots = unsafe { NonNull::new_unchecked(old) };
        // INVARIANT: The array belonged to the ring until now.
        Self { slots, count }
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        // SAFETY: Allocated by the kernel, by the type invariants.
        unsafe { bindings::tuntap_ring_helper_free_slots(self.slots.as_ptr()) };
    }
}
