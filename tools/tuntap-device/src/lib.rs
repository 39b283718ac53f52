// SPDX-License-Identifier: GPL-2.0

//! Opens the queues of a tap device, or of a similar character device, with errors that name a fix.

pub mod stop;
pub mod wait;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::mem::zeroed;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use libc::{c_char, c_int, c_short, ifreq};
use vmm_sys_util::ioctl::{ioctl_with_mut_ref, ioctl_with_ref};

/// A full ring stops the queue instead of dropping: 0x0080 in the kernel's
/// include/uapi/linux/if_tun.h. The libc crate does not have it.
pub const IFF_BACKPRESSURE: c_int = 0x0080;

/// The version of the module, and of each tool.
pub const VERSION: &str = env!("TUNTAP_RING_VERSION");

/// The most queues a tap can have (MAX_TAP_QUEUES in linux/if_tap.h).
pub const MAX_QUEUES: u16 = 256;

const TUN_PATH: &str = "/dev/net/tun";

/// The device to open.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// A tap device of this name; created if it does not exist.
    Name(&'a str),
    /// This character device, of a macvtap or ipvtap.
    Device(&'a Path),
}

/// The open queues of one device.
#[derive(Debug)]
pub struct Queues {
    /// Its name in messages.
    pub name: String,
    /// One open file per queue.
    pub files: Vec<File>,
}

impl Queues {
    /// Opens that many queues, with IFF_VNET_HDR, and with IFF_BACKPRESSURE if `backpressure`.
    pub fn open(source: Source<'_>, queues: u16, backpressure: bool) -> Result<Self> {
        let mut flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        if backpressure {
            flags |= IFF_BACKPRESSURE;
        }
        let (path, missing, mut name) = match source {
            Source::Name(name) => (Path::new(TUN_PATH), "modprobe tun", name.to_owned()),
            Source::Device(path) => (path, "make the macvtap first", path.display().to_string()),
        };
        if queues > 1 || matches!(source, Source::Name(name) if has_many_queues(name)) {
            flags |= libc::IFF_MULTI_QUEUE;
        }
        let mut files = Vec::new();
        for _ in 0..queues {
            let file = open(path, missing)?;
            check_features(&file, flags)?;
            let request = match source {
                Source::Name(_) => name.as_str(),
                Source::Device(_) => "",
            };
            let attached =
                attach(&file, request, flags).map_err(|err| explain_attach(&name, queues, err))?;
            if let Source::Name(_) = source {
                // A pattern such as `tap%d` becomes a name with the first queue.
                name = attached;
                check_flags(&file, &name, flags)?;
            }
            files.push(file);
        }
        Ok(Self { name, files })
    }
}

/// Opens a device file, with errors that name a fix; `missing` is the fix for a missing file.
pub fn open(path: &Path, missing: &str) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(|err| {
            let fix = match err.raw_os_error() {
                Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => missing,
                Some(libc::EACCES | libc::EPERM) => "run as root",
                Some(libc::EBUSY) => "end the program that has it open",
                _ => return anyhow!("cannot open {}: {err}", path.display()),
            };
            anyhow!("cannot open {}: {err} (fix: {fix})", path.display())
        })
}

/// Turns the -1 of a system call into its error.
pub fn result<T: PartialOrd + Default>(ret: T) -> io::Result<T> {
    if ret < T::default() {
        return Err(io::Error::last_os_error());
    }
    Ok(ret)
}

/// An interface request for the interface `name`, which was checked to fit.
pub fn interface_request(name: &str) -> ifreq {
    // SAFETY: The structure is made of numbers and of a union of such, so all zero is fine.
    let mut request: ifreq = unsafe { zeroed() };
    let room = libc::IFNAMSIZ - 1;
    for (to, from) in request.ifr_name[..room].iter_mut().zip(name.bytes()) {
        *to = c_char::from_ne_bytes([from]);
    }
    request
}

/// Checks the name of an interface, as a parser of arguments.
pub fn interface_name(text: &str) -> Result<String, String> {
    // IFNAMSIZ counts the terminating zero.
    if text.is_empty() || text.len() >= libc::IFNAMSIZ {
        return Err(format!("must have 1 to {} bytes", libc::IFNAMSIZ - 1));
    }
    if text.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control()) {
        return Err("must not contain `/`, `:` or white space".into());
    }
    Ok(text.into())
}

/// Returns whether a tap of that name has several queues: opening one of them requires the flag, too.
fn has_many_queues(name: &str) -> bool {
    fs::read_to_string(format!("/sys/class/net/{name}/tun_flags"))
        .is_ok_and(|flags| parse_flags(&flags) & libc::IFF_MULTI_QUEUE != 0)
}

/// Parses the flags of a tap in sysfs, such as `0x1102`; 0 for anything else.
fn parse_flags(text: &str) -> c_int {
    text.trim()
        .strip_prefix("0x")
        .and_then(|digits| c_int::from_str_radix(digits, 16).ok())
        .unwrap_or(0)
}

fn check_features(file: &File, flags: c_int) -> Result<()> {
    // TUNGETFEATURES has an unsigned argument, but all flags are int.
    let mut features: c_int = 0;
    // SAFETY: The ioctl writes one int's worth, which is what it is given.
    let ret = unsafe { ioctl_with_mut_ref(file, libc::TUNGETFEATURES as _, &mut features) };
    result(ret).context("cannot read the features of the device (fix: use a tun/tap device)")?;
    let missing = flags & !features;
    if missing & IFF_BACKPRESSURE != 0 {
        bail!(
            "the device does not support IFF_BACKPRESSURE \
             (fix: use a tap on Linux 7.3 or newer, or leave it out)"
        );
    }
    ensure!(
        missing == 0,
        "the device does not support the flags {missing:#06x} (fix: use a newer kernel)"
    );
    Ok(())
}

/// Attaches an open file to the device, as a queue of it, and returns the device's name.
fn attach(file: &File, name: &str, flags: c_int) -> io::Result<String> {
    let mut request: ifreq = interface_request(name);
    request.ifr_ifru.ifru_flags = flags as c_short;
    // SAFETY: The ioctl reads and writes one ifreq, which is what it is given.
    result(unsafe { ioctl_with_mut_ref(file, libc::TUNSETIFF as _, &mut request) })?;
    let name = request.ifr_name.iter().map(|c| *c as u8);
    let name: Vec<_> = name.take_while(|c| *c != 0).collect();
    Ok(String::from_utf8_lossy(&name).into_owned())
}

/// Checks that the device has the flags: if another program has a queue of it, the kernel keeps the flags of
/// that program.
fn check_flags(file: &File, name: &str, flags: c_int) -> Result<()> {
    let mut request: ifreq = interface_request("");
    // SAFETY: The ioctl writes one ifreq, which is what it is given.
    result(unsafe { ioctl_with_mut_ref(file, libc::TUNGETIFF as _, &mut request) })
        .context("TUNGETIFF")?;
    // SAFETY: It was zero to begin with, and the ioctl sets the flags.
    let set = c_int::from(unsafe { request.ifr_ifru.ifru_flags } as u16);
    ensure!(
        flags & !set & (IFF_BACKPRESSURE | libc::IFF_VNET_HDR) == 0,
        "{name} is already open with the flags {set:#06x}, without {flags:#06x} \
         (fix: end the program that has it open)"
    );
    Ok(())
}

/// Attaches a file to the queue of its device again, or detaches it: packets go to others then.
pub fn set_queue(file: &File, attached: bool) -> Result<()> {
    let mut request: ifreq = interface_request("");
    let flags = if attached {
        libc::IFF_ATTACH_QUEUE
    } else {
        libc::IFF_DETACH_QUEUE
    };
    request.ifr_ifru.ifru_flags = flags as c_short;
    // SAFETY: The ioctl reads one ifreq, which is what it is given.
    result(unsafe { ioctl_with_ref(file, libc::TUNSETQUEUE as _, &request) })
        .context("TUNSETQUEUE")?;
    Ok(())
}

fn explain_attach(name: &str, queues: u16, err: io::Error) -> anyhow::Error {
    let fix = match err.raw_os_error() {
        Some(libc::EPERM) => "run as root",
        Some(libc::EBUSY) => "end the program that has it open",
        Some(libc::EINVAL) if queues > 1 => "make it with `multi_queue`, as a tap",
        Some(libc::EINVAL) => "make it as a tap, and without `multi_queue`",
        Some(libc::E2BIG) => "use fewer --queues",
        _ => return anyhow!("cannot attach to {name}: {err}"),
    };
    anyhow!("cannot attach to {name}: {err} (fix: {fix})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_and_terminates_interface_names() {
        let bytes = |name| interface_request(name).ifr_name.map(|c| c as u8);
        assert_eq!(&bytes("tap0")[..5], b"tap0\0");
        assert_eq!(&bytes("a-name-that-is-too-long"), b"a-name-that-is-\0");
    }

    #[test]
    fn rejects_invalid_interface_names() {
        for good in ["tap0", "tap%d", "fifteen-letters"] {
            assert_eq!(interface_name(good).unwrap(), good);
        }
        for bad in ["", "sixteen--letters", "a/b", "a b", "a:b", "a\n"] {
            assert!(
                interface_name(bad).is_err(),
                "expected: an error for {bad:?}, seen: none"
            );
        }
    }

    #[test]
    fn parses_flags_of_sysfs() {
        assert_eq!(parse_flags("0x1102\n"), 0x1102);
        for bad in ["", "1102", "0x", "0xtap"] {
            assert_eq!(parse_flags(bad), 0, "{bad}");
        }
    }

    #[test]
    fn rejects_missing_files_and_other_devices() {
        let missing = open(Path::new("/nonexistent/tap"), "make it").unwrap_err();
        assert!(
            missing.to_string().ends_with("(fix: make it)"),
            "seen: {missing}"
        );
        let err = Queues::open(Source::Device(Path::new("/dev/null")), 1, false).unwrap_err();
        assert!(
            format!("{err:#}").contains("fix: use a tun/tap device"),
            "seen: {err:#}"
        );
    }

    #[test]
    fn turns_minus_one_into_an_error() {
        assert_eq!(result(0).unwrap(), 0);
        assert_eq!(result(3isize).unwrap(), 3);
        assert!(result(-1).is_err());
    }
}
