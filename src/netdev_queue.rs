// SPDX-License-Identifier: GPL-2.0

//! Access to a `struct netdev_queue`, through its `struct net_device`.
//!
//! C header: [`include/linux/netdevice.h`](srctree/include/linux/netdevice.h)

use crate::{
    access,
    bindings,
    consume, //
};
use core::{
    marker::PhantomData,
    ptr::{
        addr_of,
        NonNull, //
    },
};
use kernel::sync::rcu;

/// A network device that is valid for `'a`.
///
/// # Invariants
///
/// The pointer is to a `struct net_device` that is not freed within `'a`.
#[derive(Clone, Copy)]
pub(crate) struct NetDevice<'a> {
    ptr: NonNull<bindings::net_device>,
    _rcu: PhantomData<&'a rcu::Guard>,
}

impl<'a> NetDevice<'a> {
    /// Borrows a device for one RCU read-side critical section.
    ///
    /// # Safety
    ///
    /// `ptr` must have been reached in the critical section of `_rcu`, from an object that keeps the
    /// device at least until a grace period has passed.
    #[inline(always)]
    pub(crate) unsafe fn from_raw(
        ptr: NonNull<bindings::net_device>,
        _rcu: &'a rcu::Guard,
    ) -> Self {
        // INVARIANT: By the safety contract.
        Self {
            ptr,
            _rcu: PhantomData,
        }
    }

    /// Returns whether the device is up, as `netif_running()` does.
    #[inline(always)]
    pub(crate) fn is_running(self) -> bool {
        // SAFETY: The device is valid by the type invariants. Bits of `state` are changed
        // atomically by others: one volatile read, as `test_bit()` does.
        let state = unsafe { access::read_once(self.state()) };
        state & (1 << bindings::netdev_state_t___LINK_STATE_START) != 0
    }

    #[inline(always)]
    fn state(self) -> *const kernel::ffi::c_ulong {
        // SAFETY: The device is valid by the type invariants; only the address is taken.
        unsafe { addr_of!((*self.ptr.as_ptr()).state) }
    }

    /// Returns the transmit queue of that index, `None` if the device has fewer queues.
    ///
    /// `netdev_get_tx_queue()` does not check the bound.
    #[inline(always)]
    pub(crate) fn tx_queue(self, index: usize) -> Option<NetdevQueue<'a>> {
        let dev = self.ptr.as_ptr();
        // SAFETY: The device is valid by the type invariants; array and length of its queues are
        // set before it is registered and never changed after.
        let (queues, count) = unsafe {
            (
                access::read(addr_of!((*dev)._tx)),
                access::read(addr_of!((*dev).num_tx_queues)),
            )
        };
        if index >= count as usize {
            return None;
        }
        // SAFETY: The index is in bounds.
        let queue = NonNull::new(unsafe { queues.add(index) })?;
        // INVARIANT: The queues are freed with the device.
        Some(NetdevQueue {
            ptr: queue,
            _device: PhantomData,
        })
    }
}

/// A transmit queue of a device.
///
/// # Invariants
///
/// The pointer is to a `struct netdev_queue` of a device that is valid for `'a`.
pub(crate) struct NetdevQueue<'a> {
    ptr: NonNull<bindings::netdev_queue>,
    _device: PhantomData<NetDevice<'a>>,
}

impl consume::Queue for NetdevQueue<'_> {
    #[inline(always)]
    fn is_stopped(&self) -> bool {
        // SAFETY: The queue is valid by the type invariants. Bits of `state` are changed
        // atomically by others: one volatile read, as `test_bit()` does.
        let state = unsafe { access::read_once(addr_of!((*self.ptr.as_ptr()).state)) };
        state & (1 << bindings::netdev_queue_state_t___QUEUE_STATE_DRV_XOFF) != 0
    }

    fn wake(&self) {
        // SAFETY: The queue is valid by the type invariants; may be called in any context.
        unsafe { bindings::netif_tx_wake_queue(self.ptr.as_ptr()) };
    }
}
