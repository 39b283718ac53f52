// SPDX-License-Identifier: GPL-2.0

//! A state of the world: the memory that is shared, and where each actor is.

use crate::script::{Breach, Place};
use std::{
    fmt,
    hash::{Hash, Hasher},
};

/// The largest ring.
pub(crate) const MOST_SLOTS: usize = 10;

/// The most actors besides the consumer.
pub(crate) const MOST_ACTORS: usize = 3;

/// A free slot. Anything else in a slot is an entry's number.
pub(crate) const FREE: u8 = 0xff;

/// The consumer is not in a call.
pub(crate) const IDLE: Place = Place::MAX;

/// Entries are numbered in the order of production, modulo this. There are never more than two
/// ring-fulls about, so an entry with a number from here to half of it is still to be handed out,
/// and one with a larger number has been.
const NUMBERS: u8 = 64;

/// How far the entry `number` is after `base`.
pub(crate) fn after(number: u8, base: u8) -> u8 {
    number.wrapping_sub(base) % NUMBERS
}

/// Who holds a lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Holder {
    #[default]
    Nobody,
    Consumer,
    /// The actor of that index.
    Actor(u8),
}

impl Hash for Holder {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u8(match *self {
            Self::Nobody => 0,
            Self::Consumer => 1,
            Self::Actor(index) => index + 2,
        });
    }
}

/// The consumer, between two of its accesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Consumer {
    /// Where in a call, or [`IDLE`].
    pub(crate) place: Place,
    /// How many entries the call has moved the head past. Those that it reads are numbered from
    /// the first of them.
    pub(crate) passed: u8,
    /// How many entries of the last call may still be handed back.
    pub(crate) hand: u8,
    /// Whether it is in an RCU section.
    pub(crate) rcu: bool,
}

/// Another actor, between two of its steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Actor {
    /// Its next step; 0 is where it rests.
    pub(crate) step: u8,
    /// What it remembers.
    pub(crate) note: u8,
}

/// All of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) slots: [u8; MOST_SLOTS],
    pub(crate) size: u8,
    pub(crate) batch: u8,
    pub(crate) producer: u8,
    pub(crate) head: u8,
    pub(crate) tail: u8,
    /// The number of the next entry to be produced.
    pub(crate) next_in: u8,
    /// The number of the next entry to be taken.
    pub(crate) next_out: u8,
    pub(crate) consumer_lock: Holder,
    pub(crate) producer_lock: Holder,
    /// `tfile->tun` is not NULL.
    pub(crate) attached: bool,
    /// The device has `IFF_BACKPRESSURE`.
    pub(crate) flag: bool,
    /// The driver's layout was compared, and matches.
    pub(crate) layout_known: bool,
    /// The device has been freed.
    pub(crate) gone: bool,
    pub(crate) running: bool,
    /// `tun_net_close()` has stopped the queues.
    pub(crate) closed: bool,
    pub(crate) queue_index: u8,
    /// `cons_cnt`.
    pub(crate) count: u8,
    /// Per queue: stopped.
    pub(crate) stopped: [bool; 2],
    /// Per queue: `tun->tfiles[i]` is this file.
    pub(crate) owned: [bool; 2],
    pub(crate) consumer: Consumer,
    pub(crate) actors: [Actor; MOST_ACTORS],
}

impl State {
    /// An empty ring with all its indices at `offset`.
    pub(crate) fn new(size: u8, batch: u8, offset: u8) -> Self {
        Self {
            slots: [FREE; MOST_SLOTS],
            size,
            batch,
            producer: offset,
            head: offset,
            tail: offset,
            next_in: 0,
            next_out: 0,
            consumer_lock: Holder::Nobody,
            producer_lock: Holder::Nobody,
            attached: true,
            flag: true,
            layout_known: true,
            gone: false,
            running: true,
            closed: false,
            queue_index: 0,
            count: 0,
            stopped: [false; 2],
            owned: [true, false],
            consumer: Consumer {
                place: IDLE,
                passed: 0,
                hand: 0,
                rcu: false,
            },
            actors: [Actor::default(); MOST_ACTORS],
        }
    }

    /// The slot of that index, if there is one.
    pub(crate) fn slot(&self, index: u8) -> Option<u8> {
        self.slots[..usize::from(self.size)]
            .get(usize::from(index))
            .copied()
    }

    /// The slot that the next entry goes to is free; `None` in a ring without slots.
    pub(crate) fn has_room(&self) -> Option<bool> {
        self.slot(self.producer).map(|entry| entry == FREE)
    }

    /// The slot at the head is free. So is it, to the kernel, in a ring without slots.
    pub(crate) fn is_dry(&self) -> bool {
        self.slot(self.head).is_none_or(|entry| entry == FREE)
    }

    /// The index after that one.
    pub(crate) fn following(&self, index: u8) -> u8 {
        if index + 1 >= self.size { 0 } else { index + 1 }
    }

    /// Numbers the entries from the next one to be handed out, so that a state does not depend on
    /// how many there were before, and forgets what no longer matters.
    pub(crate) fn renumber(&mut self) {
        // Of a queue that is not this file's nobody here asks any more.
        if !self.owned[1] {
            self.stopped[1] = false;
        }
        let base = self.next_out;
        if base == 0 {
            return;
        }
        for slot in &mut self.slots {
            if *slot != FREE {
                *slot = after(*slot, base);
            }
        }
        self.next_in = after(self.next_in, base);
        self.next_out = 0;
    }

    /// What must hold in every state.
    pub(crate) fn check(&self) -> Result<(), Breach> {
        if after(self.next_in, self.next_out) > NUMBERS / 2 {
            return Err(Breach::new(
                "conservation",
                "more entries were taken than produced",
            ));
        }
        if self.consumer_lock != Holder::Nobody || self.producer_lock != Holder::Nobody {
            return Ok(());
        }
        // At rest: the tail lags by less than a batch, what lies between is consumed, what follows
        // is what is left, in order, and what follows that is free.
        if self.size > 0 {
            let lag = self.head.checked_sub(self.tail);
            if lag.is_none_or(|lag| lag >= self.batch) || self.head >= self.size {
                return Err(Breach::new(
                    "geometry",
                    format!(
                        "head {}, tail {}, batch {}",
                        self.head, self.tail, self.batch
                    ),
                ));
            }
        }
        let left = after(self.next_in, self.next_out);
        let mut index = self.head;
        let lag = self.head - self.tail;
        for place in 0..self.size {
            let entry = self.slots[usize::from(index)];
            let fits = if place < left {
                entry == (self.next_out + place) % NUMBERS
            } else if place + lag >= self.size {
                entry != FREE
            } else {
                entry == FREE
            };
            if !fits {
                return Err(Breach::new(
                    "conservation",
                    format!("slot {index} is not as it should be"),
                ));
            }
            index = self.following(index);
        }
        if left > self.size {
            return Err(Breach::new(
                "conservation",
                "more entries are left than there are slots",
            ));
        }
        Ok(())
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flag = |set, name| if set { name } else { "" };
        write!(f, "[")?;
        for (index, &entry) in (0..).zip(&self.slots[..usize::from(self.size)]) {
            let mark = if index == self.head { "^" } else { "" };
            match entry {
                FREE => write!(f, " {mark}.")?,
                entry if entry >= NUMBERS / 2 => write!(f, " {mark}x")?,
                entry => write!(f, " {mark}{entry}")?,
            }
        }
        write!(
            f,
            " ] tail {} producer {} count {}{}{}{}{}{}{}{}",
            self.tail,
            self.producer,
            self.count,
            flag(self.stopped[0], " stopped"),
            flag(self.stopped[1], " stopped[1]"),
            flag(!self.running, " down"),
            flag(self.closed, " closed"),
            flag(!self.attached, " without device"),
            flag(!self.flag, " without the flag"),
            flag(!self.layout_known, " of unknown layout"),
        )
    }
}
