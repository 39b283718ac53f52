// SPDX-License-Identifier: GPL-2.0

//! Sets and clears `IFF_BACKPRESSURE` as `policy` decides, for the parameter `backpressure=`.
//!
//! tun notifies after each write of the flags of a device that is up, and a device that is down notifies when it comes
//! up. So the notifier sees a device again whenever a program has replaced its flags.
//!
//! For the parameter `stall_timeout=` scans clear the flag of devices whose consumer does not read, as `stall` decides.
//! For the parameter `autosize=` scans resize the rings, as `size` decides. All of this happens under RTNL, as does
//! every other write of these flags.

use crate::{
    bindings,
    device::TunDevice,
    hints,
    policy::{
        self,
        Change, //
    },
    rtnl::{
        Rtnl,
        UnderRtnl, //
    },
    size::Size,
    stall::{
        self,
        Stall, //
    },
    stats,
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

/// The stages of the module's life.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The patterns take effect when the notifier is registered.
    Loading,
    /// The notifier is registered, or about to be.
    Live,
    /// The module has cleared all flags that it had set, and sets no other.
    Unloading,
}

/// A device whose flag the module has set.
struct Flagged {
    dev: NonNull<bindings::net_device>,
    /// The stalls of the device. While it is released it has no flag.
    stall: Stall,
    /// The sizes of its rings, by queue.
    sizes: KVec<Size>,
}

impl Flagged {
    /// Gives the rings the sizes that they need.
    fn size_rings(&mut self, device: &TunDevice<'_>, elapsed: u64) {
        for queue in 0..device.queues() {
            if queue >= self.sizes.len() && self.sizes.push(Size::default(), GFP_KERNEL).is_err() {
                return;
            }
            let (Some(size), Some(seen)) =
                (self.sizes.get_mut(queue), device.ring_use(queue, elapsed))
            else {
                continue;
            };
            let wanted = size.scan(seen);
            let done = wanted.filter(|&slots| device.resize(queue, slots));
            if let Some(slots) = done {
                size.resized(slots);
                stats::count_resized();
            } else if wanted.is_some_and(|slots| slots < seen.slots) {
                device.drain(queue);
            }
        }
    }
}

/// The patterns, the other parameters, and the devices.
///
/// # Invariants
///
/// All devices of `flagged` are registered devices of tun, whose layout has been checked.
struct State {
    stage: Stage,
    /// The patterns, each ending with NUL, for [`policy::patterns`].
    patterns: KVec<u8>,
    /// The devices whose flag the module has set.
    flagged: KVec<Flagged>,
    /// The number of milliseconds for which a queue may be stopped; 0 for any time.
    stall_timeout: u32,
    /// Whether scans size the rings.
    autosize: bool,
    /// The time of the last scan that sized rings, in milliseconds.
    sized: u64,
}

// SAFETY: The devices may be used by any thread that holds RTNL.
unsafe impl Send for State {}

static STATE: UnderRtnl<State> = UnderRtnl::new(State {
    stage: Stage::Loading,
    patterns: KVec::new(),
    flagged: KVec::new(),
    stall_timeout: 500,
    autosize: true,
    sized: 0,
});

/// The longest time-out, an hour.
const MOST_TIMEOUT: u32 = 3_600_000;

/// The time between two scans that size rings, in milliseconds.
const SIZE_INTERVAL: u32 = 50;

impl State {
    /// Sets or clears the flag of a device, as the policy decides.
    ///
    /// Errors: [`ENOMEM`]; the device then stays as it is.
    fn apply(&mut self, device: &TunDevice<'_>) -> Result {
        let record = self.record(device);
        let by_policy = record.is_some();
        let change = policy::decide(policy::Device {
            matches: policy::patterns(&self.patterns)
                .any(|pattern| matches(pattern, device.name())),
            has_flag: device.has_backpressure(),
            by_policy,
            released: record.is_some_and(|record| record.stall.is_released()),
        });
        match change {
            Change::Keep => {}
            Change::Set => {
                if !by_policy {
                    // INVARIANT: Registered, or there would be no `TunDevice`.
                    self.flagged.push(
                        Flagged {
                            dev: device.as_raw(),
                            stall: Stall::default(),
                            sizes: KVec::new(),
                        },
                        GFP_KERNEL,
                    )?;
                    if let Some(interval) = self.interval() {
                        // SAFETY: `Active` stops the scans.
                        unsafe { bindings::tuntap_ring_helper_scan_in(interval) };
                    }
                }
                device.set_backpressure();
            }
            Change::Clear => {
                // First, so that the rings have room for the packets that wait in the qdiscs.
                restore_rings(device);
                device.clear_backpressure();
                self.forget(device.as_raw());
            }
            Change::Forget => {
                restore_rings(device);
                self.forget(device.as_raw());
            }
        }
        Ok(())
    }

    /// Releases devices with a stalled queue, restores devices whose consumer reads again, and sizes rings. Returns the
    /// time to the next scan in milliseconds, `None` if no scan is needed.
    fn scan(&mut self, now: u64, rtnl: &Rtnl) -> Option<u32> {
        let elapsed = now.saturating_sub(self.sized);
        let sizes = self.autosize && elapsed >= SIZE_INTERVAL.into();
        if sizes {
            self.sized = now;
        }
        // A scan that sizes rings repeats the requests that it still needs.
        if sizes || !self.autosize || self.flagged.is_empty() {
            hints::end_drains();
        }
        for record in &mut self.flagged {
            // SAFETY: By the type invariants.
            let Some(device) = (unsafe { TunDevice::from_raw(record.dev, rtnl) }) else {
                continue;
            };
            match record.stall.scan(now, self.stall_timeout, &device) {
                stall::Change::Keep => {}
                stall::Change::Release { queue, stopped } => {
                    restore_rings(&device);
                    device.clear_backpressure();
                    stats::count_released();
                    device.report_stall(queue, stopped);
                }
                stall::Change::Restore => device.set_backpressure(),
            }
            if sizes && !record.stall.is_released() {
                record.size_rings(&device, elapsed);
            }
        }
        if self.flagged.is_empty() {
            return None;
        }
        self.interval()
    }

    /// Returns the time between two scans in milliseconds, `None` if no scans are needed.
    fn interval(&self) -> Option<u32> {
        let for_stalls = stall::interval(self.stall_timeout);
        let for_sizes = self.autosize.then_some(SIZE_INTERVAL);
        match (for_stalls, for_sizes) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    fn record(&self, device: &TunDevice<'_>) -> Option<&Flagged> {
        self.flagged
            .iter()
            .find(|record| record.dev == device.as_raw())
    }

    fn forget(&mut self, dev: NonNull<bindings::net_device>) {
        self.flagged.retain(|record| record.dev != dev);
    }
}

/// Gives all rings of a device their full sizes, and logs a failure.
fn restore_rings(device: &TunDevice<'_>) {
    if device.restore_rings().is_err() {
        pr_err!(
            "{}: no memory; a ring keeps its size until txqueuelen changes\n",
            device.name().to_str().unwrap_or("")
        );
    }
}

/// Returns whether a name matches a shell glob.
fn matches(pattern: &CStr, name: &CStr) -> bool {
    // SAFETY: Two C strings.
    unsafe { bindings::glob_match(pattern.as_char_ptr(), name.as_char_ptr()) }
}

/// Evidence that the notifier is registered. Dropping it clears all flags that the module has set.
pub(crate) struct Active(());

/// Sets the flag of all devices that match, and registers the notifier for later ones.
///
/// Errors: those of `register_netdevice_notifier()`.
///
/// Context: may sleep. Takes RTNL.
pub(crate) fn start() -> Result<Active> {
    STATE.get(&mut Rtnl::lock()).0.stage = Stage::Live;
    let active = Active(());
    // Also calls the notifier for each device that exists.
    // SAFETY: Called once, and `Active` undoes it.
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
            while let Some(&Flagged { dev, .. }) = state.flagged.last() {
                // SAFETY: By the type invariants of `State`.
                if let Some(device) = unsafe { TunDevice::from_raw(dev, rtnl) } {
                    // Without patterns no device matches, so this needs no memory.
                    let _ = state.apply(&device);
                }
                state.forget(dev);
            }
            // A static is not dropped with the module.
            state.flagged = KVec::new();
        }
        // SAFETY: Registered in `start()`. If that failed, this fails as well, without effect.
        unsafe { bindings::tuntap_ring_helper_unfollow_devices() };
        // SAFETY: A scan takes RTNL, which is not held here. In this stage nothing starts a scan.
        unsafe { bindings::tuntap_ring_helper_stop_scans() };
    }
}

/// Stores the patterns of the parameter, and applies them to all devices of all network namespaces.
///
/// Errors: [`EINVAL`] for a pattern that is empty or contains white space or a slash, [`E2BIG`] for more text than a
/// file below `/sys` shows, [`ENODEV`] while the module is being removed, [`ENOMEM`] if the patterns were not applied
/// to all devices.
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
            each_device(rtnl, |device| result = result.and(state.apply(&device)));
            return result;
        }
        Stage::Unloading => return Err(ENODEV),
    }
    Ok(())
}

/// Calls `visit` for each device of tun, in all network namespaces.
fn each_device<'a, F: FnMut(TunDevice<'a>)>(rtnl: &'a Rtnl, visit: F) {
    /// # Safety
    ///
    /// `dev` must be a registered device of tun, and `walk` a walk with that `F`, without another user.
    unsafe extern "C" fn found<'a, F: FnMut(TunDevice<'a>)>(
        dev: *mut bindings::net_device,
        walk: *mut c_void,
    ) {
        // SAFETY: By the safety contract.
        let (visit, rtnl) = unsafe { &mut *walk.cast::<(F, &'a Rtnl)>() };
        // SAFETY: By the safety contract.
        if let Some(device) = unsafe { device(dev, rtnl) } {
            visit(device);
        }
    }
    let mut walk = (visit, rtnl);
    // SAFETY: RTNL is held, and `found` gets a walk with this `F`.
    unsafe {
        bindings::tuntap_ring_helper_each_device(Some(found::<F>), (&raw mut walk).cast());
    }
}

/// Borrows a device for a call from C; returns `None` if the layout of tun does not match.
///
/// # Safety
///
/// `dev` must be NULL or a registered device of tun.
unsafe fn device<'a>(dev: *mut bindings::net_device, rtnl: &'a Rtnl) -> Option<TunDevice<'a>> {
    // SAFETY: By the safety contract.
    unsafe { TunDevice::from_raw(NonNull::new(dev)?, rtnl) }
}

/// Writes a line for each device of tun, in all network namespaces. A line has the inode of the namespace, the index
/// and the name of the device, the owner of the flag (`policy`, `opener` or `none`; `released` if it is cleared for a
/// stalled queue), the number of queues, the number of stopped queues, the longest time for which one of these has not
/// sent, in milliseconds, and the number of slots of the smallest ring.
///
/// Context: may sleep. Takes RTNL.
pub(crate) fn describe(f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut rtnl = Rtnl::lock();
    let (state, rtnl) = STATE.get(&mut rtnl);
    let (mut result, mut separator) = (Ok(()), "");
    each_device(rtnl, |device| {
        let flag = match (device.has_backpressure(), state.record(&device)) {
            (false, Some(record)) if record.stall.is_released() => "released",
            (false, _) => "none",
            (true, None) => "opener",
            (true, Some(_)) => "policy",
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
                        "{separator}{} {} {name} {flag} {} {} {} {}",
                        seen.namespace,
                        seen.index,
                        seen.queues,
                        seen.stopped,
                        seen.stopped_ms,
                        device.least_slots()
                    )
                });
        }
        separator = "\n";
    });
    result
}

/// Stores the parameter `backpressure=`.
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

/// Writes the parameter `backpressure=` to `buffer`, and returns its length.
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
    // The newline replaces the last NUL.
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

/// Stores the parameter `stall_timeout=`.
///
/// Errors: [`EINVAL`] for more than an hour, [`ENODEV`] while the module is being removed.
///
/// Context: may sleep. Takes RTNL.
#[no_mangle]
extern "C" fn tuntap_ring_set_stall_timeout(ms: u32) -> c_int {
    if ms > MOST_TIMEOUT {
        return EINVAL.to_errno();
    }
    let mut rtnl = Rtnl::lock();
    let (state, _) = STATE.get(&mut rtnl);
    if state.stage == Stage::Unloading {
        return ENODEV.to_errno();
    }
    state.stall_timeout = ms;
    if state.stage == Stage::Live {
        // SAFETY: `Active` stops the scans.
        unsafe { bindings::tuntap_ring_helper_scan_now() };
    }
    0
}

/// Returns the parameter `stall_timeout=`, in milliseconds.
///
/// Context: may sleep. Takes RTNL.
#[no_mangle]
extern "C" fn tuntap_ring_get_stall_timeout() -> u32 {
    STATE.get(&mut Rtnl::lock()).0.stall_timeout
}

/// Stores the parameter `autosize=`, and gives all rings their full sizes back.
///
/// Errors: [`ENODEV`] while the module is being removed.
///
/// Context: may sleep. Takes RTNL.
#[no_mangle]
extern "C" fn tuntap_ring_set_autosize(on: bool) -> c_int {
    let mut rtnl = Rtnl::lock();
    let (state, rtnl) = STATE.get(&mut rtnl);
    if state.stage == Stage::Unloading {
        return ENODEV.to_errno();
    }
    state.autosize = on;
    for record in &mut state.flagged {
        record.sizes.clear();
        // SAFETY: By the type invariants of `State`.
        if let Some(device) = unsafe { TunDevice::from_raw(record.dev, rtnl) } {
            restore_rings(&device);
        }
    }
    if state.stage == Stage::Live {
        // SAFETY: `Active` stops the scans.
        unsafe { bindings::tuntap_ring_helper_scan_now() };
    }
    0
}

/// Returns the parameter `autosize=`.
///
/// Context: may sleep. Takes RTNL.
#[no_mangle]
extern "C" fn tuntap_ring_get_autosize() -> bool {
    STATE.get(&mut Rtnl::lock()).0.autosize
}

/// Scans all devices whose flag the module has set. Returns the milliseconds to the next scan, or 0 if none is needed.
///
/// Context: may sleep. Takes RTNL.
#[no_mangle]
extern "C" fn tuntap_ring_scan(now: u64) -> u32 {
    let mut rtnl = Rtnl::lock();
    let (state, rtnl) = STATE.get(&mut rtnl);
    state.scan(now, rtnl).unwrap_or(0)
}

/// Frees the patterns, after the module was unloaded or has failed to load.
#[no_mangle]
extern "C" fn tuntap_ring_free_backpressure() {
    STATE.get(&mut Rtnl::lock()).0.patterns = KVec::new();
}

/// Applies the policy to a device after an event.
///
/// # Safety
///
/// `dev` must be a registered device of tun, and the caller holds RTNL.
#[no_mangle]
unsafe extern "C" fn tuntap_ring_device_changed(dev: *mut bindings::net_device) {
    // SAFETY: By the safety contract.
    let mut rtnl = unsafe { Rtnl::held() };
    let (state, rtnl) = STATE.get(&mut rtnl);
    // SAFETY: By the safety contract.
    let Some(device) = (unsafe { device(dev, rtnl) }) else {
        return;
    };
    if let Err(e) = state.apply(&device) {
        pr_err!(
            "{}: no memory ({}); the device has no backpressure\n",
            device.name().to_str().unwrap_or(""),
            e.to_errno()
        );
    }
}

/// Forgets a device that is being unregistered.
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
