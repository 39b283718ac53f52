// SPDX-License-Identifier: GPL-2.0

//! The driver's side of a split virtqueue.
//!
//! The virtio-queue crate has the device's side; this is its counterpart. Each buffer is one
//! descriptor, named by the descriptor's index: [`Virtqueue::describe`] sets its address,
//! [`Virtqueue::push`] hands it out, [`Virtqueue::publish`] makes what was pushed visible, and
//! [`Virtqueue::pop`] takes back what the device has used. It serves both directions.

use std::num::Wrapping;
use std::rc::Rc;
use std::sync::atomic::{Ordering, fence};

use anyhow::{Context, Result, ensure};
use vhost::VringConfigData;
use virtio_bindings::bindings::virtio_ring::{
    VRING_AVAIL_F_NO_INTERRUPT, VRING_DESC_F_WRITE, VRING_USED_F_NO_NOTIFY,
};
use virtio_queue::desc::RawDescriptor;
use virtio_queue::desc::split::Descriptor;
use vm_memory::GuestAddress;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::memory::GuestRam;

/// The largest ring that is set up.
pub const MAX_SIZE: u16 = 1024;

// The layout of a split virtqueue, from the virtio specification.
const DESC_ALIGN: u64 = 16;
const AVAIL_ALIGN: u64 = 2;
const USED_ALIGN: u64 = 4;
const DESC_LEN: u64 = size_of::<RawDescriptor>() as u64;
const AVAIL_ELEM_LEN: u64 = size_of::<u16>() as u64;
/// A used element: the buffer's id, then the length written, 32 bits each.
const USED_ELEM_LEN: u64 = 8;
const USED_ELEM_ID: u64 = 0;
const USED_ELEM_WRITTEN: u64 = 4;
/// Both rings begin with their flags, then their index, then their elements.
const FLAGS: u64 = 0;
const INDEX: u64 = 2;
const ELEMS: u64 = 4;
/// Both rings end with the other side's event index.
const EVENT_LEN: u64 = 2;

/// Which way a buffer's bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The device writes it (reception).
    DeviceWrites,
    /// The device reads it (transmission).
    DeviceReads,
}

/// A buffer that the device has used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// The buffer's descriptor.
    pub id: u16,
    /// How many bytes the device wrote into it.
    pub len: u32,
}

/// Whether moving an index from `old` to `new` passes `event`: the specification's
/// `vring_need_event()`.
fn passes(event: Wrapping<u16>, new: Wrapping<u16>, old: Wrapping<u16>) -> bool {
    new - event - Wrapping(1) < new - old
}

/// The driver's side of a split virtqueue.
///
/// # Invariants
///
/// `size` is a power of two, up to [`MAX_SIZE`], and the three parts lie within `ram`.
pub struct Virtqueue {
    ram: Rc<GuestRam>,
    size: u16,
    event_idx: bool,
    desc: GuestAddress,
    avail: GuestAddress,
    used: GuestAddress,
    /// The end of the available ring, after [`Self::push`].
    next_avail: Wrapping<u16>,
    /// The part of it that the device has been shown.
    published: Wrapping<u16>,
    /// The position of [`Self::pop`] in the used ring.
    next_used: Wrapping<u16>,
    kick: EventFd,
    call: EventFd,
}

impl Virtqueue {
    /// Returns the memory of a queue, with its alignment.
    pub const fn memory(size: u16) -> u64 {
        let size = size as u64;
        (DESC_ALIGN + AVAIL_ALIGN + USED_ALIGN)
            + size * (DESC_LEN + AVAIL_ELEM_LEN + USED_ELEM_LEN)
            + 2 * (ELEMS + EVENT_LEN)
    }

    /// Takes memory for an empty queue of `size` entries. `event_idx` is whether
    /// `VIRTIO_RING_F_EVENT_IDX` was negotiated.
    pub fn new(ram: &Rc<GuestRam>, size: u16, event_idx: bool) -> Result<Self> {
        ensure!(
            size.is_power_of_two() && size <= MAX_SIZE,
            "a virtqueue has a power of two up to {MAX_SIZE} of entries, not {size}"
        );
        let n = u64::from(size);
        let ring = |elem_len| ELEMS + n * elem_len + EVENT_LEN;
        let eventfd = || EventFd::new(EFD_NONBLOCK).context("cannot make an eventfd");
        // INVARIANT: The size was checked, and the allocator gives memory of `ram`. It is fresh,
        // so all is zero.
        let mut queue = Self {
            ram: Rc::clone(ram),
            size,
            event_idx,
            desc: ram.allocate(n * DESC_LEN, DESC_ALIGN)?,
            avail: ram.allocate(ring(AVAIL_ELEM_LEN), AVAIL_ALIGN)?,
            used: ram.allocate(ring(USED_ELEM_LEN), USED_ALIGN)?,
            next_avail: Wrapping(0),
            published: Wrapping(0),
            next_used: Wrapping(0),
            kick: eventfd()?,
            call: eventfd()?,
        };
        queue.disable_interrupts()?;
        Ok(queue)
    }

    /// Returns the queue's description for vhost.
    pub fn config(&self) -> VringConfigData {
        VringConfigData {
            queue_max_size: MAX_SIZE,
            queue_size: self.size,
            flags: 0,
            desc_table_addr: self.desc.0,
            avail_ring_addr: self.avail.0,
            used_ring_addr: self.used.0,
            log_addr: None,
        }
    }

    /// Returns the number of entries.
    pub fn size(&self) -> u16 {
        self.size
    }

    /// Signalled by the driver: there are buffers.
    pub fn kick(&self) -> &EventFd {
        &self.kick
    }

    /// Signalled by the device: buffers have been used.
    pub fn call(&self) -> &EventFd {
        &self.call
    }

    fn slot(&self, index: Wrapping<u16>) -> u64 {
        u64::from(index.0 & (self.size - 1))
    }

    fn used_event(&self) -> u64 {
        self.avail.0 + ELEMS + u64::from(self.size) * AVAIL_ELEM_LEN
    }

    fn avail_event(&self) -> u64 {
        self.used.0 + ELEMS + u64::from(self.size) * USED_ELEM_LEN
    }

    /// Says where buffer `id` is. The device must not have it.
    pub fn describe(
        &mut self,
        id: u16,
        addr: GuestAddress,
        len: u32,
        direction: Direction,
    ) -> Result<()> {
        ensure!(id < self.size, "buffer {id} is outside the virtqueue");
        let flags = match direction {
            Direction::DeviceWrites => VRING_DESC_F_WRITE as u16,
            Direction::DeviceReads => 0,
        };
        let desc = RawDescriptor::from(Descriptor::new(addr.0, len, flags, 0));
        self.ram.write(self.desc.0 + u64::from(id) * DESC_LEN, desc)
    }

    /// Hands buffer `id` to the device, with the next [`Self::publish`].
    pub fn push(&mut self, id: u16) -> Result<()> {
        let in_flight = self.next_avail - self.next_used;
        ensure!(in_flight.0 < self.size, "the virtqueue is full");
        let at = self.avail.0 + ELEMS + self.slot(self.next_avail) * AVAIL_ELEM_LEN;
        self.ram.store(at, id.to_le(), Ordering::Relaxed)?;
        self.next_avail += 1;
        Ok(())
    }

    /// Shows the device all pushed buffers, and kicks it if required.
    pub fn publish(&mut self) -> Result<()> {
        let (old, new) = (self.published, self.next_avail);
        if old == new {
            return Ok(());
        }
        let ram = &self.ram;
        // Release: the device sees the descriptors and entries when it sees the index.
        ram.store(self.avail.0 + INDEX, new.0.to_le(), Ordering::Release)?;
        self.published = new;

        // The index must be out before the device's wish is read: pairs with the smp_mb() of
        // vhost_enable_notify().
        fence(Ordering::SeqCst);
        let wanted = if self.event_idx {
            let event = u16::from_le(ram.load(self.avail_event(), Ordering::Relaxed)?);
            passes(Wrapping(event), new, old)
        } else {
            let flags = u16::from_le(ram.load(self.used.0 + FLAGS, Ordering::Relaxed)?);
            u32::from(flags) & VRING_USED_F_NO_NOTIFY == 0
        };
        if wanted {
            self.kick.write(1).context("cannot kick vhost")?;
        }
        Ok(())
    }

    fn device_index(&self) -> Result<Wrapping<u16>> {
        // Acquire: pairs with the device's write barrier between elements and index.
        let index = self.ram.load(self.used.0 + INDEX, Ordering::Acquire)?;
        Ok(Wrapping(u16::from_le(index)))
    }

    /// Returns the number of used buffers for [`Self::pop`].
    pub fn pending(&self) -> Result<u16> {
        let pending = (self.device_index()? - self.next_used).0;
        ensure!(
            pending <= (self.published - self.next_used).0,
            "vhost's used index is ahead of the buffers it was given"
        );
        Ok(pending)
    }

    /// Takes back one of the [`Self::pending`] buffers.
    pub fn pop(&mut self) -> Result<Used> {
        let at = self.used.0 + ELEMS + self.slot(self.next_used) * USED_ELEM_LEN;
        let id = u32::from_le(self.ram.load(at + USED_ELEM_ID, Ordering::Relaxed)?);
        let len = u32::from_le(self.ram.load(at + USED_ELEM_WRITTEN, Ordering::Relaxed)?);
        let id = u16::try_from(id)
            .ok()
            .filter(|id| *id < self.size)
            .with_context(|| format!("vhost used buffer {id}, which does not exist"))?;
        self.next_used += 1;
        Ok(Used { id, len })
    }

    /// Requests a signal when the device uses the next buffer. Returns whether there is one
    /// already, in which case no signal may come.
    pub fn enable_interrupts(&mut self) -> Result<bool> {
        let ram = &self.ram;
        if self.event_idx {
            ram.store(
                self.used_event(),
                self.next_used.0.to_le(),
                Ordering::Relaxed,
            )?;
        } else {
            ram.store(self.avail.0 + FLAGS, 0u16, Ordering::Relaxed)?;
        }
        // The wish must be out before the index is read: pairs with the smp_mb() of
        // vhost_notify().
        fence(Ordering::SeqCst);
        Ok(self.pending()? > 0)
    }

    /// Tells the device that signals are not needed for now. With event indices this is no more
    /// than leaving the old one alone: it is passed once.
    pub fn disable_interrupts(&mut self) -> Result<()> {
        if self.event_idx {
            return Ok(());
        }
        let flags = (VRING_AVAIL_F_NO_INTERRUPT as u16).to_le();
        self.ram
            .store(self.avail.0 + FLAGS, flags, Ordering::Relaxed)
    }
}

/// The device's side, for tests.
#[cfg(test)]
pub mod device {
    use super::*;

    /// The descriptor at position `at` of the available ring.
    pub fn buffer(queue: &Virtqueue, at: u16) -> Descriptor {
        let raw: RawDescriptor = queue
            .ram
            .read(queue.desc.0 + u64::from(id(queue, at)) * DESC_LEN)
            .unwrap();
        raw.into()
    }

    fn id(queue: &Virtqueue, at: u16) -> u16 {
        let slot = queue.slot(Wrapping(at));
        let avail = queue.avail.0 + ELEMS + slot * AVAIL_ELEM_LEN;
        u16::from_le(queue.ram.load(avail, Ordering::Relaxed).unwrap())
    }

    pub fn write_used_elem(queue: &Virtqueue, slot: u64, id: u32, len: u32) {
        let at = queue.used.0 + ELEMS + slot * USED_ELEM_LEN;
        queue.ram.write(at + USED_ELEM_ID, id.to_le()).unwrap();
        queue
            .ram
            .write(at + USED_ELEM_WRITTEN, len.to_le())
            .unwrap();
    }

    /// Uses the buffer at position `at` of the available ring, as a device would.
    pub fn uses(queue: &Virtqueue, at: u16, len: u32) {
        let slot = queue.slot(Wrapping(at));
        write_used_elem(queue, slot, u32::from(id(queue, at)), len);
        let index = at.wrapping_add(1).to_le();
        queue
            .ram
            .store(queue.used.0 + INDEX, index, Ordering::Release)
            .unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::device::write_used_elem;
    use super::*;

    fn queue(size: u16, event_idx: bool) -> Virtqueue {
        let ram = Rc::new(GuestRam::new(0x20000).unwrap());
        Virtqueue::new(&ram, size, event_idx).unwrap()
    }

    fn kicked(queue: &Virtqueue) -> bool {
        queue.kick.read().is_ok()
    }

    fn device_wants_kick_at(queue: &Virtqueue, event: u16) {
        let at = queue.avail_event();
        queue
            .ram
            .store(at, event.to_le(), Ordering::Relaxed)
            .unwrap();
    }

    #[test]
    fn rejects_sizes_other_than_powers_of_two_up_to_1024() {
        let ram = Rc::new(GuestRam::new(0x20000).unwrap());
        for size in [0, 3, 255, 2048] {
            assert!(
                Virtqueue::new(&ram, size, true).is_err(),
                "expected: an error for {size:?}, seen: none"
            );
        }
        for size in [1, 2, 256, 1024] {
            let ram = GuestRam::new(Virtqueue::memory(size) as usize).unwrap();
            assert!(
                Virtqueue::new(&Rc::new(ram), size, true).is_ok(),
                "expected: no error for {size:?}"
            );
        }
    }

    #[test]
    fn passes_an_event_across_index_wraps() {
        let passed = |event, new, old| passes(Wrapping(event), Wrapping(new), Wrapping(old));
        assert!(passed(0, 1, 0));
        assert!(!passed(1, 1, 0), "expected: event 1 is ahead of index 1");
        assert!(!passed(0, 2, 1), "expected: event 0 was passed before");
        assert!(
            passed(5, 64, 0),
            "expected: event 5 is passed within a batch"
        );
        assert!(passed(0xffff, 0, 0xffff));
        assert!(passed(0xfffe, 3, 0xfff0));
        assert!(passed(1, 3, 0xfff0));
        assert!(!passed(3, 3, 0xfff0));
        assert!(!passed(0xffef, 3, 0xfff0));
        assert!(
            !passed(7, 7, 7),
            "expected: nothing is passed, as no index moved"
        );
    }

    #[test]
    fn slots_wrap_at_the_queue_size() {
        let queue = queue(4, true);
        let slots: Vec<_> = [0u16, 3, 4, 0xffff, 0]
            .map(|at| queue.slot(Wrapping(at)))
            .into();
        assert_eq!(slots, [0, 3, 0, 3, 0]);
    }

    #[test]
    fn reuses_buffers_past_index_wraps() {
        let mut queue = queue(4, true);
        for id in 0..4 {
            let addr = GuestAddress(0x10000 + u64::from(id) * 0x100);
            queue
                .describe(id, addr, 0x100, Direction::DeviceWrites)
                .unwrap();
            queue.push(id).unwrap();
        }
        assert!(
            queue.push(0).is_err(),
            "expected: an error, as the queue is full"
        );
        queue.publish().unwrap();
        for at in 0..=u16::MAX {
            assert_eq!(queue.pending().unwrap(), 0);
            device::uses(&queue, at, u32::from(at));
            assert_eq!(queue.pending().unwrap(), 1);
            let used = queue.pop().unwrap();
            assert_eq!(
                used,
                Used {
                    id: at % 4,
                    len: u32::from(at)
                }
            );
            queue.push(used.id).unwrap();
            queue.publish().unwrap();
        }
        assert_eq!(
            (queue.next_avail, queue.next_used),
            (Wrapping(4), Wrapping(0))
        );
    }

    #[test]
    fn kicks_only_past_the_event_index() {
        let mut queue = queue(8, true);
        queue.publish().unwrap();
        assert!(!kicked(&queue), "expected: no kick, as nothing is new");
        queue.push(0).unwrap();
        queue.publish().unwrap();
        assert!(kicked(&queue), "expected: a kick, as event 0 is passed");
        queue.push(1).unwrap();
        queue.publish().unwrap();
        assert!(
            !kicked(&queue),
            "expected: no kick, as event 0 was passed before"
        );
        device_wants_kick_at(&queue, 3);
        queue.push(2).unwrap();
        queue.publish().unwrap();
        assert!(!kicked(&queue), "expected: no kick, as event 3 is ahead");
        queue.push(3).unwrap();
        queue.push(4).unwrap();
        queue.publish().unwrap();
        assert!(
            kicked(&queue),
            "expected: a kick, as event 3 is passed within the batch"
        );
    }

    #[test]
    fn kicks_unless_the_flag_suppresses_it() {
        let mut queue = queue(8, false);
        queue.push(0).unwrap();
        queue.publish().unwrap();
        assert!(kicked(&queue));
        let flags = (VRING_USED_F_NO_NOTIFY as u16).to_le();
        queue
            .ram
            .store(queue.used.0 + FLAGS, flags, Ordering::Relaxed)
            .unwrap();
        queue.push(1).unwrap();
        queue.publish().unwrap();
        assert!(!kicked(&queue));
    }

    #[test]
    fn enables_and_disables_interrupts() {
        let mut by_event = queue(8, true);
        by_event.push(0).unwrap();
        by_event.publish().unwrap();
        assert!(!by_event.enable_interrupts().unwrap());
        device::uses(&by_event, 0, 1);
        assert!(
            by_event.enable_interrupts().unwrap(),
            "expected: the entry before"
        );
        by_event.pop().unwrap();
        assert!(!by_event.enable_interrupts().unwrap());
        let event: u16 = by_event
            .ram
            .load(by_event.used_event(), Ordering::Relaxed)
            .unwrap();
        assert_eq!(u16::from_le(event), 1);

        let mut by_flag = queue(8, false);
        let flags = |queue: &Virtqueue| -> u16 {
            u16::from_le(
                queue
                    .ram
                    .load(queue.avail.0 + FLAGS, Ordering::Relaxed)
                    .unwrap(),
            )
        };
        assert_eq!(u32::from(flags(&by_flag)), VRING_AVAIL_F_NO_INTERRUPT);
        assert!(!by_flag.enable_interrupts().unwrap());
        assert_eq!(flags(&by_flag), 0);
        by_flag.disable_interrupts().unwrap();
        assert_eq!(u32::from(flags(&by_flag)), VRING_AVAIL_F_NO_INTERRUPT);
    }

    #[test]
    fn rejects_used_entries_that_were_not_available() {
        let mut queue = queue(4, true);
        queue.push(0).unwrap();
        queue.publish().unwrap();
        write_used_elem(&queue, 0, 4, 0);
        assert!(queue.pop().is_err(), "expected: an error for buffer 4 of 4");
        let index = queue.used.0 + INDEX;
        queue
            .ram
            .store(index, 2u16.to_le(), Ordering::Relaxed)
            .unwrap();
        assert!(
            queue.pending().is_err(),
            "expected: an error for 2 used of 1"
        );
    }

    #[test]
    fn describes_buffers_of_both_directions() {
        let mut queue = queue(2, true);
        queue
            .describe(0, GuestAddress(0x1000), 10, Direction::DeviceWrites)
            .unwrap();
        queue
            .describe(1, GuestAddress(0x2000), 20, Direction::DeviceReads)
            .unwrap();
        let desc = |id: u64| -> Descriptor {
            let raw: RawDescriptor = queue.ram.read(queue.desc.0 + id * DESC_LEN).unwrap();
            raw.into()
        };
        assert!(desc(0).is_write_only());
        assert!(!desc(1).is_write_only());
        assert_eq!((desc(1).addr(), desc(1).len()), (GuestAddress(0x2000), 20));
        assert!(
            queue
                .describe(2, GuestAddress(0), 1, Direction::DeviceReads)
                .is_err()
        );
    }
}
