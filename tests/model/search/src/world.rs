// SPDX-License-Identifier: GPL-2.0

//! A state of the world: the shared memory, and the next step of each actor.

use crate::script::{Breach, Place};
use std::{
    fmt,
    hash::{Hash, Hasher},
};

/// The largest ring.
pub(crate) const MOST_SLOTS: usize = 10;

/// The largest number of actors besides the consumer.
pub(crate) const MOST_ACTORS: usize = 3;

/// A free slot. Any other value of a slot is the number of an entry.
pub(crate) const FREE: u8 = 0xff;

/// The consumer is not in a call.
pub(crate) const IDLE: Place = Place::MAX;

/// Entries are numbered in the order of production, modulo this number. At most two ring-fulls of
/// entries exist at a time. So an entry is still to be taken if its distance from the next one to be
/// taken is less than half of this number, and was taken otherwise.
const NUMBERS: u8 = 64;

/// Returns the distance of the entry `number` from `base`.
pub(crate) fn after(number: u8, base: u8) -> u8 {
    number.wrapping_sub(base) % NUMBERS
}

/// The holder of a lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Holder {
    #[default]
    Free,
    Consumer,
    /// The actor with this index.
    Actor(u8),
}

impl Hash for Holder {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u8(match *self {
            Self::Free => 0,
            Self::Consumer => 1,
            Self::Actor(index) => index + 2,
        });
    }
}

/// The consumer, between two of its accesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Consumer {
    /// The place in a call, or [`IDLE`].
    pub(crate) place: Place,
    /// The number of entries that the call has moved the head past. The entries that it reads are
    /// numbered from the first of these.
    pub(crate) passed: u8,
    /// The number of entries of the last call that may still be unconsumed.
    pub(crate) unconsumable: u8,
    /// Whether it is inside an RCU section.
    pub(crate) rcu: bool,
}

/// Another actor, between two of its steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Actor {
    /// The next step; at 0 the actor rests.
    pub(crate) step: u8,
    /// A value that it keeps from an earlier step.
    pub(crate) note: u8,
}

/// The state of all memory and all actors.
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
    /// The layout of the driver was checked, and matches.
    pub(crate) layout_known: bool,
    /// The device has been freed.
    pub(crate) gone: bool,
    pub(crate) running: bool,
    /// `tun_net_close()` has stopped the queues.
    pub(crate) closed: bool,
    pub(crate) queue_index: u8,
    /// `cons_cnt`.
    pub(crate) count: u8,
    /// For each queue, whether it is stopped.
    pub(crate) stopped: [bool; 2],
    /// For each queue, whether `tun->tfiles[i]` is this file.
    pub(crate) owned: [bool; 2],
    pub(crate) consumer: Consumer,
    pub(crate) actors: [Actor; MOST_ACTORS],
}

impl State {
    /// Returns a state with an empty ring whose indices are all `offset`.
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
            consumer_lock: Holder::Free,
            producer_lock: Holder::Free,
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
                unconsumable: 0,
                rcu: false,
            },
            actors: [Actor::default(); MOST_ACTORS],
        }
    }

    /// Returns the slot with this index, if there is one.
    pub(crate) fn slot(&self, index: u8) -> Option<u8> {
        self.slots[..usize::from(self.size)]
            .get(usize::from(index))
            .copied()
    }

    /// Returns whether the slot for the next entry is free; `None` for a ring without slots.
    pub(crate) fn has_room(&self) -> Option<bool> {
        self.slot(self.producer).map(|entry| entry == FREE)
    }

    /// Returns whether the slot at the head is free. To the kernel, a ring without slots is empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.slot(self.head).is_none_or(|entry| entry == FREE)
    }

    /// Returns the index after this one.
    pub(crate) fn following(&self, index: u8) -> u8 {
        if index + 1 >= self.size { 0 } else { index + 1 }
    }

    /// Numbers the entries from the next one to be taken, so that a state does not depend on the number
    /// of earlier entries. Resets fields that no longer matter.
    pub(crate) fn renumber(&mut self) {
        // No actor checks queue 1 after this file has lost it.
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

    /// Checks the properties of every state.
    pub(crate) fn check(&self) -> Result<(), Breach> {
        if after(self.next_in, self.next_out) > NUMBERS / 2 {
            return Err(Breach::new(
                "conservation",
                "more entries were taken than produced",
            ));
        }
        if self.consumer_lock != Holder::Free || self.producer_lock != Holder::Free {
            return Ok(());
        }
        // While no lock is held: the tail lags by less than a batch; the slots from the tail to the head
        // are consumed; the remaining entries follow in order; all other slots are free.
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
        let remaining = after(self.next_in, self.next_out);
        let mut index = self.head;
        let lag = self.head - self.tail;
        for place in 0..self.size {
            let entry = self.slots[usize::from(index)];
            let fits = if place < remaining {
                entry == (self.next_out + place) % NUMBERS
            } else if place + lag >= self.size {
                entry != FREE
            } else {
                entry == FREE
            };
            if !fits {
                return Err(Breach::new(
                    "conservation",
                    format!("slot {index} has a wrong entry"),
                ));
            }
            index = self.following(index);
        }
        if remaining > self.size {
            return Err(Breach::new("conservation", "more entries than slots"));
        }
        Ok(())
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flag = |set, name| if set { name } else { "" };
        write!(f, "[")?;
        for (index, &entry) in (0..).zip(&self.slots[..usize::from(self.size)]) {
            let caret = if index == self.head { "^" } else { "" };
            match entry {
                FREE => write!(f, " {caret}.")?,
                entry if entry >= NUMBERS / 2 => write!(f, " {caret}x")?,
                entry => write!(f, " {caret}{entry}")?,
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
            flag(!self.flag, " without flag"),
            flag(!self.layout_known, " with unknown layout"),
        )
    }
}
