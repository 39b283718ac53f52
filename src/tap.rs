// SPDX-License-Identifier: GPL-2.0

//! Finds the ring of a `struct file` of macvtap or ipvtap.
//!
//! A receive handler fills that ring, and the transmit queues of the device carry the opposite direction: no
//! driver of Linux 7.3 stops them. So a call takes its batch and checks no device.
//!
//! C header: [`include/linux/if_tap.h`](srctree/include/linux/if_tap.h)

use crate::{
    bindings,
    consume::{
        self,
        Outcome,
        Ring,
        Wake, //
    },
    file::{
        self,
        File, //
    },
    layout::{
        Layout, //
        LayoutCheck,
    },
    ptr_ring::{
        Locked,
        PtrRing, //
    },
    trace, //
};
use core::{
    ffi::c_void,
    marker::PhantomData,
    mem::{
        offset_of,
        size_of,
        MaybeUninit, //
    },
    ptr::{
        addr_of_mut,
        NonNull, //
    },
};

/// An open file of a macvtap or ipvtap device.
///
/// # Invariants
///
/// `file` is open for `'a`, and `q` is its `struct tap_queue`. The layout check of tap has not found a
/// mismatch.
#[derive(Clone, Copy)]
pub(crate) struct TapFile<'a> {
    q: NonNull<bindings::tap_queue>,
    file: NonNull<bindings::file>,
    _file: PhantomData<&'a bindings::file>,
}

impl<'a> File<'a> for TapFile<'a> {
    type Private = bindings::tap_queue;

    const RING: usize = offset_of!(bindings::tap_queue, ring);
    const GETTER: unsafe extern "C" fn(*mut bindings::file) -> *mut bindings::ptr_ring =
        bindings::tap_get_ptr_ring;
    fn layout_check() -> &'static LayoutCheck {
        static LAYOUT_CHECK: LayoutCheck = LayoutCheck::new("tap");
        &LAYOUT_CHECK
    }

    #[inline(always)]
    unsafe fn new(file: NonNull<bindings::file>, q: NonNull<bindings::tap_queue>) -> Self {
        // INVARIANT: By the safety contract.
        Self {
            q,
            file,
            _file: PhantomData,
        }
    }

    #[cold]
    fn compare_layout(&self, _ring: &Locked<'_>) -> Layout {
        // SAFETY: The file is open by the type invariants, so its socket is there.
        let matches = unsafe {
            file::matches_layout(
                self.file.as_ptr(),
                self.q.cast(),
                bindings::tap_get_socket(self.file.as_ptr()),
                offset_of!(bindings::tap_queue, sock),
                size_of::<bindings::tap_queue>(),
            )
        };
        if matches {
            Layout::Match
        } else {
            Layout::Mismatch
        }
    }

    /// Takes a batch as [`consume::consume_batched`] does, but wakes no queue.
    #[inline(always)]
    fn consume_batched(self, out: &mut [MaybeUninit<*mut c_void>]) -> Outcome {
        // SAFETY: The ring lies in the private data, which stays as long as the file is open.
        let ring = unsafe {
            let ring = addr_of_mut!((*self.q.as_ptr()).ring);
            PtrRing::from_raw(NonNull::new_unchecked(ring.cast()))
        };
        let ring = ring.lock();
        // This call checks no queue, so the number of checkpoints does not matter.
        let taken = consume::take(&ring, 1, out);
        ring.release(taken.entries);
        Outcome {
            taken: taken.entries,
            freed: taken.freed,
            wake: Wake::NotNeeded,
        }
    }

    #[inline(always)]
    fn trace(self, requested: usize, outcome: &Outcome) {
        trace::consume_batched_without_device(requested, outcome);
    }
}
