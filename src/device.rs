// SPDX-License-Identifier: GPL-2.0

//! Access to a network device of tun for the holder of RTNL.
//!
//! C sources: `drivers/net/tun.c`, whose structures are private to it (see `bindings`), and
//! [`include/linux/netdevice.h`](srctree/include/linux/netdevice.h)

use crate::{
    access,
    bindings::{
        self,
        private, //
    },
    bottom_halves,
    consume::{
        Producer,
        Queue,
        Ring,
        Slot, //
    },
    file,
    hints,
    netdev_queue::NetDevice,
    ptr_ring::{
        LockedProducer,
        PtrRing, //
    },
    rtnl::Rtnl,
    size,
    slots::Slots,
    stall,
    tun, //
};
use core::{
    ffi::CStr,
    marker::PhantomData,
    mem::{
        offset_of,
        MaybeUninit, //
    },
    ptr::{
        addr_of,
        addr_of_mut,
        NonNull, //
    },
};
use kernel::{
    prelude::*,
    str::CStrExt,
    sync::rcu, //
};

/// A tun or tap device.
///
/// # Invariants
///
/// `dev` is a registered device of tun, and `tun` its private part. RTNL is held for `'a`, so the device stays, and
/// nothing else changes its flags or its files.
pub(crate) struct TunDevice<'a> {
    dev: NonNull<bindings::net_device>,
    tun: NonNull<private::tun_struct>,
    _rtnl: PhantomData<&'a Rtnl>,
}

impl<'a> TunDevice<'a> {
    /// Borrows a device for as long as RTNL is held; returns `None` if the layout of tun does not match.
    ///
    /// # Safety
    ///
    /// `dev` must be a registered device of tun.
    pub(crate) unsafe fn from_raw(
        dev: NonNull<bindings::net_device>,
        _rtnl: &'a Rtnl,
    ) -> Option<Self> {
        let private = dev
            .as_ptr()
            .wrapping_byte_add(offset_of!(bindings::net_device, priv_));
        let tun = NonNull::new(private.cast::<private::tun_struct>())?;
        // INVARIANT: By the safety contract; the private part follows the device.
        tun::device_matches_layout(tun).then_some(Self {
            dev,
            tun,
            _rtnl: PhantomData,
        })
    }

    /// Returns the device's address, to compare it.
    pub(crate) fn as_raw(&self) -> NonNull<bindings::net_device> {
        self.dev
    }

    /// Returns the name.
    pub(crate) fn name(&self) -> &CStr {
        // SAFETY: The device is valid by the type invariants; the name ends with NUL, and is changed under RTNL.
        unsafe { CStr::from_char_ptr(addr_of!((*self.dev.as_ptr()).name).cast()) }
    }

    /// Returns the state of the device for the file `devices` in debugfs.
    pub(crate) fn describe(&self) -> bindings::tuntap_ring_device {
        let mut device = MaybeUninit::uninit();
        // SAFETY: The device is valid by the type invariants, and RTNL is held. The helper writes all of `device`.
        unsafe {
            bindings::tuntap_ring_helper_describe(self.dev.as_ptr(), device.as_mut_ptr());
            device.assume_init()
        }
    }

    /// Logs that a queue has been stopped for so many milliseconds.
    pub(crate) fn report_stall(&self, queue: usize, stopped: u32) {
        // SAFETY: The device is valid by the type invariants.
        unsafe {
            bindings::tuntap_ring_helper_report_stall(self.dev.as_ptr(), queue as u32, stopped);
        }
    }

    /// Returns whether a full ring stops its queue.
    pub(crate) fn has_backpressure(&self) -> bool {
        self.flags() & bindings::IFF_BACKPRESSURE != 0
    }

    fn flags(&self) -> u32 {
        // SAFETY: The device is valid by the type invariants; RTNL is held, so nothing else writes its flags.
        unsafe { access::read(addr_of!((*self.tun.as_ptr()).flags)) }
    }

    /// Writes the flags with one store, as tun does: senders read them without RTNL.
    fn set_flags(&self, flags: u32) {
        // SAFETY: The device is valid by the type invariants.
        unsafe { access::write_once(addr_of_mut!((*self.tun.as_ptr()).flags), flags) };
    }

    /// Sets the flag. A full ring stops its queue from the next entry on.
    ///
    /// A consumer that did not see the flag yet may have freed the slots without a wake. So this wakes each queue whose
    /// ring has room.
    pub(crate) fn set_backpressure(&self) {
        self.set_flags(self.flags() | bindings::IFF_BACKPRESSURE);
        for index in 0..self.queues() {
            self.wake(index, |producer| producer.has_room());
        }
    }

    /// Clears the flag and wakes the queues, as `tun_set_iff()` does for an opener that does not request the flag.
    ///
    /// Senders read the flag under the producer lock. A sender that still saw the flag has stopped its queue before
    /// [`Self::wake`] gets the lock, and no sender stops the queue after that.
    pub(crate) fn clear_backpressure(&self) {
        self.set_flags(self.flags() & !bindings::IFF_BACKPRESSURE);
        for index in 0..self.queues() {
            self.wake(index, |_| true);
        }
    }

    /// Returns the file that has a queue.
    fn file(&self, index: usize) -> Option<NonNull<private::tun_file>> {
        // SAFETY: The device is valid by the type invariants; only the address of the array is taken.
        let files = unsafe { addr_of!((*self.tun.as_ptr()).tfiles) };
        if index >= file::array_len(files).min(self.queues()) {
            return None;
        }
        // SAFETY: In bounds, and changed under RTNL only.
        NonNull::new(unsafe { access::read(files.cast::<*mut private::tun_file>().add(index)) })
    }

    /// Borrows the ring of a file of this device.
    fn ring_of(&self, tfile: NonNull<private::tun_file>) -> PtrRing<'_> {
        // SAFETY: A file that has a queue is open, or its close waits for RTNL.
        unsafe {
            let ring = addr_of_mut!((*tfile.as_ptr()).tx_ring);
            PtrRing::from_raw(NonNull::new_unchecked(ring.cast()))
        }
    }

    /// Returns the number of queues that a file has.
    pub(crate) fn queues(&self) -> usize {
        // SAFETY: The device is valid by the type invariants, and RTNL is held.
        unsafe { access::read(addr_of!((*self.tun.as_ptr()).numqueues)) as usize }
    }

    /// Returns `tx_queue_len`, the number of slots that each ring has by default.
    fn tx_queue_len(&self) -> usize {
        // SAFETY: The device is valid by the type invariants; changed under RTNL only.
        unsafe { access::read(addr_of!((*self.dev.as_ptr()).tx_queue_len)) as usize }
    }

    /// Returns the use of a ring since the last call, which was `elapsed` milliseconds ago.
    pub(crate) fn ring_use(&self, queue: usize, elapsed: u64) -> Option<size::Seen> {
        let tfile = self.file(queue)?;
        let (wakes, starved) = hints::of(tfile.as_ptr()).take();
        Some(size::Seen {
            slots: self.slots(tfile),
            most: self.tx_queue_len(),
            elapsed,
            wakes,
            starved,
        })
    }

    /// Returns the number of slots of the smallest ring of a queue.
    pub(crate) fn least_slots(&self) -> usize {
        (0..self.queues())
            .filter_map(|queue| Some(self.slots(self.file(queue)?)))
            .min()
            .unwrap_or(0)
    }

    fn slots(&self, tfile: NonNull<private::tun_file>) -> usize {
        let bottom_halves = bottom_halves::off();
        let slots = self.ring_of(tfile).lock().slots().len();
        drop(bottom_halves);
        slots
    }

    /// Resizes the ring of a queue. Returns whether it did: without memory, or with entries that do not fit, the ring
    /// keeps its size.
    ///
    /// Context: may sleep.
    pub(crate) fn resize(&self, queue: usize, slots: usize) -> bool {
        match (self.file(queue), Slots::new(slots)) {
            (Some(tfile), Some(slots)) => self.exchange(tfile, Some(queue), slots),
            _ => false,
        }
    }

    /// Requests that the consumer of a queue empties the ring before it wakes the queue, until [`hints::end_drains`].
    pub(crate) fn drain(&self, queue: usize) {
        if let Some(tfile) = self.file(queue) {
            hints::drain(tfile.as_ptr());
        }
    }

    /// Gives all rings, including those of detached files, the number of slots that the device requests.
    ///
    /// Errors: [`ENOMEM`]; a ring may keep another number of slots then.
    ///
    /// Context: may sleep.
    pub(crate) fn restore_rings(&self) -> Result {
        let slots = self.tx_queue_len();
        // An array of this size cannot be allocated here, and no ring was resized.
        if slots == 0 {
            return Ok(());
        }
        for index in 0..self.queues() {
            if let Some(tfile) = self.file(index).filter(|&file| self.slots(file) != slots) {
                self.exchange(tfile, Some(index), Slots::new(slots).ok_or(ENOMEM)?);
            }
        }
        // SAFETY: The device is valid by the type invariants. The first word of a list, and of each of its entries, is
        // the pointer to the next entry.
        let list = unsafe { addr_of!((*self.tun.as_ptr()).disabled) }.cast::<*const u8>();
        // SAFETY: The list is changed under RTNL only.
        let mut entry = unsafe { access::read(list) };
        while entry != list.cast() {
            let tfile = entry.wrapping_sub(offset_of!(private::tun_file, next));
            if let Some(tfile) = NonNull::new(tfile.cast_mut().cast::<private::tun_file>()) {
                if self.slots(tfile) != slots {
                    self.exchange(tfile, None, Slots::new(slots).ok_or(ENOMEM)?);
                }
            }
            // SAFETY: As above; the files stay as long as they are in the list.
            entry = unsafe { access::read(entry.cast()) };
        }
        Ok(())
    }

    /// Exchanges the array of a ring, if all its entries fit. Returns whether it did.
    ///
    /// Wakes the queue where `tun_queue_resize()` would, unless the ring is full: then the queue is stopped, and its
    /// consumer wakes it.
    fn exchange(
        &self,
        tfile: NonNull<private::tun_file>,
        queue: Option<usize>,
        slots: Slots,
    ) -> bool {
        let rcu = rcu::read_lock();
        // SAFETY: Valid by the type invariants.
        let dev = unsafe { NetDevice::from_raw(self.dev, &rcu) };
        let bottom_halves = bottom_halves::off();
        let ring = self.ring_of(tfile).lock();
        let producer = ring.lock_producer();
        let queue = queue.and_then(|index| dev.tx_queue(index));
        // No producer fills the ring of a detached file.
        let is_stopped = queue.as_ref().is_none_or(Queue::is_stopped);
        let entries = producer.entries().unwrap_or(usize::MAX);
        let mut old = None;
        if size::fits(entries, slots.count(), is_stopped) {
            old = Some(slots.exchange(&producer));
            // SAFETY: As above, and under the consumer lock.
            unsafe { access::write(addr_of_mut!((*tfile.as_ptr()).cons_cnt), 0) };
            // Under the locks that `tun_net_close()` takes, so its stop is not undone.
            if let Some(queue) = queue.filter(|_| producer.has_room() && dev.is_running()) {
                queue.wake();
            }
        }
        drop(producer);
        drop(ring);
        drop(bottom_halves);
        drop(rcu);
        // The old array is freed here, without locks.
        old.is_some()
    }

    /// Wakes a queue under both locks of its ring, as `tun_force_wake_queue()` does, if `is_due` returns true.
    fn wake(&self, index: usize, is_due: impl FnOnce(&LockedProducer<'_>) -> bool) {
        let Some(tfile) = self.file(index) else {
            return;
        };
        let rcu = rcu::read_lock();
        // SAFETY: Valid by the type invariants.
        let dev = unsafe { NetDevice::from_raw(self.dev, &rcu) };
        let bottom_halves = bottom_halves::off();
        let ring = self.ring_of(tfile).lock();
        let producer = ring.lock_producer();
        if is_due(&producer) {
            // SAFETY: As above, and under the consumer lock.
            unsafe { access::write(addr_of_mut!((*tfile.as_ptr()).cons_cnt), 0) };
            // Under the locks that `tun_net_close()` takes, so its stop is not undone.
            if let Some(queue) = dev.tx_queue(index).filter(|_| dev.is_running()) {
                queue.wake();
            }
        }
        drop(producer);
        drop(ring);
        drop(bottom_halves);
    }
}

impl stall::Device for TunDevice<'_> {
    fn longest_stopped(&self) -> Option<(usize, u32)> {
        let seen = self.describe();
        (seen.stopped != 0).then_some((seen.stopped_queue as usize, seen.stopped_ms))
    }

    fn ring(&self, queue: usize) -> Option<stall::Ring> {
        let tfile = self.file(queue)?;
        let bottom_halves = bottom_halves::off();
        let ring = self.ring_of(tfile).lock();
        let head = ring.head();
        let slots = ring.slots();
        let seen = stall::Ring {
            head,
            slots: slots.len(),
            is_empty: slots.get(head).is_none_or(|slot| slot.read().is_none()),
        };
        drop(ring);
        drop(bottom_halves);
        Some(seen)
    }
}
