// SPDX-License-Identifier: GPL-2.0

//! Tracks the numbers seen from each sender exactly, with a bitmap per sender.
//!
//! Memory is bounded. A bitmap is kept in chunks of [`CHUNK_NUMBERS`] numbers (8 KiB each), and a
//! chunk whose numbers were all seen gives its memory back, so a run without gaps needs next to
//! nothing. The caps are [`MAX_SENDERS`] senders, numbers below [`MAX_NUMBER`], and [`MAX_CHUNKS`]
//! incomplete chunks at a time over all senders (512 MiB). A packet beyond a cap is reported as
//! [`Verdict::Beyond`], never miscounted.

use std::collections::BTreeMap;

use crate::packet::Numbered;

/// The maximum number of senders.
pub const MAX_SENDERS: usize = 64;

/// Numbers from here on are not tracked.
pub const MAX_NUMBER: u64 = 1 << 32;

/// Numbers per chunk of a bitmap.
pub const CHUNK_NUMBERS: u64 = 1 << 16;

/// The maximum number of incomplete chunks of all senders.
pub const MAX_CHUNKS: usize = 1 << 16;

const WORDS: usize = (CHUNK_NUMBERS / 64) as usize;

/// The status of a numbered packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its number was not seen before.
    New,
    /// Its number was seen before.
    Duplicate,
    /// It is beyond a cap (see the module's documentation).
    Beyond,
}

/// The origin of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Through a virtqueue.
    Virtqueue,
    /// Read from the tap after vhost was detached.
    Leftover,
}

#[derive(Debug, Default)]
enum Chunk {
    /// No number was seen.
    #[default]
    Empty,
    /// Some were.
    Partial { seen: u32, bits: Box<[u64; WORDS]> },
    /// All were.
    Full,
}

/// The account of one sender.
#[derive(Debug, Default)]
pub struct Sender {
    chunks: Vec<Chunk>,
    /// The highest number seen.
    pub highest: u64,
    /// Distinct numbers that came through a virtqueue.
    pub received: u64,
    /// Distinct numbers that were left in the ring.
    pub leftover: u64,
    /// Packets whose number is below one that came before.
    pub reorders: u64,
    /// Packets whose number was seen before.
    pub duplicates: u64,
}

impl Sender {
    /// Numbers between 0 and the highest one seen that are missing.
    pub fn gaps(&self) -> u64 {
        match self.received + self.leftover {
            0 => 0,
            seen => self.highest + 1 - seen,
        }
    }
}

/// The account of all senders.
#[derive(Debug, Default)]
pub struct Tracker {
    senders: BTreeMap<u16, Sender>,
    partial_chunks: usize,
}

impl Tracker {
    /// Records a packet.
    pub fn see(&mut self, packet: Numbered, source: Source) -> Verdict {
        let Numbered { sender, number } = packet;
        if number >= MAX_NUMBER {
            return Verdict::Beyond;
        }
        if self.senders.len() >= MAX_SENDERS && !self.senders.contains_key(&sender) {
            return Verdict::Beyond;
        }
        let sender = self.senders.entry(sender).or_default();

        let index = (number / CHUNK_NUMBERS) as usize;
        if index >= sender.chunks.len() {
            sender.chunks.resize_with(index + 1, Chunk::default);
        }
        let chunk = &mut sender.chunks[index];
        if matches!(chunk, Chunk::Empty) {
            if self.partial_chunks >= MAX_CHUNKS {
                return Verdict::Beyond;
            }
            self.partial_chunks += 1;
            *chunk = Chunk::Partial {
                seen: 0,
                bits: Box::new([0; WORDS]),
            };
        }

        let new = match chunk {
            Chunk::Partial { seen, bits } => {
                let bit = number % CHUNK_NUMBERS;
                let word = &mut bits[(bit / 64) as usize];
                let mask = 1 << (bit % 64);
                let new = *word & mask == 0;
                *word |= mask;
                *seen += u32::from(new);
                if u64::from(*seen) == CHUNK_NUMBERS {
                    *chunk = Chunk::Full;
                    self.partial_chunks -= 1;
                }
                new
            }
            Chunk::Empty | Chunk::Full => false,
        };
        if !new {
            sender.duplicates += 1;
            return Verdict::Duplicate;
        }

        if number < sender.highest {
            sender.reorders += 1;
        } else {
            sender.highest = number;
        }
        match source {
            Source::Virtqueue => sender.received += 1,
            Source::Leftover => sender.leftover += 1,
        }
        Verdict::New
    }

    /// The known senders, by id.
    pub fn senders(&self) -> impl Iterator<Item = (u16, &Sender)> {
        self.senders.iter().map(|(&id, sender)| (id, sender))
    }

    /// A sum over all senders.
    pub fn total(&self, of: impl Fn(&Sender) -> u64) -> u64 {
        self.senders.values().map(of).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn see(tracker: &mut Tracker, sender: u16, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            tracker.see(Numbered { sender, number }, Source::Virtqueue);
        }
    }

    fn only(tracker: &Tracker) -> &Sender {
        let mut senders = tracker.senders();
        let sender = senders.next().unwrap().1;
        assert!(senders.next().is_none());
        sender
    }

    #[test]
    fn counts_packets_in_order() {
        let mut tracker = Tracker::default();
        see(&mut tracker, 0, 0..200_000);
        let sender = only(&tracker);
        assert_eq!((sender.received, sender.highest), (200_000, 199_999));
        assert_eq!(
            (sender.gaps(), sender.reorders, sender.duplicates),
            (0, 0, 0)
        );
        assert_eq!(tracker.partial_chunks, 1, "full chunks are given back");
    }

    #[test]
    fn counts_gaps_reorders_and_duplicates() {
        let mut tracker = Tracker::default();
        see(&mut tracker, 3, [2, 5, 4, 5, 4, 9]);
        let sender = only(&tracker);
        assert_eq!((sender.received, sender.highest), (4, 9));
        assert_eq!(sender.gaps(), 6, "0, 1, 3, 6, 7, 8");
        assert_eq!(
            sender.reorders, 1,
            "the first 4; its copy is a duplicate only"
        );
        assert_eq!(sender.duplicates, 2);
        see(&mut tracker, 3, [0, 1, 3, 6, 7, 8]);
        assert_eq!(only(&tracker).gaps(), 0);
        assert_eq!(only(&tracker).reorders, 7);
    }

    #[test]
    fn counts_a_duplicate_of_number_zero() {
        let mut tracker = Tracker::default();
        see(&mut tracker, 0, [0, 0]);
        let sender = only(&tracker);
        assert_eq!(
            (sender.received, sender.reorders, sender.duplicates),
            (1, 0, 1)
        );
    }

    #[test]
    fn counts_duplicates_of_a_full_chunk() {
        let mut tracker = Tracker::default();
        see(&mut tracker, 0, (0..CHUNK_NUMBERS).rev());
        assert_eq!(tracker.partial_chunks, 0);
        see(&mut tracker, 0, [0, CHUNK_NUMBERS - 1]);
        let sender = only(&tracker);
        assert_eq!((sender.received, sender.duplicates), (CHUNK_NUMBERS, 2));
        assert_eq!(sender.reorders, CHUNK_NUMBERS - 1);
    }

    #[test]
    fn counts_each_sender_apart() {
        let mut tracker = Tracker::default();
        see(&mut tracker, 1, 0..10);
        see(&mut tracker, 2, [5]);
        let all: Vec<_> = tracker
            .senders()
            .map(|(id, sender)| (id, sender.received, sender.gaps()))
            .collect();
        assert_eq!(all, [(1, 10, 0), (2, 1, 5)]);
        assert_eq!(tracker.total(|sender| sender.received), 11);
    }

    #[test]
    fn leftovers_close_gaps_but_are_not_received() {
        let mut tracker = Tracker::default();
        see(&mut tracker, 0, 0..3);
        for number in 3..5 {
            let packet = Numbered { sender: 0, number };
            assert_eq!(tracker.see(packet, Source::Leftover), Verdict::New);
        }
        let sender = only(&tracker);
        assert_eq!((sender.received, sender.leftover, sender.gaps()), (3, 2, 0));
    }

    #[test]
    fn ignores_senders_and_numbers_beyond_the_limits() {
        let mut tracker = Tracker::default();
        for sender in 0..MAX_SENDERS as u16 {
            see(&mut tracker, sender, [0]);
        }
        let see = |tracker: &mut Tracker, sender, number| {
            tracker.see(Numbered { sender, number }, Source::Virtqueue)
        };
        assert_eq!(see(&mut tracker, 1000, 0), Verdict::Beyond);
        assert_eq!(see(&mut tracker, 0, MAX_NUMBER), Verdict::Beyond);
        assert_eq!(see(&mut tracker, 0, u64::MAX), Verdict::Beyond);
        assert_eq!(see(&mut tracker, 0, MAX_NUMBER - 1), Verdict::New);
        assert_eq!(tracker.senders().count(), MAX_SENDERS);
    }
}
