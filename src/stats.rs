// SPDX-License-Identifier: GPL-2.0

//! What can be seen from outside: counters, as files in debugfs under `tuntap_ring/`.

use crate::{
    bindings,
    consume::{
        Outcome,
        Wake, //
    },
};
use kernel::{
    debugfs::Scope,
    fmt,
    prelude::*, //
};

/// A number that only grows, kept per CPU.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Counter(bindings::tuntap_ring_counter);

/// Each counter and the name of its file.
const COUNTERS: [(Counter, &CStr); 5] = [
    (CALLS, c"calls"),
    (ENTRIES, c"entries"),
    (WAKES, c"wakes"),
    (WITHHELD, c"withheld"),
    (TURNED_AWAY, c"turned_away"),
];

/// Calls of either export that got as far as a ring.
const CALLS: Counter = Counter(bindings::tuntap_ring_counter_TUNTAP_RING_CALLS);
/// Entries handed out.
const ENTRIES: Counter = Counter(bindings::tuntap_ring_counter_TUNTAP_RING_ENTRIES);
/// Queues woken.
const WAKES: Counter = Counter(bindings::tuntap_ring_counter_TUNTAP_RING_WAKES);
/// Wakes that were due and not given: the ring was full again, or somebody else had been faster.
const WITHHELD: Counter = Counter(bindings::tuntap_ring_counter_TUNTAP_RING_WITHHELD);
/// Calls with a file that was turned away.
const TURNED_AWAY: Counter = Counter(bindings::tuntap_ring_counter_TUNTAP_RING_TURNED_AWAY);

impl Counter {
    #[inline(always)]
    fn add_one(self) {
        // SAFETY: The counter is one of the C enumeration; process context, by those who call.
        unsafe { bindings::tuntap_ring_helper_count(self.0) };
    }
}

impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SAFETY: The counter is one of the C enumeration; may be called in any context.
        fmt::Display::fmt(&unsafe { bindings::tuntap_ring_helper_sum(self.0) }, f)
    }
}

/// Accounts for the wake of one call. Context: process. Calls and entries are counted where the
/// consumer lock is dropped.
#[inline(always)]
pub(crate) fn count(outcome: &Outcome) {
    match outcome.wake {
        Wake::NotNeeded => {}
        Wake::Done => WAKES.add_one(),
        Wake::Withheld => WITHHELD.add_one(),
    }
}

/// Accounts for a call whose file was turned away. Context: process.
#[cold]
pub(crate) fn count_turned_away() {
    TURNED_AWAY.add_one();
}

/// The files in debugfs, there for as long as the value lives.
pub(crate) type Files = Scope<[Counter; COUNTERS.len()]>;

/// Makes the files. Without debugfs there are none, and that is no error.
pub(crate) fn files() -> impl PinInit<Files> {
    Scope::dir(
        COUNTERS.map(|(counter, _)| counter),
        c"tuntap_ring",
        |counters, dir| {
            for (counter, (_, name)) in counters.iter().zip(COUNTERS) {
                dir.read_only_file(name, counter);
            }
        },
    )
}
