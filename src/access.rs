// SPDX-License-Identifier: GPL-2.0

//! Single accesses to memory that C code accesses as well.
//!
//! `Atomic::from_ptr(place).load(Relaxed)` of the kernel crate is `READ_ONCE()` as well, but in a kernel built
//! with gcc it calls a C helper. These functions are one instruction each, and an entry takes two of them.
//!
//! KCSAN detects data races with a call that the C compiler inserts before each access, and rustc does
//! not. So with `CONFIG_KCSAN` these functions announce each access to KCSAN; without it they are only the
//! access.
//!
//! C header: [`include/linux/kcsan-checks.h`](srctree/include/linux/kcsan-checks.h)

#[cfg(CONFIG_KCSAN)]
use crate::bindings;

/// Whether other CPUs may access the memory at the same time, as with `READ_ONCE()`, or a lock excludes that.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Marked {
    Yes,
    No,
}

/// Announces an access to KCSAN, which watches the memory for a moment for accesses of other CPUs.
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

/// Reads memory that other CPUs may write at the same time, as `READ_ONCE()` does.
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

/// Writes memory that other CPUs may read at the same time, as `WRITE_ONCE()` does.
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
/// `place` must be readable and aligned, and a lock or the lifetime of the object must keep others
/// from writing it.
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
/// `place` must be writable and aligned, and a lock must keep others from accessing it.
#[inline(always)]
pub(crate) unsafe fn write<T: Copy>(place: *mut T, value: T) {
    announce(place, true, Marked::No);
    // SAFETY: By the safety contract.
    unsafe { place.write(value) };
}
