// SPDX-License-Identifier: GPL-2.0

//! Decides when a device loses the flag because its consumer does not read, and when it gets the flag back.
//!
//! A queue that is stopped blocks its senders until the consumer has freed slots. So a consumer that stops reading
//! would block them for good. The module scans the devices whose flag it has set. If a queue has been stopped for too
//! long, the device is *released*: it loses the flag, and drops packets that its ring has no room for. It gets the flag
//! back once the consumer has shown that it reads. This file is the whole decision, in safe code without kernel
//! pointers. The module and the tests build it unchanged.
//!
//! All times are in milliseconds.

#![forbid(unsafe_code)]

/// The ring below a queue, as a scan finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ring {
    /// The index of the next entry to take.
    pub(crate) head: usize,
    /// The number of slots.
    pub(crate) slots: usize,
    /// Whether the ring is empty.
    pub(crate) is_empty: bool,
}

/// A device, as a scan finds it.
pub(crate) trait Device {
    /// Returns the queue that has been stopped for longest, and for how long; `None` if no queue is stopped.
    fn longest_stopped(&self) -> Option<(usize, u32)>;

    /// Returns the ring below a queue, `None` if no file has that queue.
    fn ring(&self, queue: usize) -> Option<Ring>;
}

/// The change of the flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Leaves the flag.
    Keep,
    /// Clears the flag and wakes the queues. The queue of that index has been stopped for so long.
    Release { queue: usize, stopped: u32 },
    /// Sets the flag again.
    Restore,
}

/// The most stalls in a row that are counted.
const MOST_STALLS: u32 = 7;

/// A consumer that takes so many entries within the time-out is slow, and not stalled.
const ENOUGH: usize = 32;

/// The number of scans within the time-out.
const SCANS: u32 = 4;

/// A stopped queue, and the progress of its consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Watched {
    queue: usize,
    /// When it was stopped, or its consumer had last taken enough.
    since: u64,
    /// The consumer's head at the last scan.
    head: usize,
    /// The number of slots at the last scan.
    slots: usize,
    /// The least number of entries taken since then.
    taken: usize,
}

/// A device that has lost the flag for a stalled queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Released {
    /// When the device lost the flag.
    since: u64,
    /// The queue.
    queue: usize,
    /// The consumer's head at the last scan.
    head: usize,
    /// The number of slots at the last scan.
    slots: usize,
    /// The least number of entries taken since then.
    taken: usize,
    /// Whether the consumer has shown that it reads.
    reads: bool,
}

impl Released {
    /// Follows the consumer. It reads if it has taken a ring-full or emptied the ring; a single packet does not prove
    /// that.
    ///
    /// If a consumer takes more than a ring-full between two scans, only the remainder counts, so a few more scans may
    /// pass until it is seen to read.
    fn follow(&mut self, ring: Option<Ring>) {
        // No file has the queue, so no sender is blocked.
        let Some(ring) = ring else {
            self.reads = true;
            return;
        };
        if ring.slots == self.slots {
            let ahead = ring.head + ring.slots - self.head;
            self.taken += ahead.checked_rem(ring.slots).unwrap_or(0);
        }
        // A ring of another size begins at slot 0.
        self.head = ring.head;
        self.slots = ring.slots;
        self.reads |= ring.slots > 0 && (ring.is_empty || self.taken >= ring.slots);
    }
}

/// The stalls of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Stall {
    released: Option<Released>,
    watched: Option<Watched>,
    /// Stalls in a row.
    stalls: u32,
    /// When the flag was set again after the last stall.
    restored: u64,
}

impl Stall {
    /// Returns whether the device has lost the flag for a stalled queue.
    pub(crate) fn is_released(&self) -> bool {
        self.released.is_some()
    }

    /// Decides on a device at the time `now`. Without a `timeout` no device is released.
    ///
    /// After each stall in a row the device stays released for longer: 0 time-outs, 1, 3, 7, up to 63. So a consumer
    /// that reads a ring-full now and then cannot block its senders for more than a small part of the time. 63
    /// time-outs without a stall end the row.
    pub(crate) fn scan(&mut self, now: u64, timeout: u32, device: &impl Device) -> Change {
        let penalty = |stalls: u32| u64::from(timeout) * ((1 << (stalls - 1)) - 1);
        let Some(released) = &mut self.released else {
            let seen = device
                .longest_stopped()
                .and_then(|(queue, stopped)| Some((queue, stopped, device.ring(queue)?)));
            let Some((queue, stopped, ring)) = seen else {
                self.watched = None;
                return Change::Keep;
            };
            let since = self.watch(now, queue, now.saturating_sub(stopped.into()), ring);
            if timeout == 0 || now - since < timeout.into() {
                return Change::Keep;
            }
            self.watched = None;
            if now - self.restored > penalty(MOST_STALLS) {
                self.stalls = 0;
            }
            self.stalls = (self.stalls + 1).min(MOST_STALLS);
            self.released = Some(Released {
                since: now,
                queue,
                head: ring.head,
                slots: ring.slots,
                taken: 0,
                reads: false,
            });
            return Change::Release { queue, stopped };
        };
        released.follow(device.ring(released.queue));
        let is_due = released.reads && now - released.since >= penalty(self.stalls);
        if timeout != 0 && !is_due {
            return Change::Keep;
        }
        self.released = None;
        self.restored = now;
        Change::Restore
    }

    /// Follows the consumer of a queue that was stopped at a time. Returns that time, or the time when the consumer had
    /// last taken enough.
    fn watch(&mut self, now: u64, queue: usize, stopped_at: u64, ring: Ring) -> u64 {
        let watched = self
            .watched
            .filter(|old| old.queue == queue && old.slots == ring.slots && old.since >= stopped_at);
        let mut watched = watched.unwrap_or(Watched {
            queue,
            since: stopped_at,
            head: ring.head,
            slots: ring.slots,
            taken: 0,
        });
        let ahead = ring.head + ring.slots - watched.head;
        watched.taken += ahead.checked_rem(ring.slots).unwrap_or(0);
        watched.head = ring.head;
        if watched.taken >= ENOUGH {
            watched.since = now;
            watched.taken = 0;
        }
        self.watched = Some(watched);
        watched.since
    }
}

/// Returns the time between two scans, `None` if no scans are needed.
pub(crate) fn interval(timeout: u32) -> Option<u32> {
    (timeout != 0).then_some((timeout / SCANS).max(1))
}
