// SPDX-License-Identifier: GPL-2.0

//! Ring, device and queue on loom, the producer of Linux 7.3, and the traits of `consume.rs`.
//!
//! `../README.rst` lists the primitives that represent those of the kernel, and explains why that is safe.

use crate::must;
use loom::sync::{
    Mutex, Notify,
    atomic::{
        AtomicBool, AtomicUsize,
        Ordering::{Acquire, Relaxed, Release, SeqCst},
        fence,
    },
};
// loom sees no access to these: a `Ghost` belongs to the checker, and a lock protects a `Locked`.
use std::sync::atomic::{AtomicBool as Ghost, AtomicUsize as Locked};

/// Adds a step of the running thread to the trace.
macro_rules! note {
    ($($text:tt)*) => {
        if $crate::trace::wanted() {
            $crate::trace::add(format!($($text)*));
        }
    };
}

/// A slot: 0, or the number of an entry, from 1.
pub(crate) struct Slot(pub(crate) AtomicUsize);

/// The shared state.
pub(crate) struct World {
    pub(crate) slots: Vec<Slot>,
    pub(crate) batch: usize,
    /// The least number of checkpoints in a ring.
    pub(crate) checkpoints: usize,
    pub(crate) head: AtomicUsize,
    pub(crate) consumer_lock: Mutex<()>,
    pub(crate) producer_lock: Mutex<()>,
    /// The consumer lock protects `tail` and `count`.
    pub(crate) tail: Locked,
    pub(crate) count: Locked,
    /// The producer lock protects `producer` and `next`.
    producer: Locked,
    /// The number of the next entry.
    next: Locked,
    pub(crate) stopped: AtomicBool,
    pub(crate) running: AtomicBool,
    pub(crate) owned: AtomicBool,
    /// `tfile->tun` is not NULL.
    device: AtomicBool,
    /// Wakes the consumer, which waits while the ring is empty: `sk_data_ready()`.
    pub(crate) data: Notify,
    /// Wakes the sender, which waits while the queue is stopped: the qdisc is scheduled.
    scheduled: Notify,
    /// No thread changes `running`, `owned` or `device`, so they are not loaded.
    quiet: bool,
    /// The only threads are the consumer and one sender, which waits while the queue is stopped and never finds
    /// the ring full.
    alone: bool,
    /// The queues were stopped by taking the link down: no wake may follow.
    pub(crate) closed: Ghost,
    /// The queue is another file's: no wake may follow.
    pub(crate) detached: Ghost,
}

impl World {
    /// Returns a world with an empty ring, whose file has a device or gets it from [`World::attach`].
    pub(crate) fn new(run: &crate::Run, quiet: bool, alone: bool, attached: bool) -> Self {
        let &crate::Run {
            size,
            batch,
            offset,
            checkpoints,
            ..
        } = run;
        Self {
            slots: (0..size).map(|_| Slot(AtomicUsize::new(0))).collect(),
            batch,
            checkpoints,
            head: AtomicUsize::new(offset),
            consumer_lock: Mutex::new(()),
            producer_lock: Mutex::new(()),
            tail: Locked::new(offset),
            count: Locked::new(0),
            producer: Locked::new(offset),
            next: Locked::new(1),
            stopped: AtomicBool::new(false),
            running: AtomicBool::new(true),
            owned: AtomicBool::new(attached),
            device: AtomicBool::new(attached),
            data: Notify::new(),
            scheduled: Notify::new(),
            quiet,
            alone,
            closed: Ghost::new(false),
            detached: Ghost::new(false),
        }
    }

    /// `__ptr_ring_check_produce() == 0`, under the producer lock.
    pub(crate) fn has_room(&self) -> bool {
        self.slots[self.producer.load(Relaxed)].0.load(Relaxed) == 0
    }

    /// Lets the sender check the queue again.
    fn schedule(&self) {
        if self.alone {
            self.scheduled.notify();
        }
    }

    /// `netif_running()`
    pub(crate) fn is_running(&self) -> bool {
        self.quiet || self.running.load(Relaxed)
    }

    /// Returns whether the slot in `tun->tfiles` is this file's.
    pub(crate) fn is_owned(&self) -> bool {
        self.quiet || self.owned.load(Relaxed)
    }

    /// Does the same for the producer, whose accesses to the file depend on the pointer.
    fn finds_file(&self) -> bool {
        self.quiet || self.owned.load(Acquire)
    }

    /// Returns whether the file has a device.
    pub(crate) fn has_device(&self) -> bool {
        self.quiet || self.device.load(Relaxed)
    }

    /// `netif_tx_wake_queue()`
    fn wake_queue(&self) {
        if self.stopped.swap(false, Relaxed) {
            self.schedule();
        }
    }

    /// Wakes the queue for the consumer, and checks the properties of a wake.
    pub(crate) fn wake(&self) {
        let why = || "a wake that is not allowed".to_owned();
        must(self.has_room(), "no-wake-while-full", why);
        must(!self.closed.load(Relaxed), "running", why);
        must(!self.detached.load(Relaxed), "ownership", why);
        self.wake_queue();
    }

    /// `__ptr_ring_produce()`, under the producer lock.
    fn produce(&self) -> bool {
        let room = self.has_room();
        if room {
            let number = self.next.fetch_add(1, Relaxed);
            let index = self.producer.load(Relaxed);
            // smp_wmb()
            fence(Release);
            self.slots[index].0.store(number, Relaxed);
            self.producer.store((index + 1) % self.slots.len(), Relaxed);
        }
        room
    }

    /// `tun_net_xmit()`: returns whether the entry was produced.
    fn xmit(&self) -> bool {
        let lock = self.producer_lock.lock().expect("no thread panicked");
        let produced = self.produce();
        note!(
            "{}",
            if produced {
                "produces"
            } else {
                "finds the ring full, and drops"
            }
        );
        if self.is_running() && !self.has_room() {
            self.stopped.store(true, Relaxed);
            note!("sees that the next slot is occupied, and stops the queue");
            // smp_mb__after_atomic()
            fence(SeqCst);
            if self.has_room() {
                note!("sees that the next slot has become free, and wakes the queue");
                self.wake_queue();
            } else {
                note!("sees that the next slot is still occupied");
            }
        }
        drop(lock);
        if self.alone {
            // sk_data_ready()
            self.data.notify();
        }
        produced
    }

    /// Sends `count` entries, each while the queue is running. While the queue is stopped a single sender
    /// waits, and other senders skip the entry. Returns the number of entries that were not produced.
    pub(crate) fn sender(&self, count: usize) -> usize {
        let mut not_sent = 0;
        for _ in 0..count {
            let mut stopped = self.stopped.load(Relaxed);
            while stopped && self.alone {
                note!("waits for the queue");
                self.scheduled.wait();
                stopped = self.stopped.load(Relaxed);
            }
            let sent = !stopped && self.finds_file() && {
                let produced = self.xmit();
                must(produced || !self.alone, "no-drop", || {
                    "a full ring below a running queue".to_owned()
                });
                produced
            };
            not_sent += usize::from(!sent);
        }
        not_sent
    }

    /// `ip link set down`
    pub(crate) fn link_down(&self) {
        self.running.store(false, Relaxed);
        note!("the device is not running");
        let consumer = self.consumer_lock.lock().expect("no thread panicked");
        let producer = self.producer_lock.lock().expect("no thread panicked");
        self.count.store(0, Relaxed);
        drop(producer);
        drop(consumer);
        self.closed.store(true, Relaxed);
        self.stopped.store(true, Relaxed);
        note!("stops the queue");
    }

    /// Detaches this file: another file gets its slot, and its producer stops the queue.
    pub(crate) fn detach(&self) {
        let consumer = self.consumer_lock.lock().expect("no thread panicked");
        self.owned.store(false, Relaxed);
        self.detached.store(true, Relaxed);
        drop(consumer);
        note!("the queue is another file's");
        self.stopped.store(true, Relaxed);
        note!("the other file's producer stops the queue");
    }

    /// `tun_attach()` of a further queue of a device.
    pub(crate) fn attach(&self) {
        self.device.store(true, Release);
        note!("the file has a device");
        self.owned.store(true, Release);
        note!("the queue is this file's");
    }

    /// `__ptr_ring_empty()`, as the consumer calls it.
    pub(crate) fn is_empty(&self) -> bool {
        let empty = self.slots[self.head.load(Relaxed)].0.load(Relaxed) == 0;
        note!(
            "checks the slot at the head: {}",
            if empty { "free" } else { "an entry" }
        );
        empty
    }

    /// Checks the entries that a call took: each entry once, in order.
    pub(crate) fn check_taken(&self, taken: &[usize], before: usize) {
        must(
            taken.iter().copied().eq(before + 1..=before + taken.len()),
            "conservation",
            || format!("after entry {before} came {taken:?}"),
        );
    }
}

/// Calls one copy of the code under test for up to this number of entries, and returns them.
pub(crate) type Adapter = fn(&World, usize) -> Vec<usize>;

/// Implements the traits of the module `consume` beside it. Each copy of the code under test has such a
/// module, with its own traits.
#[macro_export]
macro_rules! adapter {
    () => {
        use core::{ffi::c_void, mem::MaybeUninit, ptr, ptr::NonNull};
        use loom::sync::{MutexGuard, atomic::Ordering::Relaxed};
        use $crate::ring::{Slot, World};

        impl consume::Slot for Slot {
            fn read(&self) -> Option<NonNull<c_void>> {
                let entry = self.0.load(Relaxed);
                note!("reads a slot: {entry}");
                NonNull::new(ptr::without_provenance_mut(entry))
            }

            fn free(&self) {
                note!("frees a slot");
                self.0.store(0, Relaxed);
            }
        }

        struct Ring<'a>(&'a World, MutexGuard<'a, ()>);

        impl consume::Ring for Ring<'_> {
            type Slot = Slot;
            type Producer<'a>
                = Producer<'a>
            where
                Self: 'a;

            fn slots(&self) -> &[Slot] {
                &self.0.slots
            }

            fn batch(&self) -> usize {
                self.0.batch
            }

            fn head(&self) -> usize {
                self.0.head.load(Relaxed)
            }

            fn set_head(&self, head: usize) {
                note!("moves the head: {head}");
                self.0.head.store(head, Relaxed);
            }

            fn tail(&self) -> usize {
                self.0.tail.load(Relaxed)
            }

            fn set_tail(&self, tail: usize) {
                self.0.tail.store(tail, Relaxed);
            }

            fn release(self, _taken: usize) {}

            fn lock_producer(&self) -> Producer<'_> {
                let lock = self.0.producer_lock.lock().expect("no thread panicked");
                note!("has the producer lock");
                Producer(self.0, lock)
            }
        }

        struct Producer<'a>(&'a World, MutexGuard<'a, ()>);

        impl consume::Producer for Producer<'_> {
            fn has_room(&self) -> bool {
                let room = self.0.has_room();
                note!("checks whether there is room: {room}");
                room
            }
        }

        struct Device<'a>(&'a World);

        impl<'a> consume::Queue for Device<'a> {
            fn is_stopped(&self) -> bool {
                let stopped = self.0.stopped.load(Relaxed);
                note!("checks whether the queue is stopped: {stopped}");
                stopped
            }

            fn wake(&self) {
                note!("wakes the queue");
                self.0.wake();
            }
        }

        impl<'a> consume::Device for Device<'a> {
            type Queue = Device<'a>;

            fn has_backpressure(&self) -> bool {
                true
            }

            fn is_running(&self) -> bool {
                let running = self.0.is_running();
                note!("checks whether the device runs: {running}");
                running
            }

            fn owns_queue(&self) -> bool {
                let owned = self.0.is_owned();
                note!("checks whether the queue is this file's: {owned}");
                owned
            }

            fn queue(&self) -> Option<Device<'a>> {
                Some(Device(self.0))
            }

            fn add_freed(&self, slots: usize) -> usize {
                self.0.count.fetch_add(slots, Relaxed) + slots
            }

            fn reset_freed(&self) {
                self.0.count.store(0, Relaxed);
            }
        }

        #[derive(Clone, Copy)]
        struct Endpoint<'w>(&'w World);

        impl<'w> consume::Endpoint for Endpoint<'w> {
            type Ring<'a>
                = Ring<'a>
            where
                Self: 'a;
            type Device<'a> = Device<'a>;
            type BottomHalvesOff = ();

            fn lock(&self) -> Ring<'_> {
                let lock = self.0.consumer_lock.lock().expect("no thread panicked");
                note!("has the consumer lock");
                Ring(self.0, lock)
            }

            fn bottom_halves_off(&self) {}

            // `search` checks the bound on suppressed wakes.
            fn most_suppressed(&self) -> usize {
                usize::MAX
            }

            fn checkpoints(&self) -> usize {
                self.0.checkpoints
            }

            fn with_device(
                &self,
                _ring: &Ring<'_>,
                check: impl FnOnce(Device<'_>) -> bool,
            ) -> Option<bool> {
                let has_device = self.0.has_device();
                note!("checks whether the file has a device: {has_device}");
                has_device.then(|| check(Device(self.0)))
            }
        }

        fn call(world: &World, n: usize) -> Vec<usize> {
            let mut out = vec![MaybeUninit::new(ptr::null_mut()); n];
            note!("requests {n}");
            let outcome = consume::consume_batched(Endpoint(world), &mut out);
            note!("returns {outcome:?}");
            variants::addresses(&out, outcome.taken)
        }

        pub(crate) const ADAPTER: $crate::Adapter = call;
    };
}
