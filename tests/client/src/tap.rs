// SPDX-License-Identifier: GPL-2.0

//! The queues of a tap device, or of a similar character device.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use libc::c_int;
use tuntap_device::{self as device, Queues};
use vmm_sys_util::ioctl::{ioctl_with_ref, ioctl_with_val};

use crate::sys::{poll_in, result};

/// `struct virtio_net_hdr_v1`, which is in front of each frame.
pub const VNET_HDR_LEN: usize = 12;

/// Where that has the number of buffers that the frame takes.
pub const NUM_BUFFERS: usize = 10;

/// The maximum time of [`Tap::read_rest`], if frames keep coming.
const READ_LIMIT: Duration = Duration::from_secs(10);

/// The device to open.
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
    /// Its name in messages.
    pub name: String,
    /// One open file per queue.
    pub queues: Vec<File>,
}

impl From<Queues> for Tap {
    fn from(Queues { name, files }: Queues) -> Self {
        Self {
            name,
            queues: files,
        }
    }
}

impl Tap {
    /// Opens `queues` queues of `source`.
    pub fn open(source: &Source<'_>, queues: u16, backpressure: bool) -> Result<Self> {
        let tap = match *source {
            Source::Name(name) => {
                Queues::open(device::Source::Name(name), queues, backpressure)?.into()
            }
            Source::Device(path) => {
                Queues::open(device::Source::Device(path), queues, backpressure)?.into()
            }
            Source::Fds(fds) => Self {
                name: format!("fd {}", fds[0]),
                queues: fds.iter().map(|fd| duplicate(*fd)).collect::<Result<_>>()?,
            },
        };
        for file in &tap.queues {
            set_headers(file).with_context(|| format!("cannot set up {}", tap.name))?;
        }
        Ok(tap)
    }

    /// Detaches the queue of that file from the device.
    pub fn detach(&self, file: usize) -> Result<()> {
        device::set_queue(self.file(file)?, false)
    }

    /// Attaches it again.
    pub fn attach(&self, file: usize) -> Result<()> {
        device::set_queue(self.file(file)?, true)
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
                        // The device is gone, and its ring with it.
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

/// Takes a duplicate of a file descriptor that was passed to the program.
fn duplicate(fd: RawFd) -> Result<File> {
    // SAFETY: The call takes no pointers, and rejects a bad descriptor.
    let flags = result(unsafe { libc::fcntl(fd, libc::F_GETFL) })
        .with_context(|| format!("invalid file descriptor {fd} (fix: open it before starting)"))?;
    // SAFETY: It is open, as checked above, and the parent process passed it for this use: nothing here
    // closes it.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let owned = borrowed
        .try_clone_to_owned()
        .with_context(|| format!("cannot duplicate file descriptor {fd}"))?;
    // SAFETY: The call takes no pointers.
    result(unsafe { libc::fcntl(owned.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) })
        .with_context(|| format!("cannot make file descriptor {fd} non-blocking"))?;
    Ok(File::from(owned))
}

/// Sets the length of the header in front of each frame, and turns the offloads off.
fn set_headers(file: &File) -> Result<()> {
    let len: c_int = VNET_HDR_LEN.try_into()?;
    // SAFETY: The ioctl reads one int, which is what it is given.
    let ret = unsafe { ioctl_with_ref(file, libc::TUNSETVNETHDRSZ as _, &len) };
    result(ret).context("TUNSETVNETHDRSZ failed (fix: use a tap with IFF_VNET_HDR)")?;
    // SAFETY: The ioctl takes a number.
    let ret = unsafe { ioctl_with_val(file, libc::TUNSETOFFLOAD as _, 0) };
    result(ret).context("TUNSETOFFLOAD")?;
    Ok(())
}
