// SPDX-License-Identifier: GPL-2.0

//! Decides which devices have backpressure.
//!
//! The parameter `backpressure=` holds patterns of device names. A device that matches gets the flag, and loses it when
//! it no longer matches, unless its opener had set the flag before. This file is the whole decision, in safe code
//! without kernel pointers. The module and the tests build it unchanged.

#![forbid(unsafe_code)]

use core::ffi::CStr;

/// Returns the patterns of the parameter's text: separated by commas, without white space at either end.
///
/// Returns `None` if a pattern is empty or contains white space, a slash or a control character.
pub(crate) fn parse(text: &[u8]) -> Option<&[u8]> {
    let list = text.trim_ascii();
    let is_valid = |pattern: &[u8]| {
        !pattern.is_empty()
            && pattern
                .iter()
                .all(|&byte| byte > b' ' && byte != b'/' && byte != 0x7f)
    };
    (list.is_empty() || list.split(|&byte| byte == b',').all(is_valid)).then_some(list)
}

/// Returns each pattern of a list in which every pattern ends with NUL.
pub(crate) fn patterns(list: &[u8]) -> impl Iterator<Item = &CStr> {
    list.split_inclusive(|&byte| byte == 0)
        .filter_map(|pattern| CStr::from_bytes_with_nul(pattern).ok())
}

/// A device, as far as the decision depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    /// Whether one of the patterns matches its name.
    pub(crate) matches: bool,
    /// Whether it has the flag.
    pub(crate) has_flag: bool,
    /// Whether the module has set the flag, and has not cleared it since, other than for a stalled queue.
    pub(crate) by_policy: bool,
    /// Whether the module has cleared the flag for a stalled queue, and will set it again.
    pub(crate) released: bool,
}

/// The change of the flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Leaves the flag.
    Keep,
    /// Sets the flag, and records that the module has set it.
    Set,
    /// Clears the flag and wakes the queues.
    Clear,
    /// Deletes the record: an opener has cleared the flag, or has set it while it was cleared for a stalled queue.
    Forget,
}

/// Decides on a device.
///
/// If an opener requests the flag while the module has set it, the record stays: tun's flags are the same as before.
pub(crate) fn decide(device: Device) -> Change {
    match device {
        Device {
            has_flag: true,
            released: true,
            ..
        } => Change::Forget,
        Device {
            matches: true,
            has_flag: false,
            released: false,
            ..
        } => Change::Set,
        Device {
            matches: false,
            has_flag: true,
            by_policy: true,
            ..
        } => Change::Clear,
        Device {
            matches: false,
            has_flag: false,
            by_policy: true,
            ..
        } => Change::Forget,
        _ => Change::Keep,
    }
}
