// SPDX-License-Identifier: GPL-2.0

//! Small wrappers around system calls.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::{Context, Result};
use libc::{c_int, nfds_t, pollfd, socklen_t};
pub use tuntap_device::stop::Stop;
pub use tuntap_device::{interface_request, result};

/// Waits until one of the files can be read, for `timeout` at most. Returns whether one can.
pub fn poll_in(files: &[&File], timeout: Duration) -> Result<bool> {
    let mut polled: Vec<pollfd> = files
        .iter()
        .map(|file| pollfd {
            fd: file.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        })
        .collect();
    let timeout = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
    // SAFETY: The pointer and the count are those of one vector.
    let ret = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as nfds_t, timeout) };
    match result(ret) {
        Ok(_) => Ok(polled
            .iter()
            .any(|polled| polled.revents & libc::POLLIN != 0)),
        // A signal has come.
        Err(err) if err.kind() == io::ErrorKind::Interrupted => Ok(false),
        Err(err) => Err(err).context("cannot poll the tap"),
    }
}

/// Repeats a system call as long as signals interrupt it.
pub fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Sets an option of a socket.
pub fn set_option<T>(fd: &impl AsRawFd, level: c_int, option: c_int, value: &T) -> io::Result<()> {
    let len = size_of::<T>() as socklen_t;
    // SAFETY: The pointer and the length are those of `value`.
    let ret = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            option,
            (&raw const *value).cast(),
            len,
        )
    };
    result(ret).map(drop)
}

/// Makes sleeps of this thread as exact as the kernel can.
pub fn sleep_exactly() {
    // SAFETY: The call takes numbers only. A failure does no harm.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_repeats_an_interrupted_call_only() {
        let mut results = [libc::EINTR, libc::EINTR, libc::EAGAIN]
            .map(io::Error::from_raw_os_error)
            .into_iter();
        let err = retry(|| results.next().map_or(Ok(()), Err)).unwrap_err();
        assert_eq!(err.raw_os_error(), Some(libc::EAGAIN));
        assert!(retry(|| results.next().map_or(Ok(()), Err)).is_ok());
    }
}
