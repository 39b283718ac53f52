// SPDX-License-Identifier: GPL-2.0

//! A network device of tun, as the holder of RTNL sees it.
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
        Queue,
        Ring, //
    },
    file,
    netdev_queue::NetDevice,
    ptr_ring::PtrRing,
    rtnl::Rtnl,
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
    str::CStrExt,
    sync::rcu, //
};

/// A tun or tap device.
///
/// # Invariants
///
/// `dev` is a registered device of tun, and `tun` its private part. RTNL is held for `'a`, so the device stays, and
/// nothing else changes its flags and its files.
pub(crate) struct TunDevice<'a> {
    dev: NonNull<bindings::net_device>,
    tun: NonNull<private::tun_struct>,
    _rtnl: PhantomData<&'a Rtnl>,
}

impl<'a> TunDevice<'a> {
    /// Borrows a device for as long as RTNL is held; `None` if tun has another layout than we have of it.
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
        // INVARIANT: By the safety contract; the private part lies behind the device.
        tun::device_agrees(tun).then_some(Self {
            dev,
            tun,
            _rtnl: PhantomData,
        })
    }

    /// Returns the device as C has it, to compare it.
    pub(crate) fn as_raw(&self) -> NonNull<bindings::net_device> {
        self.dev
    }

    /// Returns the name.
    pub(crate) fn name(&self) -> &CStr {
        // SAFETY: The device is there by the type invariants; the name ends with NUL, and is changed under RTNL.
        unsafe { CStr::from_char_ptr(addr_of!((*self.dev.as_ptr()).name).cast()) }
    }

    /// Returns what `devices` in debugfs shows.
    pub(crate) fn describe(&self) -> bindings::tuntap_ring_device {
        let mut device = MaybeUninit::uninit();
        // SAFETY: The device is there by the type invariants, and RTNL is held. All of it is written.
        unsafe {
            bindings::tuntap_ring_helper_describe(self.dev.as_ptr(), device.as_mut_ptr());
            device.assume_init()
        }
    }

    /// Returns whether a full ring stops its queue.
    pub(crate) fn has_backpressure(&self) -> bool {
        self.flags() & bindings::IFF_BACKPRESSURE != 0
    }

    fn flags(&self) -> u32 {
        // SAFETY: The device is there by the type invariants; RTNL is held, so nothing else writes its flags.
        unsafe { access::read(addr_of!((*self.tun.as_ptr()).flags)) }
    }

    /// Writes the flags with one store, as tun does: senders read them without RTNL.
    fn set_flags(&self, flags: u32) {
        // SAFETY: The device is there by the type invariants.
        unsafe { access::write_once(addr_of_mut!((*self.tun.as_ptr()).flags), flags) };
    }

    /// Sets the flag. A full ring stops its queue from the next entry on.
    pub(crate) fn set_backpressure(&self) {
        self.set_flags(self.flags() | bindings::IFF_BACKPRESSURE);
    }

    /// Clears the flag and wakes the queues, as `tun_set_iff()` does for an opener who does not ask for it.
    ///
    /// Senders read the flag under the producer lock. A sender that still saw it has stopped its queue before
    /// [`Self::force_wake`] gets the lock, and no sender stops the queue after that.
    pub(crate) fn clear_backpressure(&self) {
        self.set_flags(self.flags() & !bindings::IFF_BACKPRESSURE);
        // SAFETY: The device is there by the type invariants.
        let queues = unsafe { access::read(addr_of!((*self.tun.as_ptr()).numqueues)) };
        for index in 0..queues as usize {
            self.force_wake(index);
        }
    }

    /// Wakes a queue whatever its ring holds, as `tun_force_wake_queue()`.
    fn force_wake(&self, index: usize) {
        // SAFETY: The device is there by the type invariants; only the address of the array is taken.
        let files = unsafe { addr_of!((*self.tun.as_ptr()).tfiles) };
        if index >= file::array_len(files) {
            return;
        }
        // SAFETY: In bounds, and changed under RTNL only.
        let tfile = unsafe { access::read(files.cast::<*mut private::tun_file>().add(index)) };
        let Some(tfile) = NonNull::new(tfile) else {
            return;
        };
        let rcu = rcu::read_lock();
        // SAFETY: There by the type invariants.
        let dev = unsafe { NetDevice::from_raw(self.dev, &rcu) };
        let bottom_halves = bottom_halves::off();
        // SAFETY: A file that has a queue is open, or its close waits for RTNL.
        let ring = unsafe {
            let ring = addr_of_mut!((*tfile.as_ptr()).tx_ring);
            PtrRing::from_raw(NonNull::new_unchecked(ring.cast()))
        };
        let ring = ring.lock();
        let producer = ring.lock_producer();
        // SAFETY: As above, and under the consumer lock.
        unsafe { access::write(addr_of_mut!((*tfile.as_ptr()).cons_cnt), 0) };
        // Under the locks that `tun_net_close()` takes, so its stop is not undone.
        if dev.is_running() {
            if let Some(queue) = dev.tx_queue(index) {
                queue.wake();
            }
        }
        drop(producer);
        drop(ring);
        drop(bottom_halves);
    }
}
