// SPDX-License-Identifier: GPL-2.0

//! Checks `src/policy.rs` of the module: all sequences of events that a device may see, up to a depth, among openers
//! that do and do not ask for the flag.

#[path = "../../../src/policy.rs"]
mod policy;

use policy::{Change, Device, decide, parse, patterns};

/// What may happen to a device.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// A program attaches, and the flags that it gives replace those of the device. Tun notifies if it is up.
    Attach {
        asks: bool,
    },
    Up,
    Down,
    /// The device gets a name that matches, or one that does not; or the patterns change. We are called each time.
    Match(bool),
    /// A scan finds a stalled queue, or that the consumer reads again.
    Scan,
    /// The module is unloaded: nothing matches any more.
    Unload,
}

const EVENTS: [Event; 8] = [
    Event::Attach { asks: false },
    Event::Attach { asks: true },
    Event::Up,
    Event::Down,
    Event::Match(true),
    Event::Match(false),
    Event::Scan,
    Event::Unload,
];

#[derive(Clone, Copy, Debug, Default)]
struct World {
    up: bool,
    flag: bool,
    matches: bool,
    by_policy: bool,
    released: bool,
    unloaded: bool,
    /// What the last opener asked for, and whether the flag was one that we give at that time.
    asked: bool,
    asked_under_us: bool,
}

impl World {
    fn decide(&mut self) {
        if self.unloaded {
            return;
        }
        let device = Device {
            matches: self.matches,
            has_flag: self.flag,
            by_policy: self.by_policy,
            released: self.released,
        };
        match decide(device) {
            Change::Keep => {}
            Change::Set => {
                assert!(!self.flag, "set although it has the flag: {self:?}");
                self.flag = true;
                self.by_policy = true;
            }
            Change::Clear => {
                assert!(self.flag, "cleared although it has no flag: {self:?}");
                self.flag = false;
                self.by_policy = false;
            }
            Change::Forget => self.by_policy = false,
        }
        // It is part of the record.
        self.released &= self.by_policy;
    }

    fn after(mut self, event: Event) -> Self {
        match event {
            Event::Attach { asks } => {
                self.asked_under_us = self.by_policy && self.matches;
                self.asked = asks;
                self.flag = asks;
                if self.up {
                    self.decide();
                }
            }
            Event::Up => {
                self.up = true;
                self.decide();
            }
            Event::Down => self.up = false,
            Event::Match(matches) => {
                self.matches = matches;
                self.decide();
            }
            Event::Scan if self.by_policy => {
                self.released = !self.released;
                self.flag = !self.released;
            }
            Event::Scan => {}
            Event::Unload => {
                self.matches = false;
                self.decide();
                self.unloaded = true;
            }
        }
        self
    }

    fn check(&self, path: &[Event]) {
        if self.up && self.matches && !self.unloaded {
            assert!(
                self.flag != self.released,
                "a device that matches and is up has no flag, or has it though it is released: {path:?}"
            );
        }
        assert!(
            self.by_policy || !self.released,
            "released without a record: {path:?}"
        );
        if self.up && !self.matches && !self.asked {
            assert!(!self.flag, "a flag is left behind: {path:?}");
        }
        // One that asks while the flag is ours can't be told from us.
        if self.asked && !self.asked_under_us && self.up {
            assert!(self.flag, "the opener's own flag was taken away: {path:?}");
        }
    }
}

fn explore(world: World, path: &mut Vec<Event>, depth: usize, states: &mut usize) {
    *states += 1;
    world.check(path);
    if depth == 0 {
        return;
    }
    for event in EVENTS {
        path.push(event);
        explore(world.after(event), path, depth - 1, states);
        path.pop();
    }
}

#[test]
fn flags_are_as_the_patterns_and_the_openers_have_them() {
    let mut states = 0;
    explore(World::default(), &mut Vec::new(), 7, &mut states);
    assert!(states > 2_000_000, "seen: {states} states");
}

#[test]
fn lists_are_parsed() {
    assert_eq!(parse(b"\n"), Some(&b""[..]));
    assert_eq!(parse(b" vnet*,tap?[0-9] \n"), Some(&b"vnet*,tap?[0-9]"[..]));
    for bad in [",", "a,", ",a", "a,,b", "a b", "a/b", "a,b\nc", "a\x7f"] {
        assert_eq!(parse(bad.as_bytes()), None, "{bad:?}");
    }
    let list: Vec<_> = patterns(b"vnet*\0tap?\0").collect();
    assert_eq!(list, [c"vnet*", c"tap?"]);
    assert_eq!(patterns(b"").count(), 0);
}
