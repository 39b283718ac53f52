// SPDX-License-Identifier: GPL-2.0

//! The consumer's half of the stop/wake protocol.
//!
//! A producer that finds its ring full stops the netdev queue above it. The consumer of the ring
//! must wake that queue again, exactly when there is room. This file is the whole decision, and
//! nothing else: safe code over a few traits, without kernel pointers. The module, the unit tests
//! and the model checkers build this file unchanged, each with its own implementation of the
//! traits and its own `crate::sync`.
//!
//! A call has at most two critical sections under the consumer lock:
//!
//! 1. [`take`] moves entries out and frees their slots in runs, at the points where
//!    `__ptr_ring_consume_batched()` would. If the tail passed a checkpoint or the ring is empty,
//!    [`wants_wake`] checks the queue.
//! 2. Only if the queue is stopped and enough slots have been freed since, [`recheck_and_wake`]
//!    takes both locks of the ring and wakes the queue if, at that instant, the producer's next
//!    slot is free. So the consumer does not wake a queue whose ring is full, unless senders that
//!    ignore the stop have kept the ring full for too long.

#![forbid(unsafe_code)]

use crate::sync::smp_mb;
use core::{
    ffi::c_void,
    mem::MaybeUninit,
    ptr::NonNull, //
};

/// Takes up to `out.len()` entries in order, frees slots, and wakes the queue if a wake is due.
///
/// Takes at most one ring-full, so the time under the lock is bounded. The first
/// [`Outcome::taken`] elements of `out` are initialised, none of them with NULL.
///
/// Context: process context with bottom halves and interrupts on. Takes the consumer lock, and at
/// times the producer lock inside it. Does not sleep.
pub(crate) fn consume_batched<E: Endpoint>(
    endpoint: E,
    out: &mut [MaybeUninit<*mut c_void>],
) -> Outcome {
    let ring = endpoint.lock();
    let taken = take(&ring, endpoint.checkpoints(), out);
    // No check: the call that took the last entry found the ring empty under this lock, and checked the queue.
    if taken.entries == 0 {
        if endpoint.was_woken() {
            endpoint.found_empty(&ring);
        }
        return Outcome::default();
    }
    // A call that passed no checkpoint and left entries behind leaves the check to the calls that take
    // them. A call that emptied the ring must check even if it freed nothing: no later call may come to
    // act on a stop that an earlier call deferred or did not check for. Litmus tests: `dry-look`,
    // `dry-stop`.
    let must_check = taken.freed_at_checkpoint > 0 || taken.saw_empty || is_empty(&ring);
    let wake_is_due = must_check && wants_wake(endpoint, &ring, taken.freed_at_checkpoint);
    ring.release(taken.entries);
    let wake = if !wake_is_due {
        Wake::NotNeeded
    } else if recheck_and_wake(endpoint) {
        Wake::Done
    } else {
        Wake::Suppressed
    };
    Outcome {
        taken: taken.entries,
        freed: taken.freed,
        wake,
    }
}

/// Moves entries from the ring into `out`, frees slots, and returns how far the tail came.
///
/// Frees slots where `__ptr_ring_discard_one()` would free them for each entry. Writes head and tail once
/// for all entries up to the end of the array, and once more for the entries from its start.
#[inline(always)]
pub(crate) fn take<R: Ring>(
    ring: &R,
    checkpoints: usize,
    out: &mut [MaybeUninit<*mut c_void>],
) -> Taken {
    let slots = ring.slots();
    let from = ring.tail();
    // No more than a ring-full, even if the producer keeps refilling it.
    let most = out.len().min(slots.len());
    let Some(out) = out.get_mut(..most) else {
        return Taken::default();
    };
    let mut run = take_run(ring, slots, out);
    if run.to_the_end {
        if let Some(out) = out.get_mut(run.entries..).filter(|out| !out.is_empty()) {
            let rest = take_rest(ring, slots, out);
            run.entries = run.entries.wrapping_add(rest.entries);
            run.freed = run.freed.wrapping_add(rest.freed);
        }
    }

    let mut freed_at_checkpoint = 0;
    if run.freed != 0 {
        // Checkpoints are a power of two of slots apart, from the first slot of the array on.
        let stride = 1_usize << ((slots.len() / checkpoints) | 1).ilog2();
        let past_checkpoint = |index| index & stride.wrapping_sub(1);
        freed_at_checkpoint = run
            .freed
            .wrapping_add(past_checkpoint(from))
            .wrapping_sub(past_checkpoint(ring.tail()));
    }
    Taken {
        entries: run.entries,
        freed: run.freed,
        freed_at_checkpoint,
        saw_empty: run.entries < most,
    }
}

/// Checks after slots were freed whether the producer has stopped the queue and a wake is due.
///
/// Out of line: the common call does not come here, and so has fewer registers to save.
#[inline(never)]
fn wants_wake<E: Endpoint>(endpoint: E, ring: &E::Ring<'_>, freed: usize) -> bool {
    match endpoint.with_device(ring, |device| is_due(endpoint, ring, &device, freed)) {
        Some(due) => due,
        None => wants_wake_of_new_device(endpoint, ring, freed),
    }
}

/// Checks the queue as [`wants_wake`] does, for a file that had no device or whose layout is unknown.
///
/// The file may have become a queue of a device meanwhile. Then the entries just taken came through that
/// queue, and no further call is certain to come.
#[cold]
#[inline(never)]
fn wants_wake_of_new_device<E: Endpoint>(endpoint: E, ring: &E::Ring<'_>, freed: usize) -> bool {
    // Orders the load of the entry before the second load of the device pointer, which was published
    // before the producer filled the slot: a control dependency orders no load. Pairs with the release
    // in `tun_attach()`. Litmus test: `owner-look-device`.
    smp_mb();
    endpoint.check_layout(ring);
    endpoint
        .with_device(ring, |device| is_due(endpoint, ring, &device, freed))
        .unwrap_or(false)
}

/// Returns whether a wake of the device's queue is due, after slots were freed.
#[inline(always)]
fn is_due<E: Endpoint>(
    endpoint: E,
    ring: &E::Ring<'_>,
    device: &E::Device<'_>,
    freed: usize,
) -> bool {
    // May be read before the barrier: setting the flag ends with a wake of all queues whose rings have room.
    if !device.has_backpressure() {
        return false;
    }
    // Orders the freed slots before the check of the stop. Pairs with the `smp_mb__after_atomic()`
    // between stop and re-check in `tun_net_xmit()`: either the consumer sees the stop, or the producer
    // sees the free slot and wakes its queue itself. Litmus tests: `stop-free`, `recheck`. It also orders
    // the slots before the checks of owner and running state, which were set before the producer filled
    // the slot. Litmus test: `owner-look`.
    smp_mb();
    own_queue(device).is_some_and(|queue| {
        queue.is_stopped() && is_enough(endpoint, ring, device.add_freed(freed))
    })
}

/// Wakes the queue if it is still stopped and still belongs to this file, and if the ring has room or
/// the wake is overdue. Returns whether it did.
///
/// Under both locks neither the producer nor another consumer makes progress, so *stopped* and
/// *has room* are true at one instant. Litmus test: `settled-wake`.
#[cold]
#[inline(never)]
fn recheck_and_wake<E: Endpoint>(endpoint: E) -> bool {
    // Off before the locks and on after them: turning them on runs the NET_TX softirq that the wake
    // has raised.
    let _bottom_halves_off = endpoint.bottom_halves_off();
    let ring = endpoint.lock();
    // Repeats the checks of the first critical section: `tun_net_close()` and `__tun_detach()` rely on
    // running state, ownership and wake being in one critical section under this lock, or, where a queue
    // changes hands without it, in one RCU read-side critical section. Litmus tests: `close-wake`,
    // `owner-wake`, `owner-gone`.
    let woken = endpoint.with_device(&ring, |device| {
        if !device.has_backpressure() {
            return false;
        }
        let Some(queue) = own_queue(&device) else {
            return false;
        };
        let producer = ring.lock_producer();
        if !queue.is_stopped() {
            // The producer or another consumer has woken the queue, so the count belongs to an earlier stop.
            device.reset_freed();
            return false;
        }
        // Read again: another consumer may have woken the queue, and the producer may have stopped it since.
        let freed = device.add_freed(0);
        let due = is_enough(endpoint, &ring, freed)
            && (producer.has_room() || is_overdue(endpoint, &ring, freed));
        if due {
            queue.wake();
            device.woken(&producer);
            device.reset_freed();
        }
        due
    });
    woken.unwrap_or(false)
}

/// Returns whether enough slots have been freed to wake a stopped queue, or the ring is empty.
fn is_enough<E: Endpoint>(endpoint: E, ring: &E::Ring<'_>, freed: usize) -> bool {
    let share = ring.slots().len().wrapping_mul(endpoint.wake_after());
    freed >= share / 100 || is_empty(ring)
}

/// Returns whether a wake was suppressed for so long that it is due even if the ring is full.
fn is_overdue<E: Endpoint>(endpoint: E, ring: &E::Ring<'_>, freed: usize) -> bool {
    let slots = ring.slots().len();
    freed >= slots.saturating_mul(endpoint.most_suppressed())
}

/// Returns the queue if this file may wake it.
fn own_queue<D: Device>(device: &D) -> Option<D::Queue> {
    if device.is_running() && device.owns_queue() {
        device.queue()
    } else {
        None
    }
}

/// Returns whether the ring is empty: the slot at the head is free.
fn is_empty<R: Ring>(ring: &R) -> bool {
    ring.slots()
        .get(ring.head())
        .is_none_or(|slot| slot.read().is_none())
}

/// The entries and slots between the head and the end of the array that one run has moved.
struct Run {
    /// Entries moved out.
    entries: usize,
    /// Slots freed.
    freed: usize,
    /// Whether the last slot of the array was among them.
    to_the_end: bool,
}

/// Moves entries into `out`, up to an empty slot or the end of the array.
#[inline(always)]
fn take_run<R: Ring>(ring: &R, slots: &[R::Slot], out: &mut [MaybeUninit<*mut c_void>]) -> Run {
    let head = ring.head();
    let entries = slots.get(head..).map_or(0, |run| copy(run, out));
    if entries == 0 {
        return Run {
            entries,
            freed: 0,
            to_the_end: false,
        };
    }

    let tail = ring.tail();
    let end = head.wrapping_add(entries);
    let free_to = free_to(tail, head, end, ring.batch(), slots.len());
    // The first slot of the array follows the last.
    let wrapped = |index| if index == slots.len() { 0 } else { index };
    ring.set_head(wrapped(end));
    let mut freed = 0;
    if let Some(consumed) = slots.get(tail..free_to).filter(|slots| !slots.is_empty()) {
        free(consumed);
        ring.set_tail(wrapped(free_to));
        freed = consumed.len();
    }
    Run {
        entries,
        freed,
        to_the_end: end == slots.len(),
    }
}

/// Does the same as [`take_run`], out of line, for the entries from the start of the array. In rings of at
/// most 64 slots most calls for 64 entries come here.
#[inline(never)]
fn take_rest<R: Ring>(ring: &R, slots: &[R::Slot], out: &mut [MaybeUninit<*mut c_void>]) -> Run {
    take_run(ring, slots, out)
}

/// Returns the index up to which `__ptr_ring_discard_one()` would have freed slots, called for each entry
/// from `head` to `end`: `tail` if it frees none, at most `slots`.
///
/// It frees slots when a batch is consumed, and at the end of the array. Where the tail lags by more than a
/// batch, such as after a resize, it frees them with the first entry.
#[inline(always)]
fn free_to(tail: usize, head: usize, end: usize, batch: usize, slots: usize) -> usize {
    if end == slots {
        return slots;
    }
    let due = tail.wrapping_add(batch);
    if end < due {
        return tail;
    }
    let beyond = end.wrapping_sub(due.max(head.wrapping_add(1)));
    let over = beyond & batch.wrapping_sub(1);
    end.wrapping_sub(over)
}

/// The number of slots per turn of a loop: a turn costs more than an entry.
const STEP: usize = 4;

/// Reads slots in order up to the first empty one, but no more than fit in `out`. Returns their number.
#[inline(always)]
fn copy<S: Slot>(run: &[S], out: &mut [MaybeUninit<*mut c_void>]) -> usize {
    let most = run.len().min(out.len());
    let (Some(run), Some(out)) = (run.get(..most), out.get_mut(..most)) else {
        return 0;
    };
    let mut length: usize = 0;
    let mut places = out.chunks_exact_mut(STEP);
    for (slots, places) in run.chunks_exact(STEP).zip(places.by_ref()) {
        let copied = copy_each(slots, places);
        length = length.wrapping_add(copied);
        if copied < STEP {
            return length;
        }
    }
    let rest = copy_each(run.chunks_exact(STEP).remainder(), places.into_remainder());
    length.wrapping_add(rest)
}

/// Does the same as [`copy`], with one turn of the loop per entry.
#[inline(always)]
fn copy_each<S: Slot>(slots: &[S], places: &mut [MaybeUninit<*mut c_void>]) -> usize {
    let mut length: usize = 0;
    for (slot, place) in slots.iter().zip(places) {
        let Some(entry) = slot.read() else {
            break;
        };
        place.write(entry.as_ptr());
        length = length.wrapping_add(1);
    }
    length
}

/// Frees slots backwards: the producer waits for the oldest, so its cache line is touched last.
#[inline(always)]
fn free<S: Slot>(consumed: &[S]) {
    let mut chunks = consumed.rchunks_exact(STEP);
    for chunk in chunks.by_ref() {
        chunk.iter().rev().for_each(Slot::free);
    }
    chunks.remainder().iter().rev().for_each(Slot::free);
}

/// The result of one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Entries moved out.
    pub(crate) taken: usize,
    /// Slots freed.
    pub(crate) freed: usize,
    /// Whether the call woke the queue.
    pub(crate) wake: Wake,
}

/// Whether a call woke the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Wake {
    /// No wake was due.
    #[default]
    NotNeeded,
    /// The queue was woken.
    Done,
    /// A wake was due in the first critical section, but not in the second: the ring was full again, another CPU
    /// had woken the queue, the file had lost the queue, or the device was down or had lost the flag.
    Suppressed,
}

/// The entries and slots that one critical section under the consumer lock has moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Entries moved out.
    pub(crate) entries: usize,
    /// Slots freed.
    pub(crate) freed: usize,
    /// Slots freed, counted from checkpoint to checkpoint: 0 if the tail passed none.
    pub(crate) freed_at_checkpoint: usize,
    /// Whether an empty slot ended the batch, and not the length of `out` or of the ring.
    pub(crate) saw_empty: bool,
}

/// A file's ring, and the way from it to the device above.
pub(crate) trait Endpoint: Copy {
    /// The locked ring.
    type Ring<'a>: Ring
    where
        Self: 'a;

    /// The device, inside an RCU read-side critical section.
    type Device<'a>: Device;

    /// A guard that keeps bottom halves off.
    type BottomHalvesOff;

    /// Returns the percentage of the ring that must be freed before a stopped queue is woken. An empty
    /// ring wakes it whatever the percentage. tun's own consumer waits for half of the ring.
    fn wake_after(&self) -> usize {
        50
    }

    /// Returns the bound on suppressed wakes, in ring-fulls of freed slots; at least 1. XDP ignores the stop,
    /// and may refill the ring before each wake. Beyond the bound the queue is woken although the ring is full.
    fn most_suppressed(&self) -> usize {
        4
    }

    /// Returns the least number of checkpoints in a ring; at least 1. They are a power of two of slots apart,
    /// so there are up to twice as many. A check costs a full barrier, and its result matters once or twice
    /// per ring-full, so not every batch has one.
    fn checkpoints(&self) -> usize {
        8
    }

    /// Returns whether the queue was woken since a call last found the ring empty. Then the next such call
    /// calls [`Self::found_empty`].
    fn was_woken(&self) -> bool {
        false
    }

    /// Records, as a hint for the ring's size, that a call found the ring empty, the first since a wake.
    fn found_empty(&self, _ring: &Self::Ring<'_>) {}

    /// Takes the consumer lock. Not called in softirq context.
    fn lock(&self) -> Self::Ring<'_>;

    /// Turns bottom halves off. Dropping the result turns them on and runs pending softirqs.
    fn bottom_halves_off(&self) -> Self::BottomHalvesOff;

    /// Calls `check` with the device inside one RCU read-side critical section. Returns `None` if the
    /// file has no device, or if the layout of its structures is not known to match.
    ///
    /// `_ring` shows that the consumer lock is held, which protects the state behind the device.
    fn with_device(
        &self,
        _ring: &Self::Ring<'_>,
        check: impl FnOnce(Self::Device<'_>) -> bool,
    ) -> Option<bool>;

    /// Checks the layout of the device's structures, if that was not possible before.
    fn check_layout(&self, _ring: &Self::Ring<'_>) {}
}

/// A ring whose consumer lock is held for as long as the value lives.
///
/// All indices are below the number of slots, or 0 if there are no slots.
pub(crate) trait Ring: Sized {
    /// The type of the ring's slots.
    type Slot: Slot;

    /// Evidence that the producer lock is held as well.
    type Producer<'a>: Producer
    where
        Self: 'a;

    /// Returns all slots; none for a ring of size 0.
    fn slots(&self) -> &[Self::Slot];

    /// Returns the number of entries that are consumed before their slots are freed together. It must be a
    /// power of two, as in the kernel; with any other number slots are freed at other points than in the kernel.
    fn batch(&self) -> usize;

    /// Returns the index of the next entry to take.
    fn head(&self) -> usize;

    /// Moves the head.
    fn set_head(&self, head: usize);

    /// Returns the index of the oldest slot that is consumed but not yet freed, or the head.
    fn tail(&self) -> usize;

    /// Moves the tail.
    fn set_tail(&self, tail: usize);

    /// Releases the consumer lock after a critical section that took so many entries.
    fn release(self, taken: usize);

    /// Takes the producer lock, which nests inside the consumer lock.
    ///
    /// Bottom halves must be off: the producer runs in softirq context too.
    fn lock_producer(&self) -> Self::Producer<'_>;
}

/// One slot of a ring. It is free if and only if it holds NULL.
pub(crate) trait Slot {
    /// Reads the slot once.
    ///
    /// The caller reads the packet through the returned pointer: this address dependency pairs
    /// with the `smp_wmb()` in `__ptr_ring_produce()`. Litmus test: `payload`.
    fn read(&self) -> Option<NonNull<c_void>>;

    /// Frees the slot for the producer.
    fn free(&self);
}

/// The producer's side of a ring, its producer lock held for as long as the value lives.
pub(crate) trait Producer {
    /// Returns whether the slot for the next entry is free.
    fn has_room(&self) -> bool;

    /// Returns the number of entries in the ring, for trace points; `None` if there are no trace points.
    #[allow(dead_code)] // the unit tests have no trace points
    fn entries(&self) -> Option<usize> {
        None
    }
}

/// The device above a ring, as found in one RCU read-side critical section that spans the value.
pub(crate) trait Device {
    /// The device's queues.
    type Queue: Queue;

    /// Returns whether the driver stops queues of this device for backpressure.
    fn has_backpressure(&self) -> bool;

    /// Returns whether the device is up. The consumer must not undo a stop of a device that was taken down.
    fn is_running(&self) -> bool;

    /// Returns whether the ring's file owns its queue. A detached file does not.
    fn owns_queue(&self) -> bool;

    /// Returns the queue that the ring's file names, `None` if the device has no such queue.
    fn queue(&self) -> Option<Self::Queue>;

    /// Adds `slots` that were freed while the queue was seen stopped, and returns the number of such slots
    /// since the last wake.
    fn add_freed(&self, slots: usize) -> usize;

    /// Resets the count of [`Self::add_freed`] to 0.
    fn reset_freed(&self);

    /// Reports that the queue has just been woken. Both locks are held, and the count is not reset yet.
    fn woken(&self, _producer: &impl Producer) {}
}

/// The netdev queue above a ring.
pub(crate) trait Queue {
    /// Returns whether the driver has stopped the queue (`__QUEUE_STATE_DRV_XOFF`).
    fn is_stopped(&self) -> bool;

    /// Clears the stop and schedules the qdisc, as `netif_tx_wake_queue()` does.
    fn wake(&self);
}
