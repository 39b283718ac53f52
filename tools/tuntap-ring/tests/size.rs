// SPDX-License-Identifier: GPL-2.0

//! Checks `src/size.rs` of the module with consumers that need rings of any size.

#[path = "../../../src/size.rs"]
mod size;

use size::{FLOOR, Seen, Size, WORTH, fits};

const ELAPSED: u64 = 50;

/// A ring whose consumer is starved while it has fewer slots than the consumer needs.
struct World {
    slots: usize,
    most: usize,
    need: usize,
    /// Entries taken between two scans. Each half ring of them causes a wake.
    taken: usize,
    size: Size,
}

impl World {
    fn new(most: usize, need: usize) -> Self {
        Self {
            slots: most,
            most,
            need,
            taken: 300,
            size: Size::default(),
        }
    }

    fn is_starved(&self) -> bool {
        self.slots < self.need.min(self.most)
    }

    fn wakes(&self) -> u32 {
        u32::try_from(2 * self.taken / self.slots.max(1)).unwrap()
    }

    fn look(&mut self) -> Option<usize> {
        // With a long ring not each scan sees a wake.
        let wakes = if self.taken > 0 {
            self.wakes().max(1)
        } else {
            0
        };
        self.size.scan(Seen {
            slots: self.slots,
            most: self.most,
            elapsed: ELAPSED,
            wakes,
            starved: if self.is_starved() { wakes } else { 0 },
        })
    }

    /// One scan; the new array always fits.
    fn scan(&mut self) {
        if let Some(slots) = self.look() {
            assert_ne!(slots, self.slots, "the ring has that size");
            assert!(slots <= self.most, "{slots} slots, more than {}", self.most);
            assert!(
                slots >= FLOOR.min(self.most),
                "{slots} slots, too few for a batch"
            );
            self.slots = slots;
            self.size.resized(slots);
        }
    }

    fn scans(&mut self, count: usize) {
        for _ in 0..count {
            self.scan();
        }
    }
}

#[test]
fn a_ring_is_no_larger_than_its_consumer_needs() {
    for most in [1, 10, 63, 64, 65, 100, 500, 1_000, 10_000] {
        for need in [1, 64, 65, 100, 128, 200, 500, 999, 5_000] {
            let mut world = World::new(most, need);
            world.scans(64);
            let (mut starved, mut largest) = (0, 0);
            for _ in 0..2_000 {
                world.scan();
                starved += u32::from(world.is_starved());
                largest = largest.max(world.slots);
            }
            assert!(
                starved <= 20,
                "ring of {most}, needs {need}: starved at {starved} of 2000 scans"
            );
            assert!(
                largest <= (2 * need).max(FLOOR),
                "ring of {most}, needs {need}: {largest} slots"
            );
        }
    }
}

#[test]
fn a_starved_ring_grows_at_the_next_scan() {
    let mut world = World::new(1_000, 1);
    world.scans(64);
    assert_eq!(world.slots, FLOOR);
    world.need = 1_000;
    world.scan();
    assert_eq!(world.slots, 2 * FLOOR);
    world.scans(3);
    assert_eq!(world.slots, 1_000);
}

#[test]
fn attempts_become_rarer() {
    let mut world = World::new(1_000, 100);
    let mut attempts = Vec::new();
    for scan in 0..4_000 {
        world.scan();
        if world.is_starved() {
            attempts.push(scan);
        }
    }
    let [first, second, .., before, last] = attempts[..] else {
        panic!("{attempts:?}");
    };
    assert!(
        last - before > 2 * (second - first),
        "attempts at {attempts:?}"
    );
}

#[test]
fn few_starvations_do_not_count() {
    let mut size = Size::default();
    let mut seen = Seen {
        slots: 100,
        most: 1_000,
        elapsed: 5_000,
        wakes: 100,
        starved: 6,
    };
    assert_eq!(size.scan(seen), Some(FLOOR));
    seen.starved = 7;
    assert_eq!(size.scan(seen), Some(200));
}

#[test]
fn a_resize_that_failed_is_tried_again_and_in_steps() {
    let mut world = World::new(1_000, 1);
    for _ in 0..2 {
        assert_eq!(world.look(), Some(FLOOR));
        assert_eq!(world.look(), Some(750));
    }
}

#[test]
fn a_ring_that_never_stops_its_queue_stays_as_it_is() {
    let mut world = World::new(1_000, 1);
    world.taken = 0;
    world.scans(1_000);
    assert_eq!(world.slots, 1_000);
}

#[test]
fn a_long_ring_is_shortened_between_two_wakes() {
    let mut world = World::new(10_000, 1);
    world.scan();
    world.slots = 10_000;
    world.size = Size::default();
    assert!(world.look().is_some());
    let mut seen = Seen {
        slots: 10_000,
        most: 10_000,
        elapsed: ELAPSED,
        wakes: 0,
        starved: 0,
    };
    assert_eq!(world.size.scan(seen), Some(7_500));
    // What half of the ring in 50 ms comes to in 5 ms.
    assert_eq!(world.size.scan(seen), Some(500));
    world.size.resized(500);
    seen.slots = 500;
    assert_eq!(world.size.scan(seen), None);
}

#[test]
fn a_ring_lasts_for_some_milliseconds() {
    let mut world = World::new(10_000, 1);
    for taken in [100, 2_000, 20_000, 100, 500_000] {
        world.taken = taken;
        world.scans(64);
        let least = (taken as u64 * WORTH / ELAPSED) as usize;
        let least = least.clamp(FLOOR, world.most);
        assert!(
            world.slots >= least * 2 / 3 && world.slots <= least * 3 / 2,
            "{taken} entries in {ELAPSED} ms: {} slots",
            world.slots
        );
    }
}

#[test]
fn an_attempt_that_fails_ends_with_the_size_before() {
    let mut world = World::new(10_000, 200);
    world.scans(64);
    assert_eq!(world.slots, 256);
    for _ in 0..2_000 {
        world.scan();
        assert!([192, 256].contains(&world.slots), "{} slots", world.slots);
    }
}

#[test]
fn a_change_of_tx_queue_len_is_followed() {
    let mut world = World::new(1_000, 1);
    world.scans(64);
    // The kernel gives all rings that size.
    (world.most, world.slots) = (10, 10);
    assert_eq!(world.look(), None);
    (world.most, world.slots) = (500, 500);
    assert!(world.look().is_none_or(|slots| slots < 500));
    world.scans(64);
    assert_eq!(world.slots, FLOOR);
}

#[test]
fn a_ring_without_wakes_gets_its_size_back_after_a_while() {
    let mut world = World::new(1_000, 1);
    world.scans(64);
    world.taken = 0;
    world.scans(32);
    assert_eq!(world.slots, FLOOR, "at once");
    world.scans(64);
    assert_eq!(world.slots, 1_000);
}

#[test]
fn entries_and_the_next_one_fit() {
    for slots in 0..4 {
        for entries in 0..4 {
            for is_stopped in [false, true] {
                let places = slots + usize::from(is_stopped);
                assert_eq!(
                    fits(entries, slots, is_stopped),
                    entries < places,
                    "{entries} entries, {slots} slots, stopped: {is_stopped}"
                );
            }
        }
    }
}
