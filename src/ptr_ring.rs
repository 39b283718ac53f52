// SPDX-License-Identifier: GPL-2.0

//! Access to a `struct ptr_ring` for the holder of its consumer lock.
//!
//! C header: [`include/linux/ptr_ring.h`](srctree/include/linux/ptr_ring.h)

use crate::{
    access,
    bindings,
    consume, //
};
use core::{
    cell::UnsafeCell,
    ffi::c_void,
    marker::PhantomData,
    mem::ManuallyDrop,
    ptr::{
        self,
        addr_of,
        addr_of_mut,
        NonNull, //
    },
    slice, //
};
use kernel::types::NotThreadSafe;

/// One slot of a ring's array: an entry, or NULL.
#[repr(transparent)]
pub(crate) struct Slot(UnsafeCell<*mut c_void>);

impl consume::Slot for Slot {
    #[inline(always)]
    fn read(&self) -> Option<NonNull<c_void>> {
        // SAFETY: The slot lies in the ring's array, which stays while the consumer lock is held.
        // The producer may write the slot meanwhile, with `WRITE_ONCE()`: a volatile read of a
        // pointer is one load, as `READ_ONCE()` is.
        NonNull::new(unsafe { access::read_once(self.0.get()) })
    }

    #[inline(always)]
    fn free(&self) {
        // SAFETY: As for `read()`. Only the holder of the consumer lock writes an occupied slot.
        unsafe { access::write_once(self.0.get(), ptr::null_mut()) };
    }
}

/// A `struct ptr_ring` that is valid for `'a`.
///
/// # Invariants
///
/// The pointer is to an initialised `struct ptr_ring` that outlives `'a`. Other CPUs may change it
/// at any time, so no reference to the whole of it may exist.
#[derive(Clone, Copy)]
pub(crate) struct PtrRing<'a> {
    ptr: NonNull<bindings::ptr_ring>,
    _ring: PhantomData<&'a bindings::ptr_ring>,
}

impl<'a> PtrRing<'a> {
    /// Borrows a ring.
    ///
    /// # Safety
    ///
    /// `ptr` must point to an initialised `struct ptr_ring` that outlives `'a`.
    #[inline(always)]
    pub(crate) unsafe fn from_raw(ptr: NonNull<bindings::ptr_ring>) -> Self {
        // INVARIANT: By the safety contract.
        Self {
            ptr,
            _ring: PhantomData,
        }
    }

    /// Takes the consumer lock.
    ///
    /// Acquire and release pass the consumer's indices from one consumer to the next, and make size
    /// and array belong together. Litmus tests: `take-once`, `resize-take`.
    #[inline(always)]
    pub(crate) fn lock(self) -> Locked<'a> {
        // SAFETY: By the type invariants the lock inside the ring is initialised; `Locked` releases it.
        unsafe { bindings::tuntap_ring_helper_spin_lock(self.consumer_lock()) };
        // INVARIANT: Just taken.
        Locked {
            ring: self,
            _thread: NotThreadSafe,
        }
    }

    #[inline(always)]
    fn consumer_lock(self) -> *mut bindings::spinlock_t {
        // SAFETY: The ring is valid by the type invariants; only the address is taken.
        unsafe { addr_of_mut!((*self.ptr.as_ptr()).consumer_lock) }
    }

    #[inline(always)]
    fn producer_lock(self) -> *mut bindings::spinlock_t {
        // SAFETY: The ring is valid by the type invariants; only the address is taken.
        unsafe { addr_of_mut!((*self.ptr.as_ptr()).producer_lock) }
    }
}

/// Converts an index or a size of a ring, which is never negative.
#[inline(always)]
fn to_usize(value: i32) -> usize {
    value as u32 as usize
}

/// A ring whose consumer lock is held.
///
/// # Invariants
///
/// The consumer lock of `ring` is held, and was taken by this thread.
pub(crate) struct Locked<'a> {
    ring: PtrRing<'a>,
    _thread: NotThreadSafe,
}

impl Drop for Locked<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: Held, by the type invariants.
        unsafe { bindings::tuntap_ring_helper_spin_unlock(self.ring.consumer_lock()) };
    }
}

impl Locked<'_> {
    /// Reads one of the consumer's two indices.
    ///
    /// # Safety
    ///
    /// `index` must be a field of this ring that only the consumer writes.
    #[inline(always)]
    unsafe fn index(&self, index: *const i32) -> usize {
        // SAFETY: By the safety contract, and as the consumer lock is held.
        to_usize(unsafe { access::read(index) })
    }
}

impl consume::Ring for Locked<'_> {
    type Slot = Slot;
    type Producer<'a>
        = LockedProducer<'a>
    where
        Self: 'a;

    #[inline(always)]
    fn slots(&self) -> &[Slot] {
        let ring = self.ring.ptr.as_ptr();
        // SAFETY: The ring is valid by the type invariants of `PtrRing`; size and array only change
        // under both locks, and one of them is held.
        let (queue, size) = unsafe {
            (
                access::read(addr_of!((*ring).queue)),
                access::read(addr_of!((*ring).size)),
            )
        };
        // SAFETY: A ring of `size` slots has an array of that many pointers, which can't be replaced
        // while the consumer lock is held, and `size` is never negative. Without slots the pointer is
        // `ZERO_SIZE_PTR`, which is aligned and not NULL. `Slot` is one pointer, and its `UnsafeCell`
        // allows shared writes.
        unsafe { slice::from_raw_parts(queue.cast(), to_usize(size)) }
    }

    #[inline(always)]
    fn batch(&self) -> usize {
        // SAFETY: As for `slots()`.
        to_usize(unsafe { access::read(addr_of!((*self.ring.ptr.as_ptr()).batch)) })
    }

    #[inline(always)]
    fn head(&self) -> usize {
        // SAFETY: The ring is valid by the type invariants of `PtrRing`; the consumer's index.
        unsafe { self.index(addr_of!((*self.ring.ptr.as_ptr()).consumer_head)) }
    }

    #[inline(always)]
    fn set_head(&self, head: usize) {
        // A head is below the size, which is an `int`.
        let head = head as i32;
        // SAFETY: The ring is valid by the type invariants of `PtrRing`, and the consumer lock is
        // held. Volatile, as the `WRITE_ONCE()` in `__ptr_ring_discard_one()`.
        unsafe { access::write_once(addr_of_mut!((*self.ring.ptr.as_ptr()).consumer_head), head) };
    }

    #[inline(always)]
    fn tail(&self) -> usize {
        // SAFETY: The ring is valid by the type invariants of `PtrRing`; the consumer's index.
        unsafe { self.index(addr_of!((*self.ring.ptr.as_ptr()).consumer_tail)) }
    }

    #[inline(always)]
    fn set_tail(&self, tail: usize) {
        let tail = tail as i32;
        // SAFETY: The ring is valid by the type invariants of `PtrRing`, and the consumer lock,
        // under which alone the tail is used, is held.
        unsafe { access::write(addr_of_mut!((*self.ring.ptr.as_ptr()).consumer_tail), tail) };
    }

    #[inline(always)]
    fn release(self, taken: usize) {
        // A call that took no entry is not counted: it costs a lock, its loads and an unlock.
        if taken == 0 {
            return;
        }
        let ring = ManuallyDrop::new(self).ring;
        // SAFETY: Held, by the type invariants, and not released again by a drop.
        unsafe {
            bindings::tuntap_ring_helper_count_and_unlock(taken, ring.consumer_lock());
        }
    }

    fn lock_producer(&self) -> LockedProducer<'_> {
        // SAFETY: By the type invariants of `PtrRing` the lock inside the ring is initialised;
        // `LockedProducer` releases it.
        unsafe { bindings::tuntap_ring_helper_spin_lock(self.ring.producer_lock()) };
        // INVARIANT: Just taken.
        LockedProducer { ring: self }
    }
}

/// A ring whose locks are both held.
///
/// # Invariants
///
/// The producer lock of `ring` is held, and was taken by this thread.
pub(crate) struct LockedProducer<'a> {
    ring: &'a Locked<'a>,
}

impl Drop for LockedProducer<'_> {
    fn drop(&mut self) {
        // SAFETY: Held, by the type invariants.
        unsafe { bindings::tuntap_ring_helper_spin_unlock(self.ring.ring.producer_lock()) };
    }
}

impl LockedProducer<'_> {
    /// Returns the ring for C functions.
    #[allow(dead_code)] // the unit tests exchange no array
    pub(crate) fn as_raw(&self) -> *mut bindings::ptr_ring {
        self.ring.ring.ptr.as_ptr()
    }

    /// Returns the number of slots.
    #[allow(dead_code)] // as above
    pub(crate) fn size(&self) -> usize {
        consume::Ring::slots(self.ring).len()
    }

    fn producer(&self) -> usize {
        // SAFETY: The ring is valid by the type invariants of `PtrRing`; the producer lock, under
        // which alone the producer's index is used, is held by the type invariants.
        to_usize(unsafe { access::read(addr_of!((*self.ring.ring.ptr.as_ptr()).producer)) })
    }

    fn entry(&self, index: usize) -> Option<NonNull<c_void>> {
        consume::Slot::read(consume::Ring::slots(self.ring).get(index)?)
    }
}

impl consume::Producer for LockedProducer<'_> {
    fn has_room(&self) -> bool {
        let producer = self.producer();
        producer < consume::Ring::slots(self.ring).len() && self.entry(producer).is_none()
    }

    fn entries(&self) -> Option<usize> {
        let head = consume::Ring::head(self.ring);
        let size = consume::Ring::slots(self.ring).len();
        if self.entry(head).is_none() {
            return Some(0);
        }
        // A ring that is not empty and whose indices are equal is full.
        Some(match self.producer().wrapping_sub(head) {
            0 => size,
            ahead if ahead < size => ahead,
            behind => size.wrapping_add(behind),
        })
    }
}
