// SPDX-License-Identifier: GPL-2.0

//! Takes entries off the rings of tun and tap for vhost-net, and wakes the netdev queue above.
//!
//! This file has the exports. A call goes down from this file to `tun` (finds ring, device and queue) or `tap` (finds
//! the ring), and from there to `consume` (the protocol, safe code), which reaches `ptr_ring` and `netdev_queue`
//! through its traits.

mod access;
mod backpressure;
mod bindings;
mod bottom_halves;
mod consume;
mod device;
mod file;
mod hints;
mod layout;
mod netdev_queue;
mod parameters;
mod policy;
mod ptr_ring;
mod rtnl;
mod size;
mod slots;
mod stall;
mod stats;
mod sync;
#[cfg(CONFIG_TAP)]
mod tap;
mod trace;
mod tun;

use core::{
    ffi::c_void,
    mem::MaybeUninit,
    slice, //
};
use file::File;
use kernel::{
    ffi::{
        c_char,
        c_int, //
    },
    prelude::*, //
};

module! {
    type: TuntapRing,
    name: "tuntap_ring",
    authors: ["The tuntap-ring developers"],
    description: "Batched consumer of tun and tap rings that wakes their queues",
    license: "GPL",
    params: {
        wake_after: u8 {
            default: 50,
            description: "Percent of a ring to free before its stopped queue is woken, 1 to 100 (default 50)",
        },
    },
}

#[pin_data]
struct TuntapRing {
    #[pin]
    files: stats::Files,
    backpressure: backpressure::Active,
}

impl kernel::InPlaceModule for TuntapRing {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(|| {
            parameters::check()?;
            for &(driver, note) in bindings::BUILT_FOR {
                check_build(driver, note)?;
            }
            Ok(try_pin_init!(Self {
                files <- stats::files(),
                backpressure: backpressure::start()?,
            }))
        })
    }
}

/// Compares the build ID of the loaded driver with that of the module's build, and reports a mismatch.
///
/// Context: may sleep.
fn check_build(driver: &CStr, note: &[u8]) -> Result {
    match layout::is_same_build(driver, note) {
        Ok(true) => Ok(()),
        Ok(false) => {
            pr_err!(
                "{}: build ID mismatch ({}); rebuild tuntap_ring for this kernel\n",
                driver.to_str()?,
                ENOEXEC.to_errno()
            );
            Err(ENOEXEC)
        }
        // kmod prints misleading texts for most of these.
        Err(e) => {
            pr_err!(
                "{}: cannot read the build ID below /sys ({}); mount sysfs there\n",
                driver.to_str()?,
                e.to_errno()
            );
            Err(e)
        }
    }
}

/// Takes up to `n` entries off the ring of a file into `array`.
///
/// # Safety
///
/// `array` must have room for `n` pointers.
#[inline(always)]
unsafe fn consume_batched<'a, F: File<'a>>(
    file: Result<F>,
    array: *mut *mut c_void,
    n: c_int,
) -> c_int {
    let file = match file {
        Ok(file) => file,
        Err(e) => {
            // A call for no entries only checks the file.
            if n > 0 {
                stats::count_rejected();
            }
            return e.to_errno();
        }
    };
    let out: &mut [MaybeUninit<*mut c_void>] = match usize::try_from(n) {
        Err(_) | Ok(0) => return 0,
        // SAFETY: By the safety contract; the elements may be uninitialised.
        Ok(n) => unsafe { slice::from_raw_parts_mut(array.cast(), n) },
    };
    let requested = out.len();
    let outcome = file.consume_batched(out);
    stats::count(&outcome);
    file.trace(requested, &outcome);
    // At most `n`, so it fits.
    outcome.taken as c_int
}

/// Exports a function under its C name, and checks that it has the type of its prototype in the C
/// header.
macro_rules! export {
    ($(#[$attribute:meta])* fn $name:ident $signature:tt -> c_int $body:block) => {
        $(#[$attribute])*
        #[no_mangle]
        pub unsafe extern "C" fn $name $signature -> c_int $body

        const _: () = {
            // All branches of an `if` have the same type.
            let _ = if true { bindings::$name } else { $name };
        };
    };
}

export! {
    /// See `include/linux/tuntap_ring.h`.
    ///
    /// # Safety
    ///
    /// `file` must be NULL or open until the call returns, and `array` must have room for `n`
    /// pointers. Not from softirq or interrupt context.
    fn tun_ring_consume_batched(file: *mut bindings::file, array: *mut *mut c_void, n: c_int) -> c_int {
        // SAFETY: By the safety contract.
        unsafe { consume_batched(tun::TunFile::from_raw(file), array, n) }
    }
}

#[cfg(CONFIG_TAP)]
export! {
    /// See `include/linux/tuntap_ring.h`.
    ///
    /// # Safety
    ///
    /// As for [`tun_ring_consume_batched`].
    fn tap_ring_consume_batched(file: *mut bindings::file, array: *mut *mut c_void, n: c_int) -> c_int {
        // SAFETY: By the safety contract.
        unsafe { consume_batched(tap::TapFile::from_raw(file), array, n) }
    }
}

export! {
    /// See `include/linux/tuntap_ring.h`.
    ///
    /// # Safety
    ///
    /// `name` must be a C string, and `note` must point to `length` bytes. Process context.
    fn tuntap_ring_check_build(name: *const c_char, note: *const u8, length: usize) -> c_int {
        // SAFETY: By the safety contract.
        let (name, note) = unsafe { (CStr::from_char_ptr(name), slice::from_raw_parts(note, length)) };
        match layout::is_same_build(name, note) {
            Ok(true) => 0,
            Ok(false) => ENOEXEC.to_errno(),
            Err(e) => e.to_errno(),
        }
    }
}
