// SPDX-License-Identifier: GPL-2.0

//! The actors around the consumer, with the steps that they have in the kernel.
//!
//! A step is one access that other actors can see or influence. It also includes actions whose exact
//! time no other actor can see (movers, in Lipton's sense): taking a lock before the access, accesses
//! that only the holder of the lock can see, and dropping the lock after the access.
//!
//! C sources: `drivers/net/tun.c` and `include/linux/ptr_ring.h` of Linux 7.3.

use crate::{
    script::Breach,
    size,
    world::{Actor, FREE, Holder, IDLE, MOST_SLOTS, State, after},
};

/// The kind of an actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A sender that checks whether the queue is stopped, then calls `tun_net_xmit()`. One is a
    /// qdisc, which has one dequeuer at a time; two bypass it and race.
    Sender,
    /// `tun_xdp_xmit()`: fills the ring, and never checks the queue.
    XdpSender,
    /// `ip link set down` and `up` in turn: `tun_net_close()` and `tun_net_open()`.
    Link,
    /// Another file is detached, and this file, which had queue 1, gets its slot and its queue 0.
    TakeOver,
    /// This file is detached with `TUNSETQUEUE`, and another file gets its slot. The producer of that
    /// file may stop the queue.
    Detach,
    /// This file, which had no device, becomes a further queue of a device: `tun_attach()`.
    Attach,
    /// The device is removed: `tfile->tun` becomes NULL, and after a grace period the device is
    /// freed.
    Remove,
    /// `tun_force_wake_queue()`, at any time.
    ForceWake,
    /// `tun_queue_resize()` to any size up to this one.
    Resize(u8),
    /// A scan gives the ring another number of slots, from 1 up to this one: `TunDevice::exchange()` of `src/device.rs`.
    Fit(u8, Fits),
    /// tun's own `read()`: consumes one entry in C, and wakes the queue by tun's rules.
    Reader,
    /// Stops the queue for a reason other than backpressure.
    Stopper,
    /// A scan finds the queue stopped for too long, and later that the consumer reads: `State::scan()` of
    /// `src/backpressure.rs`. Here at any time, as the consumer may rest for any time.
    Release(Order),
}

/// How a device is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Clears the flag, then wakes the queue under both locks.
    Correct,
    /// Wakes the queue without the locks.
    WithoutLocks,
    /// Wakes the queue before it clears the flag.
    WakeFirst,
}

/// The arrays that a scan may give to a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fits {
    /// Arrays for which `size::fits()` returns true.
    Correct,
    /// Also arrays that the entries fill, below a running queue.
    Full,
}

/// Rules that hold throughout a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// A sender may find the ring full though the queue was running.
    pub(crate) drops_allowed: bool,
    /// An actor changes the owner of a queue. If no actor does, checking the owner is not a step. The
    /// same holds for the next three.
    pub(crate) owner_changes: bool,
    /// An actor takes the device down or up.
    pub(crate) running_changes: bool,
    /// An actor adds or removes the device.
    pub(crate) device_changes: bool,
    /// An actor clears and sets the flag.
    pub(crate) flag_changes: bool,
    /// The count of freed slots is kept up to this number.
    pub(crate) most_count: u8,
}

/// The result of one step.
pub(crate) enum Step {
    /// The step was made; the text is for a trace.
    Done(String),
    /// The actor has no step to make, or waits for a lock.
    Blocked,
    /// The step violated a property.
    Broken(Breach),
}

impl Kind {
    /// Returns the number of different next steps.
    pub(crate) fn choices(self) -> u8 {
        match self {
            Self::Sender | Self::TakeOver => 2,
            Self::Resize(most) | Self::Fit(most, _) => most + 1,
            _ => 1,
        }
    }

    /// Returns whether the actor may make no further step.
    pub(crate) fn rests(self, actor: Actor) -> bool {
        match self {
            Self::Link => matches!(actor.step, 0 | 3),
            Self::TakeOver => matches!(actor.step, 0 | 4),
            Self::Attach | Self::Detach | Self::Remove | Self::Release(_) => {
                matches!(actor.step, 0 | 2)
            }
            _ => actor.step == 0,
        }
    }

    /// Makes the step `choice` of actor `me`.
    pub(crate) fn step(self, s: &mut State, me: u8, choice: u8, rules: Rules) -> Step {
        let mut actor = s.actors[usize::from(me)];
        let holder = Holder::Actor(me);
        if actor.step > 0 && choice > 0 {
            return Step::Blocked;
        }
        let done = match self {
            Self::Sender => return sender(s, me, choice, rules),
            Self::XdpSender => xdp_sender(s, holder),
            Self::Link => link(s, &mut actor),
            Self::TakeOver => take_over(s, &mut actor, choice),
            Self::Detach => detach(s, &mut actor),
            Self::Attach => attach(s, &mut actor),
            Self::Remove => remove(s, &mut actor),
            Self::ForceWake => force_wake(s),
            Self::Resize(_) => resize(s, &mut actor, choice),
            Self::Fit(_, fits) => fit(s, choice, fits),
            Self::Reader => reader(s, &mut actor, holder, rules),
            Self::Release(order) => release(s, &mut actor, order),
            Self::Stopper => {
                if s.stopped[0] {
                    None
                } else {
                    s.stopped[0] = true;
                    Some("stops the queue")
                }
            }
        };
        s.actors[usize::from(me)] = actor;
        match done {
            Some(text) => Step::Done(format!("{self:?}: {text}")),
            None => Step::Blocked,
        }
    }
}

/// Takes a lock if it is free, and returns whether it did.
fn take(lock: &mut Holder, holder: Holder) -> bool {
    let free = *lock == Holder::Free;
    if free {
        *lock = holder;
    }
    free
}

/// Returns whether both locks are free, for a step that takes and drops them.
fn both_free(s: &State) -> bool {
    s.consumer_lock == Holder::Free && s.producer_lock == Holder::Free
}

/// Drops the locks that `holder` has.
fn drop_locks(s: &mut State, holder: Holder) {
    for lock in [&mut s.consumer_lock, &mut s.producer_lock] {
        if *lock == holder {
            *lock = Holder::Free;
        }
    }
}

/// `__ptr_ring_produce()`, under the producer lock. Between its check of the slot and its write no
/// other actor writes that slot: it is free, and only a producer fills a free slot.
fn produce(s: &mut State) -> bool {
    let room = s.has_room() == Some(true);
    if room {
        s.slots[usize::from(s.producer)] = s.next_in;
        s.next_in = after(s.next_in + 1, 0);
        s.producer = s.following(s.producer);
    }
    room
}

fn sender(s: &mut State, me: u8, choice: u8, rules: Rules) -> Step {
    let holder = Holder::Actor(me);
    let mut actor = s.actors[usize::from(me)];
    // The queue for this packet.
    let queue = usize::from(if actor.step == 0 { choice } else { actor.note });
    let (step, text) = match actor.step {
        // The qdisc checks the queue. A packet for another file's slot does not concern this ring.
        0 if s.owned[queue] && !s.stopped[queue] => {
            actor.note = choice;
            (
                if rules.owner_changes { 1 } else { 2 },
                "sees the queue running",
            )
        }
        // `rcu_dereference(tun->tfiles[txq])`
        1 => (if s.owned[queue] { 2 } else { 0 }, "finds the file"),
        2 if take(&mut s.producer_lock, holder) => {
            let produced = produce(s);
            if !produced && s.size > 0 && !rules.drops_allowed {
                return Step::Broken(Breach::new("no-drop", "a full ring below a running queue"));
            }
            let text = if produced {
                "produces"
            } else {
                "finds the ring full, and drops"
            };
            let checks_running = if rules.running_changes { 3 } else { 4 };
            (
                if rules.flag_changes {
                    8
                } else {
                    checks_running
                },
                text,
            )
        }
        8 if !s.flag => (0, "sees no flag"),
        8 => (if rules.running_changes { 3 } else { 4 }, "sees the flag"),
        3 => (
            if s.running { 4 } else { 0 },
            "checks whether the device runs",
        ),
        // A ring without slots is not full (-EINVAL).
        4 if s.has_room() == Some(false) => (5, "sees that the next slot is occupied"),
        4 => (0, "sees that the next slot is free"),
        5 => {
            s.stopped[queue] = true;
            (6, "stops the queue")
        }
        6 if s.has_room() == Some(true) => (7, "sees that the next slot has become free"),
        6 => (0, "sees that the next slot is still occupied"),
        7 => {
            s.stopped[queue] = false;
            (0, "wakes the queue")
        }
        _ => return Step::Blocked,
    };
    actor.step = step;
    if step == 0 {
        actor = Actor::default();
        drop_locks(s, holder);
    }
    s.actors[usize::from(me)] = actor;
    Step::Done(format!("sender {me}: {text}"))
}

fn xdp_sender(s: &mut State, holder: Holder) -> Option<&'static str> {
    if !take(&mut s.producer_lock, holder) {
        return None;
    }
    let room = produce(s);
    drop_locks(s, holder);
    // A failed attempt does not change the state.
    room.then_some("produces")
}

fn link(s: &mut State, actor: &mut Actor) -> Option<&'static str> {
    let text = match actor.step {
        0 => {
            s.running = false;
            "the device is not running"
        }
        1 if both_free(s) => {
            s.count = 0;
            "takes and drops both locks"
        }
        2 => {
            s.stopped = [true; 2];
            s.closed = true;
            "stops all queues"
        }
        3 => {
            s.running = true;
            s.closed = false;
            "the device is running"
        }
        4 => {
            s.stopped = [false; 2];
            actor.step = 0;
            return Some("starts all queues");
        }
        _ => return None,
    };
    actor.step += 1;
    Some(text)
}

/// `__tun_detach()` of the file that had queue 0; this file has the last queue, 1. The grace period in
/// it is left out, so the search includes interleavings that it excludes.
fn take_over(s: &mut State, actor: &mut Actor, choice: u8) -> Option<&'static str> {
    let text = match actor.step {
        0 => {
            // The state in which the other file's producer left the queue.
            s.stopped[0] = choice == 1;
            s.owned[0] = true;
            if choice == 1 {
                "slot 0 is this file's too, and the queue is stopped"
            } else {
                "slot 0 is this file's too, and the queue is running"
            }
        }
        1 if s.consumer_lock == Holder::Free => {
            s.queue_index = 0;
            s.count = 0;
            "the file's queue is 0"
        }
        2 => {
            s.owned[1] = false;
            "slot 1 is NULL"
        }
        3 if both_free(s) => {
            s.count = 0;
            if s.running && s.is_empty() {
                s.stopped[0] = false;
            }
            "wakes the queue if the ring is empty"
        }
        _ => return None,
    };
    actor.step += 1;
    Some(text)
}

fn detach(s: &mut State, actor: &mut Actor) -> Option<&'static str> {
    let text = match actor.step {
        0 if s.consumer_lock == Holder::Free => {
            // Under this file's consumer lock.
            s.owned[0] = false;
            "the slot is another file's"
        }
        1 => {
            s.stopped[0] = true;
            "the other file's producer stops the queue"
        }
        _ => return None,
    };
    actor.step += 1;
    Some(text)
}

/// `tun_attach()` of a further queue of a device, which no `tun_force_wake_queue()` follows.
fn attach(s: &mut State, actor: &mut Actor) -> Option<&'static str> {
    let text = match actor.step {
        0 => {
            s.attached = true;
            "tfile->tun is the device"
        }
        1 => {
            s.owned[0] = true;
            "the slot is this file's"
        }
        _ => return None,
    };
    actor.step += 1;
    Some(text)
}

fn remove(s: &mut State, actor: &mut Actor) -> Option<&'static str> {
    let text = match actor.step {
        0 => {
            s.attached = false;
            "tfile->tun is NULL"
        }
        // `synchronize_net()`, for the consumer, which may have seen the device before. No sender is left
        // by then.
        1 if !s.consumer.rcu => {
            s.gone = true;
            s.owned = [false; 2];
            "the device is freed"
        }
        _ => return None,
    };
    actor.step += 1;
    Some(text)
}

fn force_wake(s: &mut State) -> Option<&'static str> {
    if !both_free(s) {
        return None;
    }
    s.count = 0;
    if s.running {
        s.stopped[usize::from(s.queue_index)] = false;
    }
    Some("wakes the queue")
}

/// `ptr_ring_resize_multiple_bh()`, then `tun_force_wake_queue()`.
fn resize(s: &mut State, actor: &mut Actor, size: u8) -> Option<&'static str> {
    if actor.step == 1 {
        let woken = force_wake(s);
        actor.step -= u8::from(woken.is_some());
        return woken;
    }
    if size == s.size || !both_free(s) {
        return None;
    }
    exchange(s, size);
    actor.step = 1;
    Some("replaces the array")
}

/// `__ptr_ring_swap_queue()`.
fn exchange(s: &mut State, size: u8) {
    let kept = after(s.next_in, s.next_out).min(size);
    s.slots = [FREE; MOST_SLOTS];
    for number in 0..kept {
        s.slots[usize::from(number)] = after(s.next_out + number, 0);
    }
    s.next_in = after(s.next_out + kept, 0);
    s.size = size;
    s.producer = if kept >= size { 0 } else { kept };
    (s.head, s.tail) = (0, 0);
    // As in `__ptr_ring_set_size()`, for a batch of 2.
    s.batch = if size >= 4 { 2 } else { 1 };
}

fn fit(s: &mut State, size: u8, fits: Fits) -> Option<&'static str> {
    let queue = usize::from(s.queue_index);
    let entries = usize::from(after(s.next_in, s.next_out));
    let is_stopped = match fits {
        Fits::Correct => s.stopped[queue],
        Fits::Full => true,
    };
    if size == 0 || size == s.size || !both_free(s) {
        return None;
    }
    if !size::fits(entries, usize::from(size), is_stopped) {
        return None;
    }
    exchange(s, size);
    s.count = 0;
    if s.running && s.slots[usize::from(s.producer)] == FREE {
        s.stopped[queue] = false;
    }
    Some("replaces the array")
}

fn release(s: &mut State, actor: &mut Actor, order: Order) -> Option<&'static str> {
    let clears = u8::from(order == Order::WakeFirst);
    let text = match actor.step {
        // Only a stopped queue of a device with the flag is released.
        0 if !s.stopped[usize::from(s.queue_index)] || !s.flag => return None,
        2 => {
            s.flag = true;
            actor.step = 0;
            return Some("sets the flag again");
        }
        step if step == clears => {
            s.flag = false;
            "clears the flag"
        }
        _ if order == Order::WithoutLocks => {
            s.stopped[usize::from(s.queue_index)] = false;
            "wakes the queue, without locks"
        }
        _ => force_wake(s)?,
    };
    actor.step += 1;
    Some(text)
}

/// `tun_ring_consume()` with `__tun_wake_queue()`.
fn reader(s: &mut State, actor: &mut Actor, holder: Holder, rules: Rules) -> Option<&'static str> {
    let queue = usize::from(s.queue_index);
    Some(match actor.step {
        0 if !s.is_empty() && take(&mut s.consumer_lock, holder) => {
            // The slot at the head does not change while the lock is held.
            let next = s.head + 1;
            let free = next - s.tail >= s.batch || next >= s.size;
            *actor = Actor {
                step: 1,
                // The end of the slots to be freed, plus 1; 0 if no slot is to be freed.
                note: if free { next + 1 } else { 0 },
            };
            "takes the consumer lock"
        }
        // `__ptr_ring_zero_tail()`, backwards
        1 if actor.note > s.tail + 1 => {
            actor.note -= 1;
            s.slots[usize::from(actor.note - 1)] = FREE;
            "frees a slot"
        }
        1 => {
            let next = s.head + 1;
            if actor.note > 0 {
                s.tail = next;
            }
            s.head = next;
            if next >= s.size {
                (s.head, s.tail) = (0, 0);
            }
            s.next_out = after(s.next_out + 1, 0);
            *actor = Actor { step: 2, note: 0 };
            "moves the head"
        }
        2 => {
            if s.running && s.owned[queue] {
                actor.step = 3;
            } else {
                actor.step = 0;
                drop_locks(s, holder);
            }
            "checks whether the queue is this file's"
        }
        3 => {
            if s.stopped[queue] {
                s.count = (s.count + 1).min(rules.most_count);
                actor.step = 4;
            } else {
                actor.step = 0;
                drop_locks(s, holder);
            }
            "checks the queue"
        }
        4 => {
            if s.count >= s.size / 2 || s.is_empty() {
                s.stopped[queue] = false;
                s.count = 0;
            }
            actor.step = 0;
            drop_locks(s, holder);
            "wakes the queue if enough entries were consumed"
        }
        _ => return None,
    })
}

/// `ptr_ring_unconsume()`, which vhost calls with the remaining entries of its array when the backend is
/// removed.
pub(crate) fn unconsume(s: &mut State, count: u8) {
    if s.size == 0 {
        return;
    }
    for index in s.tail..s.head {
        s.slots[usize::from(index)] = FREE;
    }
    s.tail = s.head;
    for _ in 0..count {
        let head = s.head.checked_sub(1).unwrap_or(s.size - 1);
        if s.slots[usize::from(head)] != FREE {
            // The remaining entries do not fit, and are destroyed.
            return;
        }
        s.next_out = after(s.next_out.wrapping_sub(1), 0);
        s.slots[usize::from(head)] = s.next_out;
        s.head = head;
        s.tail = head;
    }
}

/// Returns whether all actors rest: no step follows unless the consumer is called or an actor begins again.
pub(crate) fn at_rest(s: &State, actors: &[Kind]) -> bool {
    s.consumer.place == IDLE
        && actors
            .iter()
            .zip(&s.actors)
            .all(|(kind, &actor)| kind.rests(actor))
}
