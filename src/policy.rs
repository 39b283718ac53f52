// SPDX-License-Identifier: GPL-2.0

//! Which devices have backpressure.
//!
//! The parameter `backpressure=` holds patterns of device names. A device that matches gets the flag, and loses it
//! when it matches no more, unless its opener had set it before us. This file is the whole of that decision: safe
//! code without a kernel pointer in it. The module and the model checkers build it unchanged.

#![forbid(unsafe_code)]

use core::ffi::CStr;

/// The patterns in what was written to the parameter: without white space at either end, separated by commas.
///
/// Returns `None` if one is empty, or has in it what no device name has: white space, a slash, a control character.
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

/// Each pattern of a list in which a NUL stands behind every one.
pub(crate) fn patterns(list: &[u8]) -> impl Iterator<Item = &CStr> {
    list.split_inclusive(|&byte| byte == 0)
        .filter_map(|pattern| CStr::from_bytes_with_nul(pattern).ok())
}

/// What a device is, as far as the decision goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    /// Whether one of the patterns matches its name.
    pub(crate) matches: bool,
    /// Whether it has the flag.
    pub(crate) has_flag: bool,
    /// Whether we have set the flag, and have not cleared it since.
    pub(crate) is_ours: bool,
}

/// What is done with its flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing.
    Keep,
    /// It is set, and is ours from then on.
    Set,
    /// It is cleared, and the queues are woken.
    Clear,
    /// Nothing: somebody else has cleared it. It is not ours any more.
    Forget,
}

/// Decides on a device.
///
/// A later opener who asks for the flag that we have set can't be told from us: the flag stays ours.
pub(crate) fn decide(device: Device) -> Change {
    match device {
        Device {
            matches: true,
            has_flag: false,
            ..
        } => Change::Set,
        Device {
            matches: false,
            has_flag: true,
            is_ours: true,
        } => Change::Clear,
        Device {
            matches: false,
            has_flag: false,
            is_ours: true,
        } => Change::Forget,
        _ => Change::Keep,
    }
}
