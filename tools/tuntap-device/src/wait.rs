// SPDX-License-Identifier: GPL-2.0

//! Waits for an eventfd, a stop signal or a timeout.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use anyhow::{Context, Result};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use crate::stop::Stop;

/// Waits for events.
pub struct Waiter(Epoll);

impl Waiter {
    /// Returns a waiter for stop signals.
    pub fn new(stop: &Stop) -> Result<Self> {
        let waiter = Self(Epoll::new().context("cannot make an epoll instance")?);
        waiter.watch(stop.fd())?;
        Ok(waiter)
    }

    /// Lets another eventfd wake it, too.
    pub fn watch(&self, fd: RawFd) -> Result<()> {
        let event = EpollEvent::new(EventSet::IN | EventSet::EDGE_TRIGGERED, 0);
        self.0
            .ctl(ControlOperation::Add, fd, event)
            .context("cannot watch an eventfd")
    }

    /// Sleeps until one of them comes, for `timeout` at most.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<()> {
        // Rounded up, or the last millisecond would be spent spinning.
        let timeout = timeout.map_or(-1, |timeout| {
            i32::try_from(timeout.as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
        });
        // The events are not read: they are edge-triggered, and each round checks everything.
        let mut events = [EpollEvent::default(); 16];
        match self.0.wait(timeout, &mut events) {
            Err(err) if err.kind() != io::ErrorKind::Interrupted => {
                Err(err).context("cannot wait for vhost")
            }
            _ => Ok(()),
        }
    }
}
