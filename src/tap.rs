// SPDX-License-Identifier: GPL-2.0

//! From a `struct file` of macvtap or ipvtap to its ring, its device and its queue.
//!
//! Their ring is filled by a receive handler, and the device's transmit queues carry the opposite
//! direction: Linux 7.3 never stops them for backpressure, so the wake here finds no work there.
//! It serves kernels whose tap stops its queue.
//!
//! C header: [`include/linux/if_tap.h`](srctree/include/linux/if_tap.h)

use crate::{
    access, bindings, consume,
    file::{
        self,
        File, //
    },
    layout::{
        read_untrusted,
        Agreement,
        Verdict, //
    },
    netdev_queue::{
        NetDevice,
        NetdevQueue, //
    },
    ptr_ring::{
        Locked,
        PtrRing, //
    },
    trace::{
        self,
        Named, //
    },
};
use core::{
    marker::PhantomData,
    mem::{
        offset_of,
        size_of, //
    },
    ptr::{
        addr_of,
        addr_of_mut,
        NonNull, //
    },
};
use kernel::sync::rcu;

/// An open file of a macvtap or ipvtap device.
///
/// # Invariants
///
/// `file` is open for `'a`, and `q` is its `struct tap_queue`. The running tap is not known to have
/// another layout.
#[derive(Clone, Copy)]
pub(crate) struct TapFile<'a> {
    q: NonNull<bindings::tap_queue>,
    file: NonNull<bindings::file>,
    _file: PhantomData<&'a bindings::file>,
}

impl<'a> File<'a> for TapFile<'a> {
    type Private = bindings::tap_queue;

    const RING: usize = offset_of!(bindings::tap_queue, ring);
    const GETTER: unsafe extern "C" fn(*mut bindings::file) -> *mut bindings::ptr_ring =
        bindings::tap_get_ptr_ring;
    fn agreement() -> &'static Agreement {
        static AGREEMENT: Agreement = Agreement::new("tap");
        &AGREEMENT
    }

    #[inline(always)]
    unsafe fn new(file: NonNull<bindings::file>, q: NonNull<bindings::tap_queue>) -> Self {
        // INVARIANT: By the safety contract.
        Self {
            q,
            file,
            _file: PhantomData,
        }
    }

    #[cold]
    fn compare(&self, _ring: &Locked<'_>) -> Verdict {
        // SAFETY: The file is open by the type invariants, so its socket is there.
        let agrees = unsafe {
            file::agrees(
                self.file.as_ptr(),
                self.q.cast(),
                bindings::tap_get_socket(self.file.as_ptr()),
                offset_of!(bindings::tap_queue, sock),
                size_of::<bindings::tap_queue>(),
            )
        };
        if !agrees {
            return Verdict::Misfit;
        }
        let rcu = rcu::read_lock();
        let Some(tap) = self.tap() else {
            return Verdict::Open;
        };
        if !Self::device_agrees(tap) {
            return Verdict::Misfit;
        }
        // INVARIANT: The file is open, its device was read just now, and the structures agree as far as
        // they can be compared.
        let device = TapDevice {
            q: self.q,
            tap,
            rcu: &rcu,
        };
        // A file that was detached says nothing; it wakes nobody either.
        if consume::Device::owns_queue(&device) {
            Verdict::Fits
        } else {
            Verdict::Open
        }
    }
}

impl TapFile<'_> {
    /// Whether a `struct tap_dev` lies where macvtap and ipvtap have it: in the private part of
    /// the device that it names. As for tun, nothing is followed that might not be a pointer.
    #[cold]
    fn device_agrees(tap: NonNull<bindings::tap_dev>) -> bool {
        let tap = tap.as_ptr() as usize;
        let dev = tap.wrapping_add(offset_of!(bindings::tap_dev, dev)) as *const usize;
        let Some(dev) = read_untrusted(dev) else {
            return false;
        };
        let length = dev.wrapping_add(offset_of!(bindings::net_device, priv_len)) as *const u32;
        let offset = tap.wrapping_sub(dev.wrapping_add(offset_of!(bindings::net_device, priv_)));
        offset
            .checked_add(size_of::<bindings::tap_dev>())
            .is_some_and(|end| read_untrusted(length).is_some_and(|length| end <= length as usize))
    }

    /// The device's structure, NULL once the device is gone.
    #[inline(always)]
    fn tap(&self) -> Option<NonNull<bindings::tap_dev>> {
        // SAFETY: The file is open by the type invariants. As `rcu_dereference()`: one volatile
        // read, and address dependencies from it. Pairs with the grace period between clearing
        // the pointer and freeing the device, and with the release that published it. Litmus tests:
        // `detach-wake`, `attach-look`.
        NonNull::new(unsafe { access::read_once(addr_of!((*self.q.as_ptr()).tap)) })
    }
}

impl consume::Endpoint for TapFile<'_> {
    type Ring<'a>
        = Locked<'a>
    where
        Self: 'a;
    type Device<'a> = TapDevice<'a>;
    type BottomHalvesOff = crate::bottom_halves::Off;

    #[inline(always)]
    fn lock(&self) -> Locked<'_> {
        // SAFETY: The ring lies in the private data, and is there as long as the file is open.
        let ring = unsafe {
            let ring = addr_of_mut!((*self.q.as_ptr()).ring);
            PtrRing::from_raw(NonNull::new_unchecked(ring.cast()))
        };
        ring.lock()
    }

    fn bottom_halves_off(&self) -> Self::BottomHalvesOff {
        crate::bottom_halves::off()
    }

    fn wake_after(&self) -> usize {
        crate::wake_after()
    }

    #[inline(always)]
    fn with_device(
        &self,
        _ring: &Locked<'_>,
        check: impl FnOnce(TapDevice<'_>) -> bool,
    ) -> Option<bool> {
        let rcu = rcu::read_lock();
        let tap = self.tap()?;
        // The device may be the first that this driver has, and have come after the call began.
        (Self::agreement().verdict() == Verdict::Fits).then(|| {
            check(TapDevice {
                q: self.q,
                tap,
                rcu: &rcu,
            })
        })
    }

    #[cold]
    fn check_layout(&self, ring: &Locked<'_>) {
        // A mismatch is reported there, and the next call returns it.
        let _ = Self::agreement().decide(self.file, || self.compare(ring));
    }
}

/// The device of a tap file, seen in one RCU read-side critical section.
///
/// # Invariants
///
/// `q` is open, `tap` was read from it in the critical section of `rcu`, the layout fits.
pub(crate) struct TapDevice<'a> {
    q: NonNull<bindings::tap_queue>,
    tap: NonNull<bindings::tap_dev>,
    rcu: &'a rcu::Guard,
}

impl Named for TapDevice<'_> {
    #[inline(always)]
    fn net_device(&self) -> *mut bindings::net_device {
        // SAFETY: There by the type invariants; `dev` is never changed.
        unsafe { access::read(addr_of!((*self.tap.as_ptr()).dev)) }
    }

    /// The file's place among the device's files. There may be more files than queues.
    #[inline(always)]
    fn queue_index(&self) -> usize {
        // SAFETY: There by the type invariants. Changed under RTNL, not under the consumer lock:
        // one volatile read, as `READ_ONCE()` is.
        usize::from(unsafe { access::read_once(addr_of!((*self.q.as_ptr()).queue_index)) })
    }
}

impl<'a> TapDevice<'a> {
    #[inline(always)]
    fn dev(&self) -> Option<NetDevice<'a>> {
        let dev = NonNull::new(self.net_device())?;
        // SAFETY: `tap` lies in the device's private part, so both are freed together, after a
        // grace period.
        Some(unsafe { NetDevice::from_raw(dev, self.rcu) })
    }
}

impl<'a> consume::Device for TapDevice<'a> {
    type Queue = NetdevQueue<'a>;

    /// There is no flag for it: a driver that stops its queue wants it woken.
    #[inline(always)]
    fn has_backpressure(&self) -> bool {
        true
    }

    #[inline(always)]
    fn is_running(&self) -> bool {
        self.dev().is_some_and(NetDevice::is_running)
    }

    #[inline(always)]
    fn owns_queue(&self) -> bool {
        // SAFETY: There by the type invariants; a `bool` that is 0 or 1, changed under RTNL.
        let enabled =
            unsafe { access::read_once(addr_of!((*self.q.as_ptr()).enabled).cast::<u8>()) };
        // SAFETY: There by the type invariants; only the address of the array is taken.
        let taps = unsafe { addr_of!((*self.tap.as_ptr()).taps) };
        let index = self.queue_index();
        enabled != 0
            && index < file::array_len(taps)
            // SAFETY: In bounds. The slot is compared, never followed: `rcu_access_pointer()`.
            && unsafe { access::read_once(taps.cast::<*mut bindings::tap_queue>().add(index)) }
                == self.q.as_ptr()
    }

    #[inline(always)]
    fn queue(&self) -> Option<NetdevQueue<'a>> {
        self.dev()?.tx_queue(self.queue_index())
    }

    /// Tap keeps no count: every freed slot is reason enough.
    #[inline(always)]
    fn add_freed(&self, _slots: usize) -> usize {
        usize::MAX
    }

    #[inline(always)]
    fn reset_freed(&self) {}

    fn woken(&self, producer: &impl consume::Producer) {
        trace::wake(self, producer);
    }
}
