// SPDX-License-Identifier: GPL-2.0

//! What consumers leave behind for the scans, which size the rings by it, and what the scans ask of consumers.
//!
//! A table of fixed size, so that a consumer needs one load to see that it has nothing to leave. Files that share a
//! place share what they leave: it may be taken for another's. What a scan asks for names the file.

use crate::access;
use core::cell::UnsafeCell;

/// How many places there are, a power of two.
const PLACES: usize = 256;

/// The hints of the files at one place, in a cache line of its own.
#[repr(align(64))]
pub(crate) struct Hints {
    /// Whether the queue was woken since a call that found the ring empty.
    is_woken: UnsafeCell<bool>,
    /// The address of the file whose ring is to be emptied before a wake, so that a shorter array has room for its
    /// entries; or 0.
    draining: UnsafeCell<usize>,
    wakes: UnsafeCell<u32>,
    starved: UnsafeCell<u32>,
}

// SAFETY: All fields are read and written by volatile accesses of whole words. What several CPUs do at once may be lost:
// these are hints.
unsafe impl Sync for Hints {}

static HINTS: [Hints; PLACES] = [const {
    Hints {
        is_woken: UnsafeCell::new(false),
        draining: UnsafeCell::new(0),
        wakes: UnsafeCell::new(0),
        starved: UnsafeCell::new(0),
    }
}; PLACES];

/// The hints of a file, by the address of its private data.
#[inline(always)]
pub(crate) fn of<T>(file: *const T) -> &'static Hints {
    // The kernel has 2 KiB for each such structure.
    let [hints, ..] = &HINTS;
    HINTS
        .get((file as usize >> 11) & (PLACES - 1))
        .unwrap_or(hints)
}

/// Whether the ring of a file is to be emptied before a wake.
pub(crate) fn is_draining<T>(file: *const T) -> bool {
    read(&of(file).draining) == file as usize
}

/// From now on the ring of a file is to be emptied before a wake, until [`end_drains`].
pub(crate) fn drain<T>(file: *const T) {
    write(&of(file).draining, file as usize);
}

/// Rings need not be emptied any more, those of files that are closed by now among them.
pub(crate) fn end_drains() {
    for hints in &HINTS {
        if read(&hints.draining) != 0 {
            write(&hints.draining, 0);
        }
    }
}

impl Hints {
    /// Whether the queue was woken since a call that found the ring empty.
    #[inline(always)]
    pub(crate) fn is_woken(&self) -> bool {
        read(&self.is_woken)
    }

    /// The queue was woken.
    pub(crate) fn note_wake(&self) {
        write(&self.is_woken, true);
        write(&self.wakes, read(&self.wakes).wrapping_add(1));
    }

    /// A call found the ring empty, for the first time since the wake; `starved`: while packets waited in the qdisc.
    pub(crate) fn note_empty(&self, starved: bool) {
        write(&self.is_woken, false);
        if starved {
            write(&self.starved, read(&self.starved).wrapping_add(1));
        }
    }

    /// Takes the numbers of wakes and of starvations since the last time.
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
