// SPDX-License-Identifier: GPL-2.0

//! The trace points `tuntap_ring:consume_batched` and `tuntap_ring:wake`.
//!
//! Switched off, each is a NOP that the kernel makes a jump when somebody switches it on. That is what
//! `declare_trace!` of the kernel crate does; it goes by the kernel's own bindings, so it can't be used
//! for events that are not the kernel's.

use crate::{
    bindings,
    consume::{
        Device,
        Endpoint,
        Outcome,
        Producer, //
    },
};
#[cfg(CONFIG_TRACEPOINTS)]
use core::ptr;
#[cfg(CONFIG_TRACEPOINTS)]
use kernel::jump_label::static_branch_unlikely;

/// What events say of the queue above a ring.
pub(crate) trait Named {
    /// The device, which is there as long as the value is.
    fn net_device(&self) -> *mut bindings::net_device;

    /// Which of its queues the file has, or had.
    fn queue_index(&self) -> usize;
}

/// Whether anybody listens.
#[cfg(CONFIG_TRACEPOINTS)]
macro_rules! is_on {
    ($tracepoint:ident) => {
        // SAFETY: The key of a trace point of this module.
        unsafe { static_branch_unlikely!(bindings::$tracepoint, bindings::tracepoint, key) }
    };
}

/// A number for an event, -1 where it does not fit.
#[cfg(CONFIG_TRACEPOINTS)]
fn number(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(-1)
}

/// One call was made, and no lock is held any more.
#[inline(always)]
pub(crate) fn consume_batched<E: Endpoint>(_endpoint: E, _requested: usize, _outcome: &Outcome)
where
    for<'a> E::Device<'a>: Named,
{
    #[cfg(CONFIG_TRACEPOINTS)]
    if is_on!(__tracepoint_consume_batched) {
        emit_with_device(_endpoint, [_requested, _outcome.taken, _outcome.freed]);
    }
}

/// The same, of a file whose device is not looked at.
#[cfg(CONFIG_TAP)]
#[inline(always)]
pub(crate) fn consume_batched_without_device(_requested: usize, _outcome: &Outcome) {
    #[cfg(CONFIG_TRACEPOINTS)]
    if is_on!(__tracepoint_consume_batched) {
        // SAFETY: No device.
        unsafe {
            emit(
                ptr::null(),
                -1,
                [_requested, _outcome.taken, _outcome.freed],
            )
        };
    }
}

/// Names the device and the queue of a file, which the consumer lock protects.
#[cfg(CONFIG_TRACEPOINTS)]
#[cold]
#[inline(never)]
fn emit_with_device<E: Endpoint>(endpoint: E, counts: [usize; 3])
where
    for<'a> E::Device<'a>: Named,
{
    let ring = endpoint.lock();
    let is_named = endpoint.with_device(&ring, |device| {
        // SAFETY: The device is there while it is borrowed.
        unsafe { emit(device.net_device(), number(device.queue_index()), counts) };
        true
    });
    if is_named.is_none() {
        // SAFETY: No device.
        unsafe { emit(ptr::null(), -1, counts) };
    }
}

/// Emits the event `consume_batched`; `counts` are requested entries, taken entries, and freed slots.
///
/// # Safety
///
/// `dev` must be NULL or a device that is there.
#[cfg(CONFIG_TRACEPOINTS)]
#[cold]
unsafe fn emit(dev: *const bindings::net_device, queue: i32, counts: [usize; 3]) {
    // They come from an `int`.
    let [requested, taken, freed] = counts.map(|count| count as u32);
    // SAFETY: By the safety contract.
    unsafe { bindings::rust_do_trace_consume_batched(dev, queue, requested, taken, freed) };
}

/// A queue was woken just now, and both locks of its ring are held.
#[inline(always)]
pub(crate) fn wake<D: Device + Named>(_device: &D, _producer: &impl Producer) {
    #[cfg(CONFIG_TRACEPOINTS)]
    if is_on!(__tracepoint_wake) {
        let (dev, queue) = (_device.net_device(), number(_device.queue_index()));
        let consumed = number(_device.add_freed(0));
        let fill = _producer.entries().map_or(-1, number);
        // SAFETY: The device is there as long as it is borrowed.
        unsafe { bindings::rust_do_trace_wake(dev, queue, consumed, fill) };
    }
}
