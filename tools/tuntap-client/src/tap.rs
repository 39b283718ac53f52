// SPDX-License-Identifier: GPL-2.0

//! The queues of a tap device, or of another character device that is used like one.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use libc::{c_int, c_short, ifreq};
use vmm_sys_util::ioctl::{ioctl_with_mut_ref, ioctl_with_ref, ioctl_with_val};

use crate::sys::{interface_request, poll_in, result};

/// A full ring stops the queue instead of dropping: 0x0080 in the kernel's
/// include/uapi/linux/if_tun.h. The libc crate does not have it.
const IFF_BACKPRESSURE: c_int = 0x0080;

/// `struct virtio_net_hdr_v1`, which is in front of each frame.
pub const VNET_HDR_LEN: usize = 12;

/// Where that has the number of buffers that the frame takes.
pub const NUM_BUFFERS: usize = 10;

const TUN_PATH: &str = "/dev/net/tun";

/// How long [`Tap::read_rest`] goes on at most, should frames keep coming.
const READ_LIMIT: Duration = Duration::from_secs(10);

/// What to open.
pub enum Source<'a> {
    /// A tap device of this name.
    Name(&'a str),
    /// This character device.
    Device(&'a Path),
    /// These file descriptors, which are set up already.
    Fds(&'a [RawFd]),
}

/// The open queues of one device.
pub struct Tap {
    /// What to call it.
    pub name: String,
    /// One open file per queue.
    pub queues: Vec<File>,
}

impl Tap {
    /// Opens `queues` queues of `source`.
    pub fn open(source: &Source<'_>, queues: u16, backpressure: bool) -> Result<Self> {
        let mut tap = match source {
            Source::Name(name) => Self {
                name: (*name).to_owned(),
                queues: Vec::new(),
            },
            Source::Device(path) => Self {
                name: path.display().to_string(),
                queues: Vec::new(),
            },
            Source::Fds(fds) => Self {
                name: format!("fd {}", fds[0]),
                queues: fds.iter().map(|fd| duplicate(*fd)).collect::<Result<_>>()?,
            },
        };
        let mut flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        if backpressure {
            flags |= IFF_BACKPRESSURE;
        }
        if queues > 1 {
            flags |= libc::IFF_MULTI_QUEUE;
        }
        match source {
            Source::Name(_) => {
                for _ in 0..queues {
                    let file = open_queue(Path::new(TUN_PATH), "modprobe tun")?;
                    check_features(&file, flags)?;
                    // A pattern such as `tap%d` becomes a name with the first queue.
                    tap.name = attach(&file, &tap.name, flags)
                        .map_err(|err| explain_attach(&tap.name, queues, err))?;
                    tap.queues.push(file);
                }
            }
            Source::Device(path) => {
                for _ in 0..queues {
                    let file = open_queue(path, "make the macvtap first")?;
                    check_features(&file, flags)?;
                    attach(&file, "", flags)
                        .map_err(|err| explain_attach(&tap.name, queues, err))?;
                    tap.queues.push(file);
                }
            }
            Source::Fds(_) => {}
        }
        for file in &tap.queues {
            set_headers(file).with_context(|| format!("cannot set up {}", tap.name))?;
        }
        Ok(tap)
    }

    /// Detaches the queue of that file from the device.
    pub fn detach(&self, file: usize) -> Result<()> {
        self.set_queue(file, libc::IFF_DETACH_QUEUE)
    }

    /// Attaches it again.
    pub fn attach(&self, file: usize) -> Result<()> {
        self.set_queue(file, libc::IFF_ATTACH_QUEUE)
    }

    fn set_queue(&self, file: usize, flags: c_int) -> Result<()> {
        let mut request = interface_request("");
        request.ifr_ifru.ifru_flags = flags as c_short;
        // SAFETY: The ioctl reads one ifreq, which is what it is given.
        let ret = unsafe { ioctl_with_ref(self.file(file)?, libc::TUNSETQUEUE as _, &request) };
        result(ret).context("TUNSETQUEUE")?;
        Ok(())
    }

    /// The file of that number.
    pub fn file(&self, file: usize) -> Result<&File> {
        self.queues
            .get(file)
            .with_context(|| format!("{} is not open", self.name))
    }

    /// Reads up to `most` frames from a file, giving `seen` each. Returns how many there were.
    pub fn read(&self, file: usize, most: u64, mut seen: impl FnMut(&[u8])) -> Result<u64> {
        let mut buffer = vec![0; VNET_HDR_LEN + 65536];
        let mut file = self.file(file)?;
        let mut frames = 0;
        while frames < most {
            let Some(frame) = read_frame(&mut file, &mut buffer)
                .with_context(|| format!("cannot read {}", self.name))?
            else {
                break;
            };
            frames += 1;
            seen(frame);
        }
        Ok(frames)
    }

    /// Reads what is in the rings until nothing comes for `idle`, giving `seen` each frame. Returns
    /// whether it came to that end: it goes on for [`READ_LIMIT`] at most, or until `hurry`.
    pub fn read_rest(
        &self,
        idle: Duration,
        hurry: impl Fn() -> bool,
        mut seen: impl FnMut(&[u8]),
    ) -> Result<bool> {
        let mut buffer = vec![0; VNET_HDR_LEN + 65536];
        let limit = Instant::now() + READ_LIMIT;
        let mut files: Vec<_> = self.queues.iter().collect();
        loop {
            let mut frames = 0;
            let mut gone = Vec::new();
            for (i, file) in files.iter_mut().enumerate() {
                loop {
                    match read_frame(file, &mut buffer) {
                        Ok(Some(frame)) => {
                            frames += 1;
                            seen(frame);
                        }
                        Ok(None) => break,
                        // With its device went what was in the ring.
                        Err(err) if err.raw_os_error() == Some(libc::EBADFD) => {
                            gone.push(i);
                            break;
                        }
                        Err(err) => {
                            return Err(err).with_context(|| format!("cannot read {}", self.name));
                        }
                    }
                    if hurry() || Instant::now() > limit {
                        return Ok(false);
                    }
                }
            }
            for i in gone.into_iter().rev() {
                files.swap_remove(i);
            }
            // Room in a ring wakes its queue, and the qdisc may refill it a little later.
            if frames == 0 && !poll_in(&files, idle)? {
                return Ok(true);
            }
        }
    }
}

/// Reads a frame without its header, if there is one.
fn read_frame<'a>(file: &mut &File, buffer: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
    loop {
        match file.read(buffer) {
            Ok(len) => return Ok(Some(buffer.get(VNET_HDR_LEN..len).unwrap_or_default())),
            Err(err) if err.kind() == ErrorKind::Interrupted => {}
            Err(err) if err.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(err) => return Err(err),
        }
    }
}

/// Lets the device hand over TCP packets of up to 64 kB, and packets without a checksum: what is
/// left to do is in the header in front of them.
pub fn set_offloads(file: &File) -> Result<()> {
    let offloads = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
    // SAFETY: The ioctl takes a number.
    let ret = unsafe { ioctl_with_val(file, libc::TUNSETOFFLOAD as _, offloads.into()) };
    result(ret).context("TUNSETOFFLOAD")?;
    Ok(())
}

fn open_queue(path: &Path, cure: &str) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(|err| explain_open(path, cure, err))
}

/// Says what to do about a device file that cannot be opened.
pub fn explain_open(path: &Path, missing: &str, err: io::Error) -> anyhow::Error {
    let cure = match err.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => missing,
        Some(libc::EACCES | libc::EPERM) => "run as root",
        Some(libc::EBUSY) => "end whoever else has it open",
        _ => return anyhow!("cannot open {}: {err}", path.display()),
    };
    anyhow!("cannot open {}: {err} (cure: {cure})", path.display())
}

/// Takes a duplicate of a file descriptor that was passed to the program.
fn duplicate(fd: RawFd) -> Result<File> {
    // SAFETY: The call takes no pointers, and a bad descriptor is refused.
    let flags = result(unsafe { libc::fcntl(fd, libc::F_GETFL) })
        .with_context(|| format!("cannot use file descriptor {fd} (cure: pass it open)"))?;
    // SAFETY: It is open, as was just seen, and it is open only because whoever started the program
    // passed it for this use: nothing here closes it.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let owned = borrowed
        .try_clone_to_owned()
        .with_context(|| format!("cannot duplicate file descriptor {fd}"))?;
    // SAFETY: The call takes no pointers.
    result(unsafe { libc::fcntl(owned.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) })
        .with_context(|| format!("cannot make file descriptor {fd} non-blocking"))?;
    Ok(File::from(owned))
}

fn check_features(file: &File, flags: c_int) -> Result<()> {
    // The interface says unsigned, but all flags are int.
    let mut features: c_int = 0;
    // SAFETY: The ioctl writes one int's worth, which is what it is given.
    let ret = unsafe { ioctl_with_mut_ref(file, libc::TUNGETFEATURES as _, &mut features) };
    result(ret)
        .context("cannot ask for the features of the device (cure: use a tun/tap device)")?;
    let missing = flags & !features;
    if missing & IFF_BACKPRESSURE != 0 {
        bail!(
            "the device does not know IFF_BACKPRESSURE \
             (cure: use a tap on Linux 7.3 or newer, or leave out --backpressure)"
        );
    }
    ensure!(
        missing == 0,
        "the device does not know the flags {missing:#06x} (cure: use a newer kernel)"
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

fn explain_attach(name: &str, queues: u16, err: io::Error) -> anyhow::Error {
    let cure = match err.raw_os_error() {
        Some(libc::EPERM) => "run as root",
        Some(libc::EBUSY) => "end whoever else has it open",
        Some(libc::EINVAL) if queues > 1 => "make it with `multi_queue`, as a tap",
        Some(libc::EINVAL) => "make it as a tap, and without `multi_queue`",
        Some(libc::E2BIG) => "use fewer --queues",
        _ => return anyhow!("cannot attach to {name}: {err}"),
    };
    anyhow!("cannot attach to {name}: {err} (cure: {cure})")
}

/// Sets the length of the header in front of each frame, and turns the offloads off.
fn set_headers(file: &File) -> Result<()> {
    let len: c_int = VNET_HDR_LEN.try_into()?;
    // SAFETY: The ioctl reads one int, which is what it is given.
    let ret = unsafe { ioctl_with_ref(file, libc::TUNSETVNETHDRSZ as _, &len) };
    result(ret).context("TUNSETVNETHDRSZ (cure: use a tap with IFF_VNET_HDR)")?;
    // SAFETY: The ioctl takes a number.
    let ret = unsafe { ioctl_with_val(file, libc::TUNSETOFFLOAD as _, 0) };
    result(ret).context("TUNSETOFFLOAD")?;
    Ok(())
}
