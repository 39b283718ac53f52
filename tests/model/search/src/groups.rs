// SPDX-License-Identifier: GPL-2.0

//! What is searched: groups of runs that have their actors in common.

use crate::{
    actors::{Fits, Kind, Order},
    explore::Config,
    world::MOST_SLOTS,
};
use std::ops::RangeInclusive;

/// A number of entries to call for.
enum Ask {
    Zero,
    Two,
    /// More than there are slots.
    More,
}

/// Runs that share their actors, for a range of sizes and batches.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) sizes: RangeInclusive<u8>,
    /// Powers of two, as the kernel's are.
    pub(crate) batches: &'static [u8],
    actors: &'static [Kind],
    hand_back: bool,
    drops_allowed: bool,
    backpressure: bool,
    wake_after: u8,
    checkpoints: u8,
    /// For how many entries the consumer calls, beside 1 and as many as there are slots.
    asks: &'static [Ask],
    /// The property that a mistake of the actors breaks.
    pub(crate) breaks: Option<&'static str>,
}

/// A group of one sender that loses nothing, and nobody else.
const PLAIN: Group = Group {
    name: "one-sender",
    about: "one sender above, as a qdisc is; it never finds the ring full",
    sizes: 0..=MOST_SLOTS as u8,
    batches: &[1, 2, 4],
    actors: &[Kind::Sender],
    hand_back: false,
    drops_allowed: false,
    backpressure: true,
    wake_after: 50,
    // In rings as small as these a mark at each slot.
    checkpoints: 8,
    asks: &[Ask::Zero, Ask::Two, Ask::More],
    breaks: None,
};

/// Every group.
pub(crate) const GROUPS: &[Group] = &[
    PLAIN,
    Group {
        name: "two-senders",
        about: "two senders that bypass the qdisc, and race",
        actors: &[Kind::Sender, Kind::Sender],
        drops_allowed: true,
        asks: &[Ask::Two],
        ..PLAIN
    },
    Group {
        name: "xdp",
        about: "one sender, and XDP, which never looks at the queue",
        actors: &[Kind::Sender, Kind::XdpSender],
        drops_allowed: true,
        asks: &[Ask::Two],
        ..PLAIN
    },
    Group {
        name: "unconsume",
        about: "entries return by ptr_ring_unconsume(), any number of those of the last call",
        hand_back: true,
        drops_allowed: true,
        asks: &[Ask::Two],
        ..PLAIN
    },
    Group {
        name: "unconsume-two-senders",
        about: "the same, below two senders",
        actors: &[Kind::Sender, Kind::Sender],
        hand_back: true,
        drops_allowed: true,
        asks: &[Ask::Two],
        sizes: 0..=8,
        ..PLAIN
    },
    Group {
        name: "take-over",
        about: "another file is detached, and this one gets its queue, stopped or not",
        actors: &[Kind::Sender, Kind::TakeOver],
        drops_allowed: true,
        asks: &[],
        ..PLAIN
    },
    Group {
        name: "take-over-unconsume",
        about: "the same, with ptr_ring_unconsume()",
        actors: &[Kind::Sender, Kind::TakeOver],
        hand_back: true,
        drops_allowed: true,
        sizes: 0..=6,
        asks: &[Ask::Two],
        ..PLAIN
    },
    Group {
        name: "detach",
        about: "this file is detached, and its queue becomes another's",
        actors: &[Kind::Sender, Kind::Detach],
        asks: &[Ask::Two],
        ..PLAIN
    },
    Group {
        name: "attach",
        about: "this file becomes a queue of a device, whose layout is known or not",
        actors: &[Kind::Sender, Kind::Attach],
        asks: &[Ask::Two],
        ..PLAIN
    },
    Group {
        name: "remove",
        about: "the device is removed",
        actors: &[Kind::Sender, Kind::Remove],
        asks: &[Ask::Two],
        ..PLAIN
    },
    Group {
        name: "link",
        about: "the link goes down and up",
        actors: &[Kind::Sender, Kind::Link],
        drops_allowed: true,
        asks: &[Ask::Two],
        ..PLAIN
    },
    Group {
        name: "link-two-senders",
        about: "the same, below two senders",
        actors: &[Kind::Sender, Kind::Sender, Kind::Link],
        drops_allowed: true,
        asks: &[Ask::Two],
        sizes: 0..=6,
        ..PLAIN
    },
    Group {
        name: "force-wake",
        about: "tun_force_wake_queue() at any time",
        actors: &[Kind::Sender, Kind::ForceWake],
        drops_allowed: true,
        asks: &[Ask::Two],
        ..PLAIN
    },
    Group {
        name: "resize",
        about: "the ring is resized to any size from 0 to 6",
        sizes: 0..=6,
        batches: &[2],
        actors: &[Kind::Sender, Kind::Resize(6)],
        drops_allowed: true,
        ..PLAIN
    },
    Group {
        name: "fit",
        about: "a scan gives the ring any size from 1 to 6 that fits; nothing is lost",
        sizes: 1..=6,
        batches: &[2],
        actors: &[Kind::Sender, Kind::Fit(6, Fits::AsItIs)],
        ..PLAIN
    },
    Group {
        name: "fit-two-senders",
        about: "the same, below two senders",
        sizes: 1..=4,
        batches: &[2],
        actors: &[Kind::Sender, Kind::Sender, Kind::Fit(4, Fits::AsItIs)],
        drops_allowed: true,
        asks: &[],
        ..PLAIN
    },
    Group {
        name: "fit-release",
        about: "the same, and the device is released at any time",
        sizes: 1..=4,
        batches: &[2],
        actors: &[
            Kind::Sender,
            Kind::Release(Order::AsItIs),
            Kind::Fit(4, Fits::AsItIs),
        ],
        drops_allowed: true,
        asks: &[],
        ..PLAIN
    },
    Group {
        name: "fit+full",
        about: "a scan that gives a ring a size that its entries fill, below a running queue",
        sizes: 1..=4,
        batches: &[2],
        actors: &[Kind::Sender, Kind::Fit(4, Fits::Full)],
        asks: &[],
        breaks: Some("no-drop"),
        ..PLAIN
    },
    Group {
        name: "release",
        about: "the consumer rests for any time; the device is released, and has the flag again later",
        actors: &[Kind::Sender, Kind::Release(Order::AsItIs)],
        drops_allowed: true,
        asks: &[Ask::Two],
        sizes: 0..=8,
        ..PLAIN
    },
    Group {
        name: "release-two-senders",
        about: "the same, below two senders",
        actors: &[Kind::Sender, Kind::Sender, Kind::Release(Order::AsItIs)],
        drops_allowed: true,
        asks: &[],
        sizes: 0..=4,
        ..PLAIN
    },
    Group {
        name: "release+no-lock",
        about: "a release that wakes the queue without the locks",
        actors: &[
            Kind::Sender,
            Kind::Sender,
            Kind::Release(Order::WithoutLocks),
        ],
        drops_allowed: true,
        asks: &[],
        sizes: 0..=4,
        breaks: Some("release"),
        ..PLAIN
    },
    Group {
        name: "release+wake-first",
        about: "a release that wakes the queue before it clears the flag",
        actors: &[Kind::Sender, Kind::Release(Order::WakeFirst)],
        drops_allowed: true,
        asks: &[],
        sizes: 0..=4,
        breaks: Some("release"),
        ..PLAIN
    },
    Group {
        name: "reader",
        about: "tun's own read() consumes, too",
        actors: &[Kind::Sender, Kind::Reader],
        drops_allowed: true,
        sizes: 0..=6,
        ..PLAIN
    },
    Group {
        name: "checkpoints",
        about: "checkpoints are 2 to 8 slots apart, so not each call that frees slots checks the queue",
        checkpoints: 1,
        ..PLAIN
    },
    Group {
        name: "checkpoints-two-senders",
        about: "the same, below two senders, with ptr_ring_unconsume()",
        actors: &[Kind::Sender, Kind::Sender],
        hand_back: true,
        drops_allowed: true,
        asks: &[],
        sizes: 2..=6,
        checkpoints: 1,
        ..PLAIN
    },
    Group {
        name: "checkpoints-take-over",
        about: "the same, and another file's queue is taken over, stopped or not",
        actors: &[Kind::Sender, Kind::TakeOver],
        drops_allowed: true,
        asks: &[],
        sizes: 2..=8,
        checkpoints: 1,
        ..PLAIN
    },
    Group {
        name: "wake-early",
        about: "a wake as soon as a slot is free",
        wake_after: 1,
        ..PLAIN
    },
    Group {
        name: "wake-late",
        about: "a wake when as many slots were freed as there are, checkpoints 2 to 4 slots apart",
        wake_after: 100,
        checkpoints: 2,
        ..PLAIN
    },
    Group {
        name: "foreign-stop",
        about: "no backpressure, and something else stops the queue: it stays stopped",
        actors: &[Kind::Sender, Kind::Stopper],
        drops_allowed: true,
        backpressure: false,
        ..PLAIN
    },
];

impl Group {
    /// For how many entries the consumer calls.
    pub(crate) fn asks(&self) -> &'static str {
        match self.asks.len() {
            0 => "1 and size",
            1 => "1, 2 and size",
            _ => "0, 1, 2, size and size + 1",
        }
    }

    /// Its runs, the small ones first.
    pub(crate) fn configs(&self) -> Vec<Config> {
        let mut configs = Vec::new();
        for size in self.sizes.clone() {
            for &batch in self.batches {
                let mut asks = vec![1, size.max(1)];
                asks.extend(self.asks.iter().map(|ask| match ask {
                    Ask::Zero => 0,
                    Ask::Two => 2,
                    Ask::More => size + 1,
                }));
                asks.sort_unstable();
                asks.dedup();
                configs.push(Config {
                    size,
                    batch,
                    asks,
                    hand_back: self.hand_back,
                    actors: self.actors.to_vec(),
                    drops_allowed: self.drops_allowed,
                    backpressure: self.backpressure,
                    wake_after: self.wake_after,
                    checkpoints: self.checkpoints,
                });
            }
        }
        // Those first that a kernel can have.
        configs.sort_by_key(|config| config.batch > (config.size / 2).max(1));
        configs
    }
}
