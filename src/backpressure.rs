// SPDX-License-Identifier: GPL-2.0

//! The flag `IFF_BACKPRESSURE`, set and cleared as `policy` decides.
//!
//! tun notifies after it has written the flags of a device that is up, and a device that is down notifies when it
//! comes up. So whoever opens a device, and with whatever flags, comes by here. All of it happens under RTNL, as
//! every other write of these flags.

use crate::{
    bindings,
    device::TunDevice,
    policy::{
        self,
        Change, //
    },
    rtnl::{
        Rtnl,
        UnderRtnl, //
    },
};
use core::{
    ffi::CStr,
    ptr::NonNull,
    slice, //
};
use kernel::{
    error::to_result,
    ffi::{
        c_char,
        c_int,
        c_void, //
    },
    fmt,
    page::PAGE_SIZE,
    prelude::*, //
};

/// How far the module has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The parameter may be written, and takes effect later.
    Loading,
    /// Devices are followed.
    Live,
    /// No device has the flag from us any more, and none gets it.
    Unloading,
}

struct State {
    stage: Stage,
    /// As [`policy::patterns`] has it.
    patterns: KVec<u8>,
    /// Devices that have the flag from us. All are registered.
    ours: KVec<NonNull<bindings::net_device>>,
}

// SAFETY: The pointers may be followed by whoever holds RTNL.
unsafe impl Send for State {}

static STATE: UnderRtnl<State> = UnderRtnl::new(State {
    stage: Stage::Loading,
    patterns: KVec::new(),
    ours: KVec::new(),
});

impl State {
    /// Does with a device's flag what is due. `dev` must be a registered device of tun.
    ///
    /// Errors: [`ENOMEM`], [`ENOEXEC`] if tun has another layout; the device is left as it is.
    fn reconsider(&mut self, dev: NonNull<bindings::net_device>, rtnl: &Rtnl) -> Result {
        // SAFETY: By those who call.
        let device = unsafe { TunDevice::from_raw(dev, rtnl) }.ok_or(ENOEXEC)?;
        let place = self.ours.iter().position(|&ours| ours == dev);
        let change = policy::decide(policy::Device {
            matches: policy::patterns(&self.patterns)
                .any(|pattern| matches(pattern, device.name())),
            has_flag: device.has_backpressure(),
            is_ours: place.is_some(),
        });
        match change {
            Change::Keep => {}
            Change::Set => {
                if place.is_none() {
                    self.ours.push(dev, GFP_KERNEL)?;
                }
                device.set_backpressure();
            }
            Change::Clear => {
                device.clear_backpressure();
                self.forget(dev);
            }
            Change::Forget => self.forget(dev),
        }
        Ok(())
    }

    fn forget(&mut self, dev: NonNull<bindings::net_device>) {
        self.ours.retain(|&mut ours| ours != dev);
    }
}

/// Whether a name matches a shell glob.
fn matches(pattern: &CStr, name: &CStr) -> bool {
    // SAFETY: Two C strings.
    unsafe { bindings::glob_match(pattern.as_char_ptr(), name.as_char_ptr()) }
}

/// Sets the flag of devices for as long as the value lives.
pub(crate) struct Active(());

/// Sets the flag of all devices that match, and of later ones as they come.
///
/// Errors: those of `register_netdevice_notifier()`.
///
/// Context: may sleep. Takes RTNL.
pub(crate) fn start() -> Result<Active> {
    STATE.get(&mut Rtnl::lock()).0.stage = Stage::Live;
    let active = Active(());
    // The kernel tells of the devices that are there.
    // SAFETY: Once, and `Active` undoes it.
    to_result(unsafe { bindings::tuntap_ring_helper_follow_devices() })?;
    Ok(active)
}

impl Drop for Active {
    fn drop(&mut self) {
        {
            let mut rtnl = Rtnl::lock();
            let (state, rtnl) = STATE.get(&mut rtnl);
            state.stage = Stage::Unloading;
            state.patterns = KVec::new();
            while let Some(&dev) = state.ours.last() {
                // Nothing matches any more.
                let _ = state.reconsider(dev, rtnl);
                state.forget(dev);
            }
        }
        // SAFETY: Registered in `start()`; or not, which is an error without consequence.
        unsafe { bindings::tuntap_ring_helper_unfollow_devices() };
    }
}

/// Stores the patterns of the parameter, and looks at all devices of all network namespaces.
///
/// Errors: [`EINVAL`] for a pattern that is empty or has white space or a slash in it, [`E2BIG`] for more text than a
/// file below `/sys` shows, [`ENODEV`] while the module is being removed, [`ENOMEM`]: devices may be missing then.
fn set(text: &[u8]) -> Result {
    let list = policy::parse(text).ok_or(EINVAL)?;
    // A file ends with a newline, and a string with NUL.
    if list.len() > PAGE_SIZE - 2 {
        return Err(E2BIG);
    }
    let mut patterns = KVec::with_capacity(list.len() + 1, GFP_KERNEL)?;
    patterns.extend_from_slice(list, GFP_KERNEL)?;
    if !list.is_empty() {
        patterns.push(b',', GFP_KERNEL)?;
    }
    for byte in patterns.iter_mut().filter(|&&mut byte| byte == b',') {
        *byte = 0;
    }
    let mut rtnl = Rtnl::lock();
    let (state, rtnl) = STATE.get(&mut rtnl);
    match state.stage {
        Stage::Loading => state.patterns = patterns,
        Stage::Live => {
            state.patterns = patterns;
            let mut result = Ok(());
            each_device(rtnl, |dev| result = result.and(state.reconsider(dev, rtnl)));
            return result;
        }
        Stage::Unloading => return Err(ENODEV),
    }
    Ok(())
}

/// Calls `visit` for each device of tun, in all network namespaces.
fn each_device<F: FnMut(NonNull<bindings::net_device>)>(_rtnl: &Rtnl, mut visit: F) {
    /// # Safety
    ///
    /// `visit` must be an `F` that nobody else uses.
    unsafe extern "C" fn found<F: FnMut(NonNull<bindings::net_device>)>(
        dev: *mut bindings::net_device,
        visit: *mut c_void,
    ) {
        // SAFETY: By the safety contract.
        let visit = unsafe { &mut *visit.cast::<F>() };
        if let Some(dev) = NonNull::new(dev) {
            visit(dev);
        }
    }
    // SAFETY: RTNL is held, and the function gets what it wants.
    unsafe {
        bindings::tuntap_ring_helper_each_device(Some(found::<F>), (&raw mut visit).cast());
    }
}

/// Writes a line for each device of tun, in all network namespaces: the inode of the namespace, index and name of
/// the device, who has set the flag (`policy`, `opener` or `none`), the number of queues, how many of them are
/// stopped, and for how many milliseconds the one that has not sent for longest.
///
/// Context: may sleep. Takes RTNL.
pub(crate) fn describe(f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut rtnl = Rtnl::lock();
    let (state, rtnl) = STATE.get(&mut rtnl);
    let (mut result, mut separator) = (Ok(()), "");
    each_device(rtnl, |dev| {
        // SAFETY: RTNL is held, and the device is one of tun.
        let Some(device) = (unsafe { TunDevice::from_raw(dev, rtnl) }) else {
            return;
        };
        let flag = match (device.has_backpressure(), state.ours.contains(&dev)) {
            (false, _) => "none",
            (true, false) => "opener",
            (true, true) => "policy",
        };
        if result.is_ok() {
            let seen = device.describe();
            result = device
                .name()
                .to_str()
                .map_err(|_| fmt::Error)
                .and_then(|name| {
                    write!(
                        f,
                        "{separator}{} {} {name} {flag} {} {} {}",
                        seen.namespace, seen.index, seen.queues, seen.stopped, seen.stopped_ms
                    )
                });
        }
        separator = "\n";
    });
    result
}

/// The parameter was written, with `text`.
///
/// # Safety
///
/// `text` must be a C string. Context: may sleep. Takes RTNL.
#[no_mangle]
unsafe extern "C" fn tuntap_ring_set_backpressure(text: *const c_char) -> c_int {
    // SAFETY: By the safety contract.
    let text = unsafe { CStr::from_char_ptr(text) };
    match set(text.to_bytes()) {
        Ok(()) => 0,
        Err(e) => e.to_errno(),
    }
}

/// The parameter is read. Returns the length of what was put into `buffer`.
///
/// # Safety
///
/// `buffer` must have room for a page. Context: may sleep. Takes RTNL.
#[no_mangle]
unsafe extern "C" fn tuntap_ring_get_backpressure(buffer: *mut c_char) -> c_int {
    // SAFETY: By the safety contract.
    let buffer = unsafe { slice::from_raw_parts_mut(buffer.cast::<u8>(), PAGE_SIZE) };
    let mut rtnl = Rtnl::lock();
    let (state, _) = STATE.get(&mut rtnl);
    // Its last NUL becomes the newline.
    let length = state.patterns.len().max(1);
    let Some(text) = buffer.get_mut(..length) else {
        return EINVAL.to_errno();
    };
    text.fill(b'\n');
    for (byte, &from) in text.iter_mut().zip(&state.patterns) {
        *byte = if from == 0 { b',' } else { from };
    }
    if let Some(last) = text.last_mut() {
        *last = b'\n';
    }
    length as c_int
}

/// Gives back what the parameter holds: the module has gone, or has never come.
#[no_mangle]
extern "C" fn tuntap_ring_free_backpressure() {
    STATE.get(&mut Rtnl::lock()).0.patterns = KVec::new();
}

/// A device of tun was registered, came up, changed, or has another name.
///
/// # Safety
///
/// `dev` must be a registered device of tun, and the caller holds RTNL.
#[no_mangle]
unsafe extern "C" fn tuntap_ring_device_changed(dev: *mut bindings::net_device) {
    // SAFETY: By the safety contract.
    let mut rtnl = unsafe { Rtnl::held() };
    let (state, rtnl) = STATE.get(&mut rtnl);
    if let Some(dev) = NonNull::new(dev) {
        if state.reconsider(dev, rtnl).is_err() {
            pr_err!("no memory to note a device: it has no backpressure\n");
        }
    }
}

/// A device of tun is being unregistered.
///
/// # Safety
///
/// The caller holds RTNL.
#[no_mangle]
unsafe extern "C" fn tuntap_ring_device_gone(dev: *mut bindings::net_device) {
    // SAFETY: By the safety contract.
    let mut rtnl = unsafe { Rtnl::held() };
    let (state, _) = STATE.get(&mut rtnl);
    if let Some(dev) = NonNull::new(dev) {
        state.forget(dev);
    }
}
