// SPDX-License-Identifier: GPL-2.0

//! Provides the module's consumer to the suites in C.
//!
//! The test module builds the protocol, the ring and the queue from the files in `src/`. Fields that
//! the test sets replace the file and its device.

#[path = "../../src/access.rs"]
mod access;
#[path = "../../src/bindings/mod.rs"]
mod bindings;
#[path = "../../src/bottom_halves.rs"]
mod bottom_halves;
#[path = "../../src/consume.rs"]
mod consume;
#[path = "../../src/netdev_queue.rs"]
mod netdev_queue;
#[path = "../../src/ptr_ring.rs"]
mod ptr_ring;
#[path = "../../src/sync.rs"]
mod sync;

use bindings::private;
use consume::Wake;
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
    slice, //
};
use kernel::{
    ffi::c_int,
    sync::rcu, //
};
use netdev_queue::{
    NetDevice,
    NetdevQueue, //
};
use ptr_ring::{
    Locked,
    PtrRing, //
};

/// `struct tuntap_ring_kunit_end`.
#[repr(C)]
pub struct End {
    ring: *mut bindings::ptr_ring,
    dev: *mut bindings::net_device,
    cons_cnt: c_int,
    queue_index: u16,
    backpressure: bool,
    owner: bool,
}

/// `struct tuntap_ring_kunit_outcome`.
#[repr(C)]
pub struct Outcome {
    freed: c_int,
    wake: c_int,
}

// kunit.h asserts the same.
const _: () = assert!(size_of::<End>() == 24 && offset_of!(End, owner) == 23);
const _: () = assert!(size_of::<Outcome>() == 8);

/// A borrowed [`End`], and its ring.
///
/// # Invariants
///
/// `end` and all objects that it points to stay valid for `'a`.
#[derive(Clone, Copy)]
struct Endpoint<'a> {
    end: NonNull<End>,
    ring: PtrRing<'a>,
}

impl consume::Endpoint for Endpoint<'_> {
    type Ring<'a>
        = Locked<'a>
    where
        Self: 'a;
    type Device<'a> = Device<'a>;
    type BottomHalvesOff = bottom_halves::Off;

    fn lock(&self) -> Locked<'_> {
        self.ring.lock()
    }

    fn bottom_halves_off(&self) -> Self::BottomHalvesOff {
        bottom_halves::off()
    }

    fn with_device(
        &self,
        _ring: &Locked<'_>,
        check: impl FnOnce(Device<'_>) -> bool,
    ) -> Option<bool> {
        let rcu = rcu::read_lock();
        // SAFETY: `end` is valid by the type invariants.
        let dev = NonNull::new(unsafe { addr_of!((*self.end.as_ptr()).dev).read() })?;
        Some(check(Device {
            end: self.end,
            // SAFETY: The device is valid by the type invariants, even without RCU.
            dev: unsafe { NetDevice::from_raw(dev, &rcu) },
            _end: PhantomData,
        }))
    }
}

/// The device of an [`End`].
///
/// # Invariants
///
/// `end` stays valid for `'a`, and the consumer lock of its ring is held.
struct Device<'a> {
    end: NonNull<End>,
    dev: NetDevice<'a>,
    _end: PhantomData<&'a End>,
}

impl<'a> consume::Device for Device<'a> {
    type Queue = NetdevQueue<'a>;

    fn has_backpressure(&self) -> bool {
        // SAFETY: `end` is valid by the type invariants.
        unsafe { addr_of!((*self.end.as_ptr()).backpressure).read() }
    }

    fn is_running(&self) -> bool {
        self.dev.is_running()
    }

    fn owns_queue(&self) -> bool {
        // SAFETY: `end` is valid by the type invariants.
        unsafe { addr_of!((*self.end.as_ptr()).owner).read() }
    }

    fn queue(&self) -> Option<NetdevQueue<'a>> {
        // SAFETY: `end` is valid by the type invariants.
        let index = unsafe { addr_of!((*self.end.as_ptr()).queue_index).read() };
        self.dev.tx_queue(usize::from(index))
    }

    fn add_freed(&self, slots: usize) -> usize {
        // SAFETY: `end` is valid by the type invariants, and the consumer lock is held.
        let count = unsafe { &mut *addr_of_mut!((*self.end.as_ptr()).cons_cnt) };
        *count = count.saturating_add(c_int::try_from(slots).unwrap_or(c_int::MAX));
        usize::try_from(*count).unwrap_or(0)
    }

    fn reset_freed(&self) {
        // SAFETY: `end` is valid by the type invariants, and the consumer lock is held.
        unsafe { addr_of_mut!((*self.end.as_ptr()).cons_cnt).write(0) };
    }
}

/// See `kunit.h`.
///
/// # Safety
///
/// `end`, its ring and its device must be valid, `array` must have room for `n` pointers, and `outcome`
/// must be writable. The context is that of `consume::consume_batched()`.
#[no_mangle]
pub unsafe extern "C" fn tuntap_ring_kunit_consume(
    end: NonNull<End>,
    array: *mut *mut c_void,
    n: c_int,
    outcome: *mut Outcome,
) -> c_int {
    // SAFETY: By the safety contract.
    let ring = unsafe { addr_of!((*end.as_ptr()).ring).read() };
    let Some(ring) = NonNull::new(ring) else {
        return 0;
    };
    // INVARIANT: By the safety contract.
    let endpoint = Endpoint {
        end,
        // SAFETY: By the safety contract.
        ring: unsafe { PtrRing::from_raw(ring) },
    };
    let out: &mut [MaybeUninit<*mut c_void>] = match usize::try_from(n) {
        Err(_) | Ok(0) => &mut [],
        // SAFETY: By the safety contract; the elements may be uninitialised.
        Ok(n) => unsafe { slice::from_raw_parts_mut(array.cast(), n) },
    };
    let result = consume::consume_batched(endpoint, out);
    // SAFETY: By the safety contract.
    unsafe {
        outcome.write(Outcome {
            freed: result.freed as c_int,
            wake: match result.wake {
                Wake::NotNeeded => 0,
                Wake::Done => 1,
                Wake::Suppressed => 2,
            },
        })
    };
    result.taken as c_int
}

/// See `kunit.h`.
///
/// # Safety
///
/// `tun_get_tx_ring()` must have returned `ring` for an open file, and the bindings must match the
/// running tun.
#[no_mangle]
pub unsafe extern "C" fn tuntap_ring_kunit_cons_cnt(ring: *mut bindings::ptr_ring) -> *mut c_int {
    let tfile = ring
        .wrapping_byte_sub(offset_of!(private::tun_file, tx_ring))
        .cast::<private::tun_file>();
    // SAFETY: By the safety contract the ring lies in a `struct tun_file`.
    unsafe { addr_of_mut!((*tfile).cons_cnt) }
}
