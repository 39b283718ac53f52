// SPDX-License-Identifier: GPL-2.0

//! Checks `src/stall.rs` of the module among senders that never rest and consumers of all kinds.

#[path = "../../../src/stall.rs"]
mod stall;

use std::collections::HashSet;

use stall::{Change, Device, Ring, Stall, interval};

const TIMEOUT: u32 = 400;
const SLOTS: usize = 4;

/// A device with one queue, whose senders fill the ring whenever they may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct World {
    flag: bool,
    head: usize,
    entries: usize,
    /// Slots freed since the stop.
    freed: usize,
    stopped_at: Option<u64>,
    now: u64,
    stall: Stall,
    /// Entries taken since the release, and whether the ring was seen empty since.
    taken: usize,
    emptied: bool,
    /// Whether packets come.
    flooded: bool,
}

impl Device for World {
    fn longest_stopped(&self) -> Option<(usize, u32)> {
        self.stopped_at
            .map(|since| (0, u32::try_from(self.now - since).unwrap()))
    }

    fn ring(&self, queue: usize) -> Option<Ring> {
        assert_eq!(queue, 0);
        Some(Ring {
            head: self.head,
            slots: SLOTS,
            is_empty: self.entries == 0,
        })
    }
}

impl World {
    fn new() -> Self {
        Self {
            flag: true,
            head: 0,
            entries: 0,
            freed: 0,
            stopped_at: None,
            now: 1_000_000,
            stall: Stall::default(),
            taken: 0,
            emptied: false,
            flooded: true,
        }
    }

    /// Senders fill the ring; with the flag the last one stops the queue.
    fn send(&mut self) {
        if self.flooded && self.stopped_at.is_none() {
            self.entries = SLOTS;
            if self.flag {
                self.stopped_at = Some(self.now);
                self.freed = 0;
            }
        }
    }

    /// The consumer takes so many, and wakes the queue as tun does. Senders go on after each.
    fn take(&mut self, entries: usize) {
        for _ in 0..entries {
            if self.entries == 0 {
                return;
            }
            self.entries -= 1;
            self.head = (self.head + 1) % SLOTS;
            self.taken += 1;
            self.freed += 1;
            if self.freed >= SLOTS / 2 || self.entries == 0 {
                self.stopped_at = None;
            }
            self.emptied |= self.entries == 0;
            self.send();
        }
    }

    /// Returns whether the flag was changed.
    fn scan(&mut self) -> Change {
        let world = *self;
        let change = self.stall.scan(self.now, TIMEOUT, &world);
        match change {
            Change::Keep => {}
            Change::Release { queue, stopped } => {
                assert_eq!(queue, 0);
                assert!(self.flag, "released without the flag");
                let since = self.stopped_at.expect("released though it is not stopped");
                assert_eq!(u64::from(stopped), self.now - since);
                assert!(stopped >= TIMEOUT, "released after {stopped} ms");
                self.flag = false;
                self.stopped_at = None;
                (self.taken, self.emptied) = (0, false);
            }
            Change::Restore => {
                assert!(!self.flag, "restored though it has the flag");
                assert!(
                    self.taken >= SLOTS || self.emptied,
                    "restored after {} entries of {SLOTS}",
                    self.taken
                );
                self.flag = true;
            }
        }
        assert_eq!(self.stall.is_released(), !self.flag);
        self.send();
        change
    }

    /// What holds at any time between two scans.
    fn check(&self) {
        if let Some(since) = self.stopped_at {
            let longest = u64::from(TIMEOUT + interval(TIMEOUT).unwrap());
            assert!(
                self.now - since <= longest,
                "stopped for {} ms: {self:?}",
                self.now - since
            );
        }
    }

    fn after(mut self, taken: usize, flooded: bool) -> Self {
        self.flooded = flooded;
        self.send();
        self.take(taken);
        self.now += u64::from(interval(TIMEOUT).unwrap());
        self.check();
        self.scan();
        self
    }
}

/// All that a consumer may do from one scan to the next, for 14 scans.
#[test]
fn a_queue_is_consumed_from_or_released_within_the_time_out_and_a_scan() {
    let mut states = HashSet::from([World::new()]);
    let mut seen = 0;
    for _ in 0..14 {
        let mut next = HashSet::new();
        for world in states {
            for taken in 0..=SLOTS + 1 {
                for flooded in [false, true] {
                    next.insert(world.after(taken, flooded));
                }
            }
        }
        states = next;
        seen += states.len();
    }
    assert!(seen > 10_000, "seen: {seen} states");
}

/// Runs a consumer that takes what `taken` gives for each scan; returns for how many of so many scans the senders
/// were held, and for how many the device had the flag.
fn run(scans: usize, mut taken: impl FnMut(usize) -> usize) -> (usize, usize) {
    let mut world = World::new();
    let (mut held, mut flagged) = (0, 0);
    for scan in 0..scans {
        world = world.after(taken(scan), true);
        held += usize::from(world.stopped_at.is_some_and(|since| since < world.now));
        flagged += usize::from(world.flag);
    }
    (held, flagged)
}

#[test]
fn a_slow_consumer_keeps_backpressure() {
    // Half a ring for each wake, and one wake within the time-out.
    let (_, flagged) = run(10_000, |scan| if scan % 3 == 0 { SLOTS / 2 } else { 0 });
    assert_eq!(flagged, 10_000);
}

/// A long ring whose consumer takes so many entries between two scans, and whose queue stays stopped.
struct Long {
    stopped: u32,
    head: usize,
}

impl Device for Long {
    fn longest_stopped(&self) -> Option<(usize, u32)> {
        Some((0, self.stopped))
    }

    fn ring(&self, _: usize) -> Option<Ring> {
        Some(Ring {
            head: self.head,
            slots: 10_000,
            is_empty: false,
        })
    }
}

#[test]
fn a_slow_consumer_of_a_long_ring_is_not_released() {
    let interval = interval(TIMEOUT).unwrap();
    for (each, is_released) in [(0, true), (7, true), (11, false), (500, false)] {
        let mut stall = Stall::default();
        let mut device = Long {
            stopped: 0,
            head: 9_900,
        };
        for _ in 0..100 {
            device.stopped += interval;
            device.head = (device.head + each) % 10_000;
            stall.scan(u64::from(device.stopped) + 1_000_000, TIMEOUT, &device);
            if stall.is_released() {
                break;
            }
        }
        assert_eq!(
            stall.is_released(),
            is_released,
            "{each} entries between two scans"
        );
    }
}

#[test]
fn a_consumer_that_never_reads_holds_its_senders_once() {
    let (held, flagged) = run(10_000, |_| 0);
    assert!(
        held <= 5 && flagged <= 5,
        "held {held}, with the flag {flagged}"
    );
}

#[test]
fn a_consumer_that_reads_a_packet_now_and_then_holds_its_senders_for_a_small_part_of_the_time() {
    for pause in 1..40 {
        let (held, _) = run(100_000, |scan| {
            usize::from(scan % pause == 0) * usize::from(pause > 3)
        });
        assert!(
            held < 5_000,
            "one packet each {pause} scans: held {held} of 100,000"
        );
    }
}

#[test]
fn a_consumer_that_reads_a_ring_full_now_and_then_holds_its_senders_for_a_small_part_of_the_time() {
    for pause in 6..60 {
        // Of a multiple of the ring's size the scans would see nothing.
        let (held, _) = run(100_000, |scan| {
            usize::from(scan % pause == 0) * (2 * SLOTS - 1)
        });
        assert!(
            held < 10_000,
            "a ring-full each {pause} scans: held {held} of 100,000"
        );
    }
}

#[test]
fn backpressure_is_back_soon_after_a_paused_consumer_has_gone_on() {
    let mut paused = World::new();
    for _ in 0..100 {
        paused = paused.after(0, true);
    }
    assert!(!paused.flag);
    assert!(paused.after(SLOTS, false).flag, "the ring was emptied");
    // Of a ring-full and one more between two scans, one is seen.
    for each in (1..=2 * SLOTS).filter(|each| each % SLOTS != 0) {
        let mut world = paused;
        for _ in 0..SLOTS {
            world = world.after(each, true);
        }
        assert!(world.flag, "{each} entries between two scans");
    }
}

#[test]
fn without_a_time_out_no_device_is_released_and_all_are_restored() {
    let mut world = World::new();
    for _ in 0..100 {
        world = world.after(0, true);
    }
    assert!(!world.flag);
    let device = world;
    assert_eq!(world.stall.scan(world.now, 0, &device), Change::Restore);
    let device = World {
        stopped_at: Some(0),
        ..world
    };
    assert_eq!(world.stall.scan(world.now, 0, &device), Change::Keep);
    assert_eq!(interval(0), None);
}

#[test]
fn a_queue_without_a_file_blocks_no_restoration() {
    struct Closed;
    impl Device for Closed {
        fn longest_stopped(&self) -> Option<(usize, u32)> {
            None
        }
        fn ring(&self, _: usize) -> Option<Ring> {
            None
        }
    }
    let mut world = World::new();
    for _ in 0..100 {
        world = world.after(0, true);
    }
    assert_eq!(
        world.stall.scan(world.now, TIMEOUT, &Closed),
        Change::Restore
    );
}
