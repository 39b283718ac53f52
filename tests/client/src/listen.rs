// SPDX-License-Identifier: GPL-2.0

//! `listen`: receives numbered packets from a UDP socket, and sends them back.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Instant;

use anyhow::{Context, Result};
use libc::c_int;

use crate::cli::ListenArgs;
use crate::packet::{MAX_PAYLOAD, PORT, parse_payload};
use crate::report::{self, Listened};
use crate::sequence::{Source, Tracker, Verdict};
use crate::sys::{Stop, retry, set_option};
use tuntap_device::wait::Waiter;

/// Size of the socket's buffer. The kernel drops packets that do not fit.
const ROOM: c_int = 64 << 20;

/// Packets to receive between two checks of the signals.
const BATCH: usize = 64;

struct Listener {
    socket: UdpSocket,
    /// The socket for answers, which waits for room, and their port.
    back: Option<(UdpSocket, u16)>,
    buffer: Vec<u8>,
    tracker: Tracker,
    strays: u64,
    answered: u64,
}

impl Listener {
    fn new(port: u16, answer_to: Option<u16>) -> Result<Self> {
        let bind = |port| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port));
        let socket = bind(port).with_context(|| {
            format!(
                "cannot bind UDP port {port} (fix: run as root, or end the program that uses it)"
            )
        })?;
        socket
            .set_nonblocking(true)
            .context("cannot make a socket that does not block")?;
        set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &ROOM)
            .context("cannot set SO_RCVBUFFORCE (fix: run as root)")?;
        let back = match answer_to {
            Some(port) => Some((bind(0).context("cannot make a socket for answers")?, port)),
            None => None,
        };
        Ok(Self {
            socket,
            back,
            buffer: vec![0; MAX_PAYLOAD],
            tracker: Tracker::default(),
            strays: 0,
            answered: 0,
        })
    }

    /// Receives a batch of packets. Returns whether there were any.
    fn take(&mut self) -> Result<bool> {
        for taken in 0..BATCH {
            let (len, from) = match self.socket.recv_from(&mut self.buffer) {
                Ok(packet) => packet,
                Err(err) if err.kind() == ErrorKind::WouldBlock => return Ok(taken > 0),
                Err(err) if err.kind() == ErrorKind::Interrupted => continue,
                Err(err) => return Err(err).context("cannot receive"),
            };
            self.see(len, from.ip())?;
        }
        Ok(true)
    }

    fn see(&mut self, len: usize, from: IpAddr) -> Result<()> {
        let packet = &self.buffer[..len];
        let verdict =
            parse_payload(packet).map(|number| self.tracker.see(number, Source::Virtqueue));
        if !matches!(verdict, Some(Verdict::New | Verdict::Duplicate)) {
            self.strays += 1;
        } else if let Some((socket, port)) = &self.back {
            // It waits for room, and a signal ends the wait.
            retry(|| socket.send_to(packet, (from, *port)))
                .with_context(|| format!("cannot answer {from}"))?;
            self.answered += 1;
        }
        Ok(())
    }

    fn report(&self) -> Listened {
        let tracker = &self.tracker;
        Listened {
            received: tracker.total(|sender| sender.received),
            strays: self.strays,
            gaps: tracker.total(|sender| sender.gaps()),
            reorders: tracker.total(|sender| sender.reorders),
            duplicates: tracker.total(|sender| sender.duplicates),
            answered: self.answered,
        }
    }
}

/// Runs `listen`.
pub fn listen(args: &ListenArgs) -> Result<()> {
    report::not_ready(args.ready.as_deref())?;
    let stop = Stop::install()?;
    let mut listener = Listener::new(PORT, args.answer.then_some(PORT))?;
    let waiter = Waiter::new(&stop)?;
    waiter.watch(listener.socket.as_raw_fd())?;
    if let Some(ready) = &args.ready {
        report::write_file(ready, b"")?;
    }

    let mut last = Instant::now();
    while stop.count() < 2 {
        let now = Instant::now();
        if listener.take()? {
            last = now;
        } else if stop.count() == 0 {
            waiter.wait(None)?;
            last = Instant::now();
        } else if now - last < args.idle {
            waiter.wait(Some(last + args.idle - now))?;
        } else {
            break;
        }
    }

    let result = listener.report();
    println!("{result}");
    report::write_json(args.json.as_deref(), &result)
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::packet::{payload, set_number};

    /// For how long nothing may arrive before the test fails.
    const PATIENCE: Duration = Duration::from_secs(300);

    fn seen(listener: &Listener) -> u64 {
        let report = listener.report();
        report.received + report.duplicates + report.strays
    }

    #[test]
    fn listener_counts_packets_and_sends_them_back() {
        let here = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = |socket: &UdpSocket| socket.local_addr().unwrap().port();
        let (sender, answers) = (here(), here());
        answers.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut listener = Listener::new(0, Some(port(&answers))).unwrap();
        assert!(!listener.take().unwrap());
        sender
            .connect((Ipv4Addr::LOCALHOST, port(&listener.socket)))
            .unwrap();
        let mut packet = payload(64, 3);
        for number in [0, 2, 1, 1, 4] {
            set_number(&mut packet, number);
            sender.send(&packet).unwrap();
        }
        sender.send(b"something else").unwrap();
        // The kernel may deliver them after send() returns.
        let mut last = Instant::now();
        while seen(&listener) < 6 {
            if listener.take().unwrap() {
                last = Instant::now();
            }
            let seen = seen(&listener);
            assert!(
                last.elapsed() < PATIENCE,
                "expected: 6 packets, seen: {seen}"
            );
            thread::yield_now();
        }
        assert!(!listener.take().unwrap(), "expected: no more packets");

        let result = listener.report();
        assert_eq!((result.received, result.strays), (4, 1));
        assert_eq!((result.gaps, result.reorders, result.duplicates), (1, 1, 1));
        assert_eq!(result.answered, 5);
        let mut answer = [0; 100];
        for number in [0u64, 2, 1, 1, 4] {
            assert_eq!(answers.recv(&mut answer).unwrap(), 64);
            assert_eq!(answer[8..16], number.to_be_bytes());
        }
    }
}
