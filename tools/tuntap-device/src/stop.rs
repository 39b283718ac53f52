// SPDX-License-Identifier: GPL-2.0

//! The signals that end a program.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, anyhow};
use libc::{c_int, c_void, siginfo_t};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use vmm_sys_util::signal::register_signal_handler;

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
    /// Begins to count them; they no longer end the program.
    pub fn install() -> Result<Self> {
        let event = EventFd::new(EFD_NONBLOCK).context("cannot make an eventfd")?;
        STOP_EVENT
            .set(event)
            .map_err(|_| anyhow!("signal handlers are already installed"))?;
        for signal in [libc::SIGTERM, libc::SIGINT] {
            register_signal_handler(signal, on_stop)
                .with_context(|| format!("cannot handle signal {signal}"))?;
        }
        Ok(Self(()))
    }

    /// Returns their number so far.
    pub fn count(&self) -> u32 {
        STOPS.load(Ordering::Relaxed)
    }

    /// A file descriptor that can be read once one came.
    pub fn fd(&self) -> RawFd {
        STOP_EVENT.get().map_or(-1, AsRawFd::as_raw_fd)
    }
}
