// SPDX-License-Identifier: GPL-2.0

//! Finds the ring, the device and the queue of a `struct file` of tun.
//!
//! C sources: `drivers/net/tun.c`, whose structures are private to it (see `bindings`), and
//! [`include/linux/if_tun.h`](srctree/include/linux/if_tun.h)

use crate::{
    access,
    bindings::{
        self,
        private, //
    },
    consume::{
        self,
        Outcome, //
    },
    file::{
        self,
        File, //
    },
    hints,
    layout::{
        read_untrusted,
        Layout, //
        LayoutCheck,
    },
    netdev_queue::{
        NetDevice,
        NetdevQueue, //
    },
    parameters,
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
    ffi::c_void,
    marker::PhantomData,
    mem::{
        offset_of,
        size_of,
        MaybeUninit, //
    },
    ptr::{
        addr_of,
        addr_of_mut,
        NonNull, //
    },
};
use kernel::sync::rcu;

/// An open file of `/dev/net/tun`, with a device or without.
///
/// # Invariants
///
/// `file` is open for `'a`, and `tfile` is its `struct tun_file`. The layout check of tun has not found a
/// mismatch.
#[derive(Clone, Copy)]
pub(crate) struct TunFile<'a> {
    tfile: NonNull<private::tun_file>,
    file: NonNull<bindings::file>,
    _file: PhantomData<&'a bindings::file>,
}

impl<'a> File<'a> for TunFile<'a> {
    type Private = private::tun_file;

    const RING: usize = offset_of!(private::tun_file, tx_ring);
    const GETTER: unsafe extern "C" fn(*mut bindings::file) -> *mut bindings::ptr_ring =
        bindings::tun_get_tx_ring;
    fn layout_check() -> &'static LayoutCheck {
        static LAYOUT_CHECK: LayoutCheck = LayoutCheck::new("tun");
        &LAYOUT_CHECK
    }

    #[inline(always)]
    unsafe fn new(file: NonNull<bindings::file>, tfile: NonNull<private::tun_file>) -> Self {
        // INVARIANT: By the safety contract.
        Self {
            tfile,
            file,
            _file: PhantomData,
        }
    }

    #[cold]
    fn compare_layout(&self, _ring: &Locked<'_>) -> Layout {
        // SAFETY: The file is open by the type invariants, so its socket is there.
        let matches = unsafe {
            file::matches_layout(
                self.file.as_ptr(),
                self.tfile.cast(),
                bindings::tun_get_socket(self.file.as_ptr()),
                offset_of!(private::tun_file, socket),
                size_of::<private::tun_file>(),
            )
        };
        if !matches {
            return Layout::Mismatch;
        }
        let rcu = rcu::read_lock();
        let Some(tun) = self.tun() else {
            return Layout::Unknown;
        };
        if !device_matches_layout(tun) {
            return Layout::Mismatch;
        }
        // INVARIANT: The file is open, its device was read just now, the layout matches as far as it
        // can be compared, and the lock is held.
        let device = TunDevice {
            tfile: self.tfile,
            tun,
            rcu: &rcu,
        };
        // A detached file cannot confirm the layout, and it cannot wake a queue.
        if consume::Device::owns_queue(&device) {
            Layout::Match
        } else {
            Layout::Unknown
        }
    }

    #[inline(always)]
    fn consume_batched(self, out: &mut [MaybeUninit<*mut c_void>]) -> Outcome {
        consume::consume_batched(self, out)
    }

    #[inline(always)]
    fn trace(self, requested: usize, outcome: &Outcome) {
        trace::consume_batched(self, requested, outcome);
    }
}

impl TunFile<'_> {
    /// Returns the device's structure, `None` once the device is gone.
    ///
    /// After a detach of the queue the device is still there, and only [`consume::Device::owns_queue`]
    /// shows the detach.
    #[inline(always)]
    fn tun(&self) -> Option<NonNull<private::tun_struct>> {
        // SAFETY: The file is open by the type invariants. As `rcu_dereference()`: one volatile
        // read, and address dependencies from it. Pairs with the grace period between clearing
        // the pointer and freeing the device, and with the release that published it. Litmus tests:
        // `detach-wake`, `attach-look`.
        NonNull::new(unsafe { access::read_once(addr_of!((*self.tfile.as_ptr()).tun)) })
    }
}

/// Returns whether the private part of the device in a `struct tun_struct` is that structure, and has
/// the expected size.
///
/// A `struct tun_file` of the expected size may still have other offsets of its members; only the build
/// ID excludes that. So this dereferences nothing that might not be a pointer.
pub(crate) fn device_matches_layout(tun: NonNull<private::tun_struct>) -> bool {
    let tun = tun.as_ptr() as usize;
    let dev = tun.wrapping_add(offset_of!(private::tun_struct, dev)) as *const usize;
    let Some(dev) = read_untrusted(dev) else {
        return false;
    };
    let length = dev.wrapping_add(offset_of!(bindings::net_device, priv_len)) as *const u32;
    dev.wrapping_add(offset_of!(bindings::net_device, priv_)) == tun
        && read_untrusted(length) == u32::try_from(size_of::<private::tun_struct>()).ok()
}

impl consume::Endpoint for TunFile<'_> {
    type Ring<'a>
        = Locked<'a>
    where
        Self: 'a;
    type Device<'a> = TunDevice<'a>;
    type BottomHalvesOff = crate::bottom_halves::Off;

    #[inline(always)]
    fn lock(&self) -> Locked<'_> {
        // SAFETY: The ring lies in the private data, which stays as long as the file is open.
        let ring = unsafe {
            let ring = addr_of_mut!((*self.tfile.as_ptr()).tx_ring);
            PtrRing::from_raw(NonNull::new_unchecked(ring.cast()))
        };
        ring.lock()
    }

    fn bottom_halves_off(&self) -> Self::BottomHalvesOff {
        crate::bottom_halves::off()
    }

    fn wake_after(&self) -> usize {
        if hints::is_draining(self.tfile.as_ptr()) {
            100
        } else {
            parameters::wake_after()
        }
    }

    #[inline(always)]
    fn was_woken(&self) -> bool {
        hints::of(self.tfile.as_ptr()).is_woken()
    }

    #[cold]
    #[inline(never)]
    fn found_empty(&self, ring: &Locked<'_>) {
        let starved = self.with_device(ring, |device| device.has_backlog());
        hints::of(self.tfile.as_ptr()).note_empty(starved.unwrap_or(false));
    }

    #[inline(always)]
    fn with_device(
        &self,
        _ring: &Locked<'_>,
        check: impl FnOnce(TunDevice<'_>) -> bool,
    ) -> Option<bool> {
        let rcu = rcu::read_lock();
        let tun = self.tun()?;
        // The device may be the first of this driver, and may have been attached after the call began.
        (Self::layout_check().result() == Layout::Match).then(|| {
            check(TunDevice {
                tfile: self.tfile,
                tun,
                rcu: &rcu,
            })
        })
    }

    #[cold]
    fn check_layout(&self, ring: &Locked<'_>) {
        // The check logs a mismatch, and the next call returns it.
        let _ = Self::layout_check().check(self.file, || self.compare_layout(ring));
    }
}

/// The device of a tun file, seen in one RCU read-side critical section and under the consumer
/// lock of the file's ring.
///
/// # Invariants
///
/// `tfile` is open, `tun` was read from it in the critical section of `rcu`, the layout matches, and
/// the consumer lock is held.
pub(crate) struct TunDevice<'a> {
    tfile: NonNull<private::tun_file>,
    tun: NonNull<private::tun_struct>,
    rcu: &'a rcu::Guard,
}

impl Named for TunDevice<'_> {
    #[inline(always)]
    fn net_device(&self) -> *mut bindings::net_device {
        // SAFETY: Valid by the type invariants; `dev` is never changed.
        unsafe { access::read(addr_of!((*self.tun.as_ptr()).dev)) }.cast()
    }

    /// Returns the index of the file's queue, as long as the file owns one.
    #[inline(always)]
    fn queue_index(&self) -> usize {
        // SAFETY: Valid by the type invariants; changed under the consumer lock only. It shares a
        // union with `ifindex`, which is used as long as the file has no device. The check for a
        // device is only a control dependency; the lock orders the two. Litmus test:
        // `attach-index`.
        usize::from(unsafe {
            access::read(addr_of!(
                (*self.tfile.as_ptr()).__bindgen_anon_1.queue_index
            ))
        })
    }
}

impl<'a> TunDevice<'a> {
    #[inline(always)]
    fn dev(&self) -> Option<NetDevice<'a>> {
        let dev = NonNull::new(self.net_device())?;
        // SAFETY: The device holds `tun` as its private part, so both are freed together, after a
        // grace period.
        Some(unsafe { NetDevice::from_raw(dev, self.rcu) })
    }

    /// Returns whether packets wait in the qdisc of the file's queue.
    fn has_backlog(&self) -> bool {
        if !consume::Device::owns_queue(self) {
            return false;
        }
        // SAFETY: The device is valid by the type invariants, and has the queue that its file owns.
        unsafe { bindings::tuntap_ring_helper_has_backlog(self.net_device(), self.queue_index()) }
    }

    #[inline(always)]
    fn freed(&self) -> *mut i32 {
        // SAFETY: Valid by the type invariants; only the address is taken.
        unsafe { addr_of_mut!((*self.tfile.as_ptr()).cons_cnt) }
    }
}

impl<'a> consume::Device for TunDevice<'a> {
    type Queue = NetdevQueue<'a>;

    #[inline(always)]
    fn has_backpressure(&self) -> bool {
        // SAFETY: Valid by the type invariants; tun writes this `int` with one store.
        let flags = unsafe { access::read_once(addr_of!((*self.tun.as_ptr()).flags)) };
        flags & bindings::IFF_BACKPRESSURE != 0
    }

    #[inline(always)]
    fn is_running(&self) -> bool {
        self.dev().is_some_and(NetDevice::is_running)
    }

    #[inline(always)]
    fn owns_queue(&self) -> bool {
        // SAFETY: Valid by the type invariants; only the address of the array is taken.
        let tfiles = unsafe { addr_of!((*self.tun.as_ptr()).tfiles) };
        let index = self.queue_index();
        index < file::array_len(tfiles)
            // SAFETY: In bounds. The slot is compared, never dereferenced, as by `rcu_access_pointer()`.
            && unsafe { access::read_once(tfiles.cast::<*mut private::tun_file>().add(index)) }
                == self.tfile.as_ptr()
    }

    #[inline(always)]
    fn queue(&self) -> Option<NetdevQueue<'a>> {
        self.dev()?.tx_queue(self.queue_index())
    }

    /// Uses tun's own `cons_cnt`, which tun's `read()` path uses as well.
    ///
    /// tun counts consumed entries. This counts freed slots, from checkpoint to checkpoint, so a call that
    /// passed no checkpoint need not check the queue. Over time both numbers are equal. At any moment they
    /// differ by less than a batch plus the distance between two checkpoints, not counting the slots that
    /// `ptr_ring_unconsume()` frees.
    #[inline(always)]
    fn add_freed(&self, slots: usize) -> usize {
        let freed = self.freed();
        // SAFETY: Valid by the type invariants, and under the consumer lock, which is held.
        let count = unsafe { access::read(freed) };
        let count = count.saturating_add(i32::try_from(slots).unwrap_or(i32::MAX));
        // SAFETY: As above.
        unsafe { access::write(freed, count) };
        usize::try_from(count).unwrap_or(0)
    }

    #[inline(always)]
    fn reset_freed(&self) {
        // SAFETY: Valid by the type invariants, and under the consumer lock, which is held.
        unsafe { access::write(self.freed(), 0) };
    }

    fn woken(&self, producer: &impl consume::Producer) {
        trace::wake(self, producer);
        hints::of(self.tfile.as_ptr()).note_wake();
    }
}
