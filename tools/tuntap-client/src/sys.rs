// SPDX-License-Identifier: GPL-2.0

//! Small wrappers around system calls, and the stop signal.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use libc::{c_int, c_void, nfds_t, pollfd, siginfo_t, socklen_t};
pub use tuntap_device::{interface_request, result};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use vmm_sys_util::signal::register_signal_handler;

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
        // Somebody is in a hurry.
        Err(err) if err.kind() == io::ErrorKind::Interrupted => Ok(false),
        Err(err) => Err(err).context("cannot poll the tap"),
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
    // SAFETY: The call takes numbers only. That it fails would do no harm.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
}

static STOPS: AtomicU32 = AtomicU32::new(0);
static STOP_EVENT: OnceLock<EventFd> = OnceLock::new();

extern "C" fn on_stop(_signal: c_int, _info: *mut siginfo_t, _context: *mut c_void) {
    STOPS.fetch_add(1, Ordering::Relaxed);
    if let Some(event) = STOP_EVENT.get() {
        let one = 1u64;
        // SAFETY: It writes eight bytes, the length of what it points to; it is async-signal-safe.
        // There is room for 2^64 signals, so it needs no second try.
        unsafe {
            libc::write(
                event.as_raw_fd(),
                (&raw const one).cast(),
                size_of_val(&one),
            )
        };
    }
}

/// The signals that end a run: SIGTERM and SIGINT.
pub struct Stop(());

impl Stop {
    /// Begins to count them, instead of being ended by them.
    pub fn install() -> Result<Self> {
        let event = EventFd::new(EFD_NONBLOCK).context("cannot make an eventfd")?;
        STOP_EVENT
            .set(event)
            .map_err(|_| anyhow!("the signals are taken already"))?;
        for signal in [libc::SIGTERM, libc::SIGINT] {
            register_signal_handler(signal, on_stop)
                .with_context(|| format!("cannot handle signal {signal}"))?;
        }
        Ok(Self(()))
    }

    /// How many came.
    pub fn count(&self) -> u32 {
        STOPS.load(Ordering::Relaxed)
    }

    /// A file descriptor that can be read once one came.
    pub fn fd(&self) -> RawFd {
        STOP_EVENT.get().map_or(-1, AsRawFd::as_raw_fd)
    }
}
