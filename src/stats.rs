// SPDX-License-Identifier: GPL-2.0

//! Counters, shown in files in debugfs under `tuntap_ring/`.

use crate::{
    backpressure, bindings,
    consume::{
        Outcome,
        Wake, //
    },
};
use core::ffi::c_void;
use kernel::{
    debugfs::Scope,
    ffi::{
        c_char,
        c_uint, //
    },
    fmt,
    prelude::*, //
};

/// A number that only grows, kept per CPU.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Counter(bindings::tuntap_ring_counter);

/// The content of a file.
#[derive(Clone, Copy)]
pub(crate) enum File {
    /// One counter.
    Counter(Counter),
    /// Calls of either export that took entries.
    Calls,
    /// The same calls by the number of entries that they took. A line has a power of two and the number of
    /// calls that took at least so many entries, and fewer than the power of two of the next line.
    Batches,
    /// Devices of tun, in all network namespaces: see [`backpressure::describe`].
    Devices,
    /// Queues of tun devices that are stopped at the moment, in the network namespace of the reader: a
    /// line per queue, with its device and its index.
    Stopped,
}

/// Each file and its name.
const FILES: [(&CStr, File); 10] = [
    (c"calls", File::Calls),
    (c"batches", File::Batches),
    (c"entries", File::Counter(ENTRIES)),
    (c"wakes", File::Counter(WAKES)),
    (c"withheld", File::Counter(SUPPRESSED)),
    (c"rejected", File::Counter(REJECTED)),
    (c"released", File::Counter(RELEASED)),
    (c"resized", File::Counter(RESIZED)),
    (c"devices", File::Devices),
    (c"stopped", File::Stopped),
];

/// Entries taken.
const ENTRIES: Counter = Counter(bindings::tuntap_ring_counter_TUNTAP_RING_ENTRIES);
/// Queues woken.
const WAKES: Counter = Counter(bindings::tuntap_ring_counter_TUNTAP_RING_WAKES);
/// Suppressed wakes, see [`Wake::Suppressed`].
const SUPPRESSED: Counter = Counter(bindings::tuntap_ring_counter_TUNTAP_RING_SUPPRESSED);
/// Calls for entries whose file was rejected.
const REJECTED: Counter = Counter(bindings::tuntap_ring_counter_TUNTAP_RING_REJECTED);
/// Devices that lost the flag for a stalled queue, each time.
const RELEASED: Counter = Counter(bindings::tuntap_ring_counter_TUNTAP_RING_RELEASED);
/// Rings that got the size that their consumer needs, each time.
const RESIZED: Counter = Counter(bindings::tuntap_ring_counter_TUNTAP_RING_RESIZED);

impl Counter {
    #[inline(always)]
    fn add_one(self) {
        // SAFETY: The counter is one of the C enumeration; the callers run in process context.
        unsafe { bindings::tuntap_ring_helper_count(self.0) };
    }

    fn sum(self) -> u64 {
        // SAFETY: The counter is one of the C enumeration; may be called in any context.
        unsafe { bindings::tuntap_ring_helper_sum(self.0) }
    }
}

/// Returns the counters of calls that took one entry, two or three, four to seven, and so on.
fn batches() -> impl Iterator<Item = Counter> {
    (bindings::tuntap_ring_counter_TUNTAP_RING_BATCHES
        ..=bindings::tuntap_ring_counter_TUNTAP_RING_LAST_BATCH)
        .map(Counter)
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Counter(counter) => write!(f, "{}", counter.sum()),
            Self::Calls => write!(
                f,
                "{}",
                batches().map(Counter::sum).fold(0, u64::wrapping_add)
            ),
            Self::Batches => {
                for (power, counter) in batches().enumerate() {
                    let least = 1_u32 << power;
                    let separator = if power == 0 { "" } else { "\n" };
                    write!(f, "{separator}{least} {}", counter.sum())?;
                }
                Ok(())
            }
            Self::Devices => backpressure::describe(f),
            Self::Stopped => {
                let mut writer = Lines {
                    f,
                    is_first: true,
                    result: Ok(()),
                };
                let data: *mut Lines<'_, '_> = &mut writer;
                // SAFETY: Files are read in process context; `write_stopped` gets a `Lines`.
                unsafe {
                    bindings::tuntap_ring_helper_list_stopped(Some(write_stopped), data.cast())
                };
                writer.result
            }
        }
    }
}

/// The output of the file `stopped`.
struct Lines<'a, 'b> {
    f: &'a mut fmt::Formatter<'b>,
    is_first: bool,
    result: fmt::Result,
}

/// Writes one line.
///
/// # Safety
///
/// `device` must be a C string, and `lines` a [`Lines`] without another user.
unsafe extern "C" fn write_stopped(device: *const c_char, queue: c_uint, lines: *mut c_void) {
    // SAFETY: By the safety contract.
    let (device, lines) = unsafe {
        (
            CStr::from_char_ptr(device),
            &mut *lines.cast::<Lines<'_, '_>>(),
        )
    };
    let separator = if lines.is_first { "" } else { "\n" };
    lines.is_first = false;
    if lines.result.is_ok() {
        lines.result = lines.f.write_fmt(fmt!("{separator}{device} {queue}"));
    }
}

/// Counts the wake of a call. Calls and entries are counted where the consumer lock is released. Context:
/// process.
#[inline(always)]
pub(crate) fn count(outcome: &Outcome) {
    match outcome.wake {
        Wake::NotNeeded => {}
        Wake::Done => WAKES.add_one(),
        Wake::Suppressed => SUPPRESSED.add_one(),
    }
}

/// Counts a call for entries whose file was rejected. Context: process.
#[cold]
pub(crate) fn count_rejected() {
    REJECTED.add_one();
}

/// Counts a device that has lost the flag for a stalled queue. Context: process.
#[cold]
pub(crate) fn count_released() {
    RELEASED.add_one();
}

/// Counts a ring that got another size. Context: process.
#[cold]
pub(crate) fn count_resized() {
    RESIZED.add_one();
}

/// The files in debugfs, which exist as long as the value lives.
pub(crate) type Files = Scope<[File; FILES.len()]>;

/// Creates the files. Without debugfs there are none, which is not an error.
pub(crate) fn files() -> impl PinInit<Files> {
    Scope::dir(FILES.map(|(_, file)| file), c"tuntap_ring", |files, dir| {
        for (file, (name, _)) in files.iter().zip(FILES) {
            dir.read_only_file(name, file);
        }
    })
}
