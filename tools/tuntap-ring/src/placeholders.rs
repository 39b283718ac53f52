// SPDX-License-Identifier: GPL-2.0

//! Placeholders for descriptors in the arguments of the command.

use std::ffi::{OsStr, OsString};
use std::os::fd::RawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use anyhow::{Result, ensure};

/// The placeholders and their meaning. A longer placeholder comes before its prefix.
const PLACEHOLDERS: [(&str, Piece<'_>); 5] = [
    ("%vhostfds", Piece::Vhost { all: true }),
    ("%vhostfd", Piece::Vhost { all: false }),
    ("%fds", Piece::Tap { all: true }),
    ("%fd", Piece::Tap { all: false }),
    ("%%", Piece::Text(b"%")),
];

/// A part of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece<'a> {
    /// Unchanged text.
    Text(&'a [u8]),
    /// The queue of the tap, or all of them.
    Tap { all: bool },
    /// The vhost-net device, or all of them.
    Vhost { all: bool },
}

/// The parts of an argument.
fn pieces(argument: &OsStr) -> Vec<Piece<'_>> {
    let mut rest = argument.as_bytes();
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let found = PLACEHOLDERS
            .iter()
            .find(|(name, _)| rest.starts_with(name.as_bytes()));
        let length = match found {
            Some((name, piece)) => {
                pieces.push(*piece);
                name.len()
            }
            None => {
                // Up to the next one; a lone percent sign is text.
                let next = rest.iter().skip(1).position(|byte| *byte == b'%');
                let length = next.map_or(rest.len(), |next| next + 1);
                pieces.push(Piece::Text(&rest[..length]));
                length
            }
        };
        rest = &rest[length..];
    }
    pieces
}

/// Returns whether there is a placeholder for the tap, and one for vhost-net.
pub fn wants(arguments: &[OsString]) -> (bool, bool) {
    let mut wants = (false, false);
    for piece in arguments.iter().flat_map(|argument| pieces(argument)) {
        match piece {
            Piece::Text(_) => {}
            Piece::Tap { .. } => wants.0 = true,
            Piece::Vhost { .. } => wants.1 = true,
        }
    }
    wants
}

/// Puts the descriptors into an argument.
pub fn fill(argument: &OsStr, taps: &[RawFd], vhosts: &[RawFd]) -> Result<OsString> {
    let mut filled = Vec::new();
    for piece in pieces(argument) {
        let (descriptors, all, name) = match piece {
            Piece::Text(text) => {
                filled.extend_from_slice(text);
                continue;
            }
            Piece::Tap { all } => (taps, all, "fd"),
            Piece::Vhost { all } => (vhosts, all, "vhostfd"),
        };
        ensure!(
            all || descriptors.len() == 1,
            "%{name} is one descriptor, but there are {} queues (fix: write {name}s=%{name}s)",
            descriptors.len()
        );
        let descriptors: Vec<_> = descriptors.iter().map(RawFd::to_string).collect();
        filled.extend_from_slice(descriptors.join(":").as_bytes());
    }
    Ok(OsString::from_vec(filled))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(argument: &str, taps: &[RawFd], vhosts: &[RawFd]) -> Result<String> {
        fill(argument.as_ref(), taps, vhosts).map(|filled| filled.into_string().unwrap())
    }

    #[test]
    fn replaces_placeholders_with_descriptors() {
        for (argument, expected) in [
            (
                "tap,id=n,fd=%fd,vhost=on,vhostfd=%vhostfd",
                "tap,id=n,fd=3,vhost=on,vhostfd=7",
            ),
            ("%fds/%vhostfds", "3/7"),
            ("%fd%fd%vhostfd", "337"),
            ("%fdx", "3x"),
            ("", ""),
            ("text", "text"),
            // Anything else is as it was.
            ("%d %f %", "%d %f %"),
            ("50%,%F", "50%,%F"),
            // A percent sign, and then no placeholder.
            ("%%fd", "%fd"),
            ("%%%fd", "%3"),
            ("100%%", "100%"),
        ] {
            assert_eq!(
                filled(argument, &[3], &[7]).unwrap(),
                expected,
                "{argument}"
            );
        }
    }

    #[test]
    fn several_queues_require_plural_placeholders() {
        let (taps, vhosts) = ([3, 5, 12], [4, 6, 13]);
        assert_eq!(
            filled("tap,fds=%fds,vhostfds=%vhostfds", &taps, &vhosts).unwrap(),
            "tap,fds=3:5:12,vhostfds=4:6:13"
        );
        for (bad, fix) in [("%fd", "fds=%fds"), ("%vhostfd", "vhostfds=%vhostfds")] {
            let err = filled(bad, &taps, &vhosts).unwrap_err().to_string();
            assert!(err.contains(fix), "seen: {err}");
        }
    }

    #[test]
    fn finds_placeholders_of_taps_and_of_vhost() {
        let both = |arguments: &[&str]| {
            let arguments: Vec<_> = arguments.iter().map(OsString::from).collect();
            wants(&arguments)
        };
        assert_eq!(both(&["qemu", "fd=%fd,vhostfd=%vhostfd"]), (true, true));
        assert_eq!(both(&["qemu", "fds=%fds"]), (true, false));
        assert_eq!(both(&["%vhostfds"]), (false, true));
        assert_eq!(both(&["qemu", "%%fd", "%%vhostfds"]), (false, false));
    }

    #[test]
    fn fills_arguments_that_are_not_utf_8() {
        let argument = OsString::from_vec(b"\xff%fd\xfe".to_vec());
        assert_eq!(fill(&argument, &[3], &[]).unwrap().into_vec(), b"\xff3\xfe");
    }
}
