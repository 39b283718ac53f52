// SPDX-License-Identifier: GPL-2.0

//! The trace points `tuntap_ring:consume_batched` and `tuntap_ring:wake`.
//!
//! A trace point that is off is a NOP, which the kernel replaces with a jump when it is switched on. This
//! file does what `declare_trace!` of the kernel crate does. That macro uses the kernel crate's bindings, so
//! it cannot be used for the events of a module.

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

/// The names that an event has for the queue above a ring.
pub(crate) trait Named {
    /// Returns the device, which is valid as long as the value lives.
    fn net_device(&self) -> *mut bindings::net_device;

    /// Returns the index of the queue that the file has, or had.
    fn queue_index(&self) -> usize;
}

/// Checks whether a trace point is on.
#[cfg(CONFIG_TRACEPOINTS)]
macro_rules! is_on {
    ($tracepoint:ident) => {
        // SAFETY: The key of a trace point of this module.
        unsafe { static_branch_unlikely!(bindings::$tracepoint, bindings::tracepoint, key) }
    };
}

/// Converts a number for an event, to -1 if it does not fit.
#[cfg(CONFIG_TRACEPOINTS)]
fn number(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(-1)
}

/// Traces a call, after all locks have been released.
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

/// Traces a call for a file whose device is not checked.
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

/// Emits the event `consume_batched` with the device and the queue of the file, which the consumer lock
/// protects.
#[cfg(CONFIG_TRACEPOINTS)]
#[cold]
#[inline(never)]
fn emit_with_device<E: Endpoint>(endpoint: E, counts: [usize; 3])
where
    for<'a> E::Device<'a>: Named,
{
    let ring = endpoint.lock();
    let is_named = endpoint.with_device(&ring, |device| {
        // SAFETY: The device is valid while it is borrowed.
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
/// `dev` must be NULL or a valid device.
#[cfg(CONFIG_TRACEPOINTS)]
#[cold]
unsafe fn emit(dev: *const bindings::net_device, queue: i32, counts: [usize; 3]) {
    // None exceeds an `int`, the type of the requested number.
    let [requested, taken, freed] = counts.map(|count| count as u32);
    // SAFETY: By the safety contract.
    unsafe { bindings::rust_do_trace_consume_batched(dev, queue, requested, taken, freed) };
}

/// Traces a wake, right after it and under both locks of the ring.
#[inline(always)]
pub(crate) fn wake<D: Device + Named>(_device: &D, _producer: &impl Producer) {
    #[cfg(CONFIG_TRACEPOINTS)]
    if is_on!(__tracepoint_wake) {
        let (dev, queue) = (_device.net_device(), number(_device.queue_index()));
        let consumed = number(_device.add_freed(0));
        let fill = _producer.entries().map_or(-1, number);
        // SAFETY: The device is valid as long as it is borrowed.
        unsafe { bindings::rust_do_trace_wake(dev, queue, consumed, fill) };
    }
}
