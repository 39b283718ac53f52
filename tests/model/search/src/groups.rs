// SPDX-License-Identifier: GPL-2.0

//! The groups of runs. The runs of a group have the same actors.

use crate::{
    actors::{Fits, Kind, Order},
    explore::Config,
    world::MOST_SLOTS,
};
use std::ops::RangeInclusive;

/// The number of entries that a call requests.
enum Request {
    Zero,
    Two,
    /// One more than the number of slots.
    More,
}

/// Runs that share their actors, for a range of sizes and batches.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) sizes: RangeInclusive<u8>,
    /// Powers of two, as in the kernel.
    pub(crate) batches: &'static [u8],
    actors: &'static [Kind],
    unconsume: bool,
    drops_allowed: bool,
    backpressure: bool,
    wake_after: u8,
    checkpoints: u8,
    /// The numbers of entries that the consumer requests, besides 1 and the number of slots.
    requests: &'static [Request],
    /// The property that a mistake of the actors violates.
    pub(crate) violates: Option<&'static str>,
}

/// A single sender, which loses no packet.
const ONE_SENDER: Group = Group {
    name: "one-sender",
    about: "one sender, such as a qdisc; it never finds the ring full",
    sizes: 0..=MOST_SLOTS as u8,
    batches: &[1, 2, 4],
    actors: &[Kind::Sender],
    unconsume: false,
    drops_allowed: false,
    backpressure: true,
    wake_after: 50,
    // Rings as small as these have a checkpoint at each slot.
    checkpoints: 8,
    requests: &[Request::Zero, Request::Two, Request::More],
    violates: None,
};

/// Every group.
pub(crate) const GROUPS: &[Group] = &[
    ONE_SENDER,
    Group {
        name: "two-senders",
        about: "two senders that bypass the qdisc, and race",
        actors: &[Kind::Sender, Kind::Sender],
        drops_allowed: true,
        requests: &[Request::Two],
        ..ONE_SENDER
    },
    Group {
        name: "xdp",
        about: "one sender, and XDP, which never checks the queue",
        actors: &[Kind::Sender, Kind::XdpSender],
        drops_allowed: true,
        requests: &[Request::Two],
        ..ONE_SENDER
    },
    Group {
        name: "unconsume",
        about: "ptr_ring_unconsume() returns any number of the entries of the last call",
        unconsume: true,
        drops_allowed: true,
        requests: &[Request::Two],
        ..ONE_SENDER
    },
    Group {
        name: "unconsume-two-senders",
        about: "the same, below two senders",
        actors: &[Kind::Sender, Kind::Sender],
        unconsume: true,
        drops_allowed: true,
        requests: &[Request::Two],
        sizes: 0..=8,
        ..ONE_SENDER
    },
    Group {
        name: "take-over",
        about: "another file is detached, and this one gets its queue, stopped or not",
        actors: &[Kind::Sender, Kind::TakeOver],
        drops_allowed: true,
        requests: &[],
        ..ONE_SENDER
    },
    Group {
        name: "take-over-unconsume",
        about: "the same, with ptr_ring_unconsume()",
        actors: &[Kind::Sender, Kind::TakeOver],
        unconsume: true,
        drops_allowed: true,
        sizes: 0..=6,
        requests: &[Request::Two],
        ..ONE_SENDER
    },
    Group {
        name: "detach",
        about: "this file is detached, and another file gets its queue",
        actors: &[Kind::Sender, Kind::Detach],
        requests: &[Request::Two],
        ..ONE_SENDER
    },
    Group {
        name: "attach",
        about: "this file becomes a queue of a device, whose layout is known or not",
        actors: &[Kind::Sender, Kind::Attach],
        requests: &[Request::Two],
        ..ONE_SENDER
    },
    Group {
        name: "remove",
        about: "the device is removed",
        actors: &[Kind::Sender, Kind::Remove],
        requests: &[Request::Two],
        ..ONE_SENDER
    },
    Group {
        name: "link",
        about: "the link goes down and up",
        actors: &[Kind::Sender, Kind::Link],
        drops_allowed: true,
        requests: &[Request::Two],
        ..ONE_SENDER
    },
    Group {
        name: "link-two-senders",
        about: "the same, below two senders",
        actors: &[Kind::Sender, Kind::Sender, Kind::Link],
        drops_allowed: true,
        requests: &[Request::Two],
        sizes: 0..=6,
        ..ONE_SENDER
    },
    Group {
        name: "force-wake",
        about: "tun_force_wake_queue() at any time",
        actors: &[Kind::Sender, Kind::ForceWake],
        drops_allowed: true,
        requests: &[Request::Two],
        ..ONE_SENDER
    },
    Group {
        name: "resize",
        about: "the ring is resized to any size from 0 to 6",
        sizes: 0..=6,
        batches: &[2],
        actors: &[Kind::Sender, Kind::Resize(6)],
        drops_allowed: true,
        ..ONE_SENDER
    },
    Group {
        name: "fit",
        about: "a scan gives the ring any size from 1 to 6 that fits; nothing is lost",
        sizes: 1..=6,
        batches: &[2],
        actors: &[Kind::Sender, Kind::Fit(6, Fits::Correct)],
        ..ONE_SENDER
    },
    Group {
        name: "fit-two-senders",
        about: "the same, below two senders",
        sizes: 1..=4,
        batches: &[2],
        actors: &[Kind::Sender, Kind::Sender, Kind::Fit(4, Fits::Correct)],
        drops_allowed: true,
        requests: &[],
        ..ONE_SENDER
    },
    Group {
        name: "fit-release",
        about: "the same, and the device is released at any time",
        sizes: 1..=4,
        batches: &[2],
        actors: &[
            Kind::Sender,
            Kind::Release(Order::Correct),
            Kind::Fit(4, Fits::Correct),
        ],
        drops_allowed: true,
        requests: &[],
        ..ONE_SENDER
    },
    Group {
        name: "fit+full",
        about: "a scan gives the ring a size that its entries fill, below a running queue",
        sizes: 1..=4,
        batches: &[2],
        actors: &[Kind::Sender, Kind::Fit(4, Fits::Full)],
        requests: &[],
        violates: Some("no-drop"),
        ..ONE_SENDER
    },
    Group {
        name: "release",
        about: "the consumer rests for any time; the device is released, and gets the flag again later",
        actors: &[Kind::Sender, Kind::Release(Order::Correct)],
        drops_allowed: true,
        requests: &[Request::Two],
        sizes: 0..=8,
        ..ONE_SENDER
    },
    Group {
        name: "release-two-senders",
        about: "the same, below two senders",
        actors: &[Kind::Sender, Kind::Sender, Kind::Release(Order::Correct)],
        drops_allowed: true,
        requests: &[],
        sizes: 0..=4,
        ..ONE_SENDER
    },
    Group {
        name: "release+no-lock",
        about: "the device is released without the locks",
        actors: &[
            Kind::Sender,
            Kind::Sender,
            Kind::Release(Order::WithoutLocks),
        ],
        drops_allowed: true,
        requests: &[],
        sizes: 0..=4,
        violates: Some("release"),
        ..ONE_SENDER
    },
    Group {
        name: "release+wake-first",
        about: "a release wakes the queue before it clears the flag",
        actors: &[Kind::Sender, Kind::Release(Order::WakeFirst)],
        drops_allowed: true,
        requests: &[],
        sizes: 0..=4,
        violates: Some("release"),
        ..ONE_SENDER
    },
    Group {
        name: "reader",
        about: "tun's read() consumes, too",
        actors: &[Kind::Sender, Kind::Reader],
        drops_allowed: true,
        sizes: 0..=6,
        ..ONE_SENDER
    },
    Group {
        name: "checkpoints",
        about: "checkpoints are 2 to 8 slots apart, so not each call that frees slots checks the queue",
        checkpoints: 1,
        ..ONE_SENDER
    },
    Group {
        name: "checkpoints-two-senders",
        about: "the same, below two senders, with ptr_ring_unconsume()",
        actors: &[Kind::Sender, Kind::Sender],
        unconsume: true,
        drops_allowed: true,
        requests: &[],
        sizes: 2..=6,
        checkpoints: 1,
        ..ONE_SENDER
    },
    Group {
        name: "checkpoints-take-over",
        about: "the same, and another file's queue is taken over, stopped or not",
        actors: &[Kind::Sender, Kind::TakeOver],
        drops_allowed: true,
        requests: &[],
        sizes: 2..=8,
        checkpoints: 1,
        ..ONE_SENDER
    },
    Group {
        name: "wake-early",
        about: "a wake as soon as a slot is free",
        wake_after: 1,
        ..ONE_SENDER
    },
    Group {
        name: "wake-late",
        about: "a wake once the whole ring was freed; checkpoints are 2 to 4 slots apart",
        wake_after: 100,
        checkpoints: 2,
        ..ONE_SENDER
    },
    Group {
        name: "foreign-stop",
        about: "no backpressure; the queue is stopped for another reason, and stays stopped",
        actors: &[Kind::Sender, Kind::Stopper],
        drops_allowed: true,
        backpressure: false,
        ..ONE_SENDER
    },
];

impl Group {
    /// Returns the numbers of entries that the consumer requests, as text.
    pub(crate) fn requests(&self) -> &'static str {
        match self.requests.len() {
            0 => "1 and size",
            1 => "1, 2 and size",
            _ => "0, 1, 2, size and size + 1",
        }
    }

    /// Returns the runs of the group, small rings first.
    pub(crate) fn configs(&self) -> Vec<Config> {
        let mut configs = Vec::new();
        for size in self.sizes.clone() {
            for &batch in self.batches {
                let mut requests = vec![1, size.max(1)];
                requests.extend(self.requests.iter().map(|request| match request {
                    Request::Zero => 0,
                    Request::Two => 2,
                    Request::More => size + 1,
                }));
                requests.sort_unstable();
                requests.dedup();
                configs.push(Config {
                    size,
                    batch,
                    requests,
                    unconsume: self.unconsume,
                    actors: self.actors.to_vec(),
                    drops_allowed: self.drops_allowed,
                    backpressure: self.backpressure,
                    wake_after: self.wake_after,
                    checkpoints: self.checkpoints,
                });
            }
        }
        // Batches that the kernel uses come first.
        configs.sort_by_key(|config| config.batch > (config.size / 2).max(1));
        configs
    }
}
