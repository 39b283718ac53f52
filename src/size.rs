// SPDX-License-Identifier: GPL-2.0

//! Decides how many slots a ring needs.
//!
//! A qdisc cannot reorder or drop packets that wait in the ring. So a ring should hold no more entries than keep its
//! consumer busy. The module scans the rings of devices whose flag it has set. A ring that stops its queue gets
//! [`FLOOR`] slots, or as many as its consumer takes in [`WORTH`], or a quarter less at a time while its entries do not
//! fit. The ring is doubled if its consumer was *starved*: found the ring empty while packets waited in the qdisc
//! above. Later the ring is shortened by a quarter again, each time after a longer wait, as each attempt that fails
//! costs throughput. This file is the whole decision, in safe code without kernel pointers. The module and the tests
//! build it unchanged.

#![forbid(unsafe_code)]

/// The least size: vhost takes so many entries at a time, and may unconsume them.
pub(crate) const FLOOR: usize = 64;

/// The least number of milliseconds for which the entries of a ring should last: as long as CoDel lets packets wait.
pub(crate) const WORTH: u64 = 5;

/// A ring is too short if its consumer was starved after more than one in so many wakes.
const FEW: u32 = 16;

/// The number of scans without starvation before the first attempt after a starvation.
const FIRST_WAIT: u32 = 16;

/// The most scans without starvation before an attempt.
const MOST_WAIT: u32 = 256;

/// The number of scans without a wake after which the ring gets its full size back: it may have another consumer now.
const IDLE: u32 = 64;

/// A ring, as a scan finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The number of slots.
    pub(crate) slots: usize,
    /// The number that the device requests, `tx_queue_len`.
    pub(crate) most: usize,
    /// Milliseconds since the last scan.
    pub(crate) elapsed: u64,
    /// How often the consumer has woken the queue since then, each time after it has freed half of the ring.
    pub(crate) wakes: u32,
    /// How often the consumer was starved since then.
    pub(crate) starved: u32,
}

/// The state of the decision about one ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Size {
    /// The number of slots after the last scan.
    slots: usize,
    /// The number before the last attempt with fewer slots, or 0.
    before: usize,
    /// Scans without starvation since the last change.
    calm: u32,
    /// The number of such scans before the next attempt; 0 while the consumer was never starved.
    wait: u32,
    /// Scans in a row without a wake.
    idle: u32,
    /// Milliseconds since the last scan with a wake.
    pause: u64,
    /// The fewest slots by the pace of the last scan with a wake; 0 before the first.
    least: usize,
}

impl Size {
    /// Decides on a ring: returns the number of slots to give it, `None` if it keeps its own.
    pub(crate) fn scan(&mut self, seen: Seen) -> Option<usize> {
        if seen.slots != self.slots {
            // Changed elsewhere, such as by `tx_queue_len`.
            *self = Self {
                slots: seen.slots,
                ..Self::default()
            };
        }
        self.next(seen)
            .map(|slots| slots.min(seen.most))
            .filter(|&slots| slots != seen.slots)
    }

    fn next(&mut self, seen: Seen) -> Option<usize> {
        if seen.starved.saturating_mul(FEW) > seen.wakes.max(1) {
            self.calm = 0;
            self.wait = (self.wait * 2).clamp(FIRST_WAIT, MOST_WAIT);
            // Not more than a size that was enough before.
            return Some(if self.before == 0 {
                seen.slots * 2
            } else {
                self.before.min(seen.slots * 2)
            });
        }
        self.pause = self.pause.saturating_add(seen.elapsed);
        if seen.wakes == 0 {
            self.idle = (self.idle + 1).min(IDLE);
            if self.idle == IDLE {
                return Some(seen.most);
            }
            // A long ring that is being shortened has few wakes.
            if self.least == 0 || self.wait != 0 {
                return None;
            }
        } else {
            self.idle = 0;
            let freed = seen.slots as u64 / 2 * u64::from(seen.wakes);
            self.least = ((freed * WORTH / self.pause.max(1)) as usize).max(FLOOR);
            self.pause = 0;
        }
        let least = self.least;
        // More than random variation.
        if least > seen.slots * 3 / 2 {
            return Some(least);
        }
        self.calm = self.calm.saturating_add(1);
        if self.calm <= self.wait {
            return None;
        }
        let less = seen.slots * 3 / 4;
        let at_once = self.wait == 0 && self.calm % 2 == 1;
        let slots = if at_once { least } else { less.max(least) };
        Some(slots.min(seen.slots))
    }

    /// Records that the ring got the number of slots that [`Self::scan`] has returned. It does not get them while its
    /// entries do not fit.
    pub(crate) fn resized(&mut self, slots: usize) {
        self.before = if slots < self.slots { self.slots } else { 0 };
        if self.idle == IDLE {
            self.wait = 0;
            self.least = 0;
        }
        self.slots = slots;
        self.calm = 0;
        self.idle = 0;
    }
}

/// Returns whether a ring with so many entries may get an array of `slots` slots. Each entry must have a slot, and so
/// must the next entry, unless the queue is stopped and no entry comes.
pub(crate) fn fits(entries: usize, slots: usize, is_stopped: bool) -> bool {
    entries < slots || (entries == slots && is_stopped)
}
