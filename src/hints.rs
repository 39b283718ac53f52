// SPDX-License-Identifier: GPL-2.0

//! Hints of consumers for the scans that size the rings, and requests of the scans to consumers.
//!
//! The table has a fixed size, so a consumer needs one load to see that it has no hint to leave. Files that share a
//! place share their hints, so a scan may attribute a hint to the wrong file. A request names its file.

use crate::access;
use core::cell::UnsafeCell;

/// The number of places, a power of two.
const PLACES: usize = 256;

/// The hints of the files at one place, in a cache line of its own.
#[repr(align(64))]
pub(crate) struct Hints {
    /// Whether the queue was woken since a call that found the ring empty.
    is_woken: UnsafeCell<bool>,
    /// The address of the file whose ring must be empty before a wake, so that a shorter array has room for its
    /// entries; or 0.
    draining: UnsafeCell<usize>,
    /// The number of wakes since the last scan.
    wakes: UnsafeCell<u32>,
    /// How often the consumer was starved since the last scan.
    starved: UnsafeCell<u32>,
}

// SAFETY: All fields are read and written by volatile accesses of whole words. Of concurrent changes some may be lost,
// which is harmless for hints.
unsafe impl Sync for Hints {}

static HINTS: [Hints; PLACES] = [const {
    Hints {
        is_woken: UnsafeCell::new(false),
        draining: UnsafeCell::new(0),
        wakes: UnsafeCell::new(0),
        starved: UnsafeCell::new(0),
    }
}; PLACES];

/// Returns the hints of a file, by the address of its private data.
#[inline(always)]
pub(crate) fn of<T>(file: *const T) -> &'static Hints {
    // The kernel allocates 2 KiB for each such structure.
    let [hints, ..] = &HINTS;
    HINTS
        .get((file as usize >> 11) & (PLACES - 1))
        .unwrap_or(hints)
}

/// Returns whether the ring of a file must be empty before a wake.
pub(crate) fn is_draining<T>(file: *const T) -> bool {
    read(&of(file).draining) == file as usize
}

/// Requests that the ring of a file is emptied before a wake, until [`end_drains`].
pub(crate) fn drain<T>(file: *const T) {
    write(&of(file).draining, file as usize);
}

/// Withdraws the requests of [`drain`] for all files, including closed ones.
pub(crate) fn end_drains() {
    for hints in &HINTS {
        if read(&hints.draining) != 0 {
            write(&hints.draining, 0);
        }
    }
}

impl Hints {
    /// Returns whether the queue was woken since a call that found the ring empty.
    #[inline(always)]
    pub(crate) fn is_woken(&self) -> bool {
        read(&self.is_woken)
    }

    /// Records a wake of the queue.
    pub(crate) fn note_wake(&self) {
        write(&self.is_woken, true);
        write(&self.wakes, read(&self.wakes).wrapping_add(1));
    }

    /// Records that a call found the ring empty, the first since the wake. It was `starved` if packets waited in the
    /// qdisc.
    pub(crate) fn note_empty(&self, starved: bool) {
        write(&self.is_woken, false);
        if starved {
            write(&self.starved, read(&self.starved).wrapping_add(1));
        }
    }

    /// Returns the numbers of wakes and of starvations since the last call, and resets them.
    pub(crate) fn take(&self) -> (u32, u32) {
        let numbers = (read(&self.wakes), read(&self.starved));
        write(&self.wakes, 0);
        write(&self.starved, 0);
        numbers
    }
}

#[inline(always)]
fn read<T: Copy>(field: &UnsafeCell<T>) -> T {
    // SAFETY: A field of `Hints`; see `Sync` there.
    unsafe { access::read_once(field.get()) }
}

#[inline(always)]
fn write<T: Copy>(field: &UnsafeCell<T>, value: T) {
    // SAFETY: A field of `Hints`; see `Sync` there.
    unsafe { access::write_once(field.get(), value) };
}
