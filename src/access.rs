// SPDX-License-Identifier: GPL-2.0

//! Single accesses to memory that C shares with us.
//!
//! `Atomic::from_ptr(place).load(Relaxed)` of the kernel crate is `READ_ONCE()` as well. A kernel that was built
//! with gcc calls a C helper for it. These functions are one instruction each, and an entry takes two of them.
//!
//! KCSAN sees data races by what the compiler puts before each access, and rustc does not. So in a
//! kernel with KCSAN each access is announced here, by the same call; in any other it is the access
//! and nothing else.
//!
//! C header: [`include/linux/kcsan-checks.h`](srctree/include/linux/kcsan-checks.h)

#[cfg(CONFIG_KCSAN)]
use crate::bindings;

/// Whether an access may meet others, as by `READ_ONCE()`, or a lock keeps it alone.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Marked {
    Yes,
    No,
}

/// Has KCSAN watch the memory for a moment, for what other CPUs do there.
#[inline(always)]
fn announce<T>(_place: *const T, _write: bool, _marked: Marked) {
    #[cfg(CONFIG_KCSAN)]
    // SAFETY: The caller is about to access that memory.
    unsafe {
        bindings::tuntap_ring_helper_announce(
            _place.cast(),
            core::mem::size_of::<T>(),
            _write,
            _marked == Marked::Yes,
        );
    }
}

/// Reads what others may write at the same time; as `READ_ONCE()`.
///
/// # Safety
///
/// `place` must be readable and aligned, and `T` a type of at most 8 bytes for which others write no
/// invalid value.
#[inline(always)]
pub(crate) unsafe fn read_once<T: Copy>(place: *const T) -> T {
    announce(place, false, Marked::Yes);
    // SAFETY: By the safety contract. A volatile access of that size is one load.
    unsafe { place.read_volatile() }
}

/// Writes what others may read at the same time; as `WRITE_ONCE()`.
///
/// # Safety
///
/// `place` must be writable and aligned, and `T` a type of at most 8 bytes.
#[inline(always)]
pub(crate) unsafe fn write_once<T: Copy>(place: *mut T, value: T) {
    announce(place, true, Marked::Yes);
    // SAFETY: By the safety contract. A volatile access of that size is one store.
    unsafe { place.write_volatile(value) };
}

/// Reads memory that no other CPU writes at the same time.
///
/// # Safety
///
/// `place` must be readable and aligned, and a lock or the object's life must keep others from
/// writing there.
#[inline(always)]
pub(crate) unsafe fn read<T: Copy>(place: *const T) -> T {
    announce(place, false, Marked::No);
    // SAFETY: By the safety contract.
    unsafe { place.read() }
}

/// Writes memory that no other CPU accesses at the same time.
///
/// # Safety
///
/// `place` must be writable and aligned, and a lock must keep others from it.
#[inline(always)]
pub(crate) unsafe fn write<T: Copy>(place: *mut T, value: T) {
    announce(place, true, Marked::No);
    // SAFETY: By the safety contract.
    unsafe { place.write(value) };
}
