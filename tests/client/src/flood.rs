// SPDX-License-Identifier: GPL-2.0

//! `flood`: sends numbered packets, with a thread, a socket and an id per sender.

use std::io;
use std::mem::zeroed;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use libc::{c_int, c_ulong, ifreq, iovec, mmsghdr, sockaddr_ll, socklen_t};
use vmm_sys_util::ioctl::ioctl_with_mut_ref;

use crate::cli::FloodArgs;
use crate::packet::{Addresses, MacAddr, PORT, frame, payload, set_frame_number, set_number};
use crate::report::{self, Sent, SentBy, rate};
use crate::sys::{Stop, interface_request, result, set_option, sleep_exactly};

/// From include/uapi/linux/if_packet.h; the libc crate does not have it.
const PACKET_QDISC_BYPASS: c_int = 20;

/// A blocked send comes back after that time, to see whether it is still wanted.
const SEND_TIMEOUT: Duration = Duration::from_millis(100);

/// How long to wait after a refused send before it is done again.
const REFUSED_DELAY: Duration = Duration::from_micros(50);

/// The same if there is no way to the device.
const NO_WAY_DELAY: Duration = Duration::from_millis(1);

/// Source port of the first sender of `--bypass`; the kernel chooses without that.
const BYPASS_PORT: u16 = 40000;

fn explain(what: &str, dev: &str, err: &io::Error) -> anyhow::Error {
    let fix = match err.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => "run as root",
        Some(libc::ENODEV | libc::ENXIO) => "check --dev",
        Some(libc::ENETDOWN) => "set the interface up",
        Some(libc::ENETUNREACH) => "set the interface up and give it an address in --to's network",
        Some(libc::EHOSTUNREACH) => "give --to a permanent neighbour entry",
        Some(libc::EMSGSIZE) => "use a smaller --size or a larger MTU",
        _ => return anyhow!("cannot {what} {dev}: {err}"),
    };
    anyhow!("cannot {what} {dev}: {err} (fix: {fix})")
}

/// Whether a failed send is to be done again.
fn refused(err: &io::Error) -> bool {
    matches!(
        err.raw_os_error(),
        Some(libc::ENOBUFS | libc::ENOMEM | libc::EAGAIN | libc::EINTR | libc::ECONNREFUSED)
    )
}

/// Whether a send failed for want of a way to the device, which may come back.
fn no_way(err: &io::Error) -> bool {
    matches!(
        err.raw_os_error(),
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENODEV | libc::ENXIO)
    ) || lost_packet(err)
}

/// Whether it failed after its packet had been made: the device is not up, or going down while the
/// packet is on its way, so that it cannot have a neighbour.
fn lost_packet(err: &io::Error) -> bool {
    matches!(err.raw_os_error(), Some(libc::ENETDOWN | libc::EINVAL))
}

/// The packets that one system call sends.
struct Batch {
    packets: Vec<Vec<u8>>,
    set_number: fn(&mut [u8], u64),
}

impl Batch {
    /// Makes `len` copies of `packet`.
    fn new(packet: &[u8], len: usize, set_number: fn(&mut [u8], u64)) -> Self {
        Self {
            packets: vec![packet.to_vec(); len],
            set_number,
        }
    }

    /// Sends the packets `number`, `number + 1` and so on, `len` at most. Returns how many the
    /// kernel accepted.
    fn send(&mut self, socket: &OwnedFd, number: u64, len: usize) -> io::Result<usize> {
        let len = len.min(self.packets.len());
        let mut vectors: Vec<_> = (number..)
            .zip(&mut self.packets[..len])
            .map(|(number, packet)| {
                (self.set_number)(packet, number);
                iovec {
                    iov_base: packet.as_mut_ptr().cast(),
                    iov_len: packet.len(),
                }
            })
            .collect();
        let mut messages: Vec<_> = vectors
            .iter_mut()
            .map(|vector| {
                // SAFETY: The structure is made of numbers and of pointers, so all zero is fine.
                let mut message: mmsghdr = unsafe { zeroed() };
                message.msg_hdr.msg_iov = vector;
                message.msg_hdr.msg_iovlen = 1;
                message
            })
            .collect();
        let count = messages.len() as u32;
        // SAFETY: The pointer and the count are those of one vector. Each message points to its
        // iovec and that to its packet, which outlive the call.
        let ret = unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), count, 0) };
        result(ret).map(|sent| sent as usize)
    }
}

/// The destination, from [`FloodArgs`] and the interface.
enum Way {
    /// Through the network stack.
    Udp,
    /// Straight to the driver, on the interface of that index.
    Bypass { index: c_int, addresses: Addresses },
}

fn interface<T>(
    socket: &impl AsRawFd,
    dev: &str,
    request: c_ulong,
    get: impl FnOnce(&ifreq) -> T,
) -> io::Result<T> {
    let mut data = interface_request(dev);
    // SAFETY: The requests that this is used with read and write one ifreq.
    result(unsafe { ioctl_with_mut_ref(socket, request, &mut data) })?;
    Ok(get(&data))
}

impl Way {
    fn find(args: &FloodArgs) -> Result<Self> {
        let Some(dst_mac) = args.dst_mac else {
            return Ok(Self::Udp);
        };
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("cannot make a socket")?;
        let explain = |err| explain("look up", &args.dev, &err);
        let index = interface(&socket, &args.dev, libc::SIOCGIFINDEX, |data| {
            // SAFETY: SIOCGIFINDEX sets this field of the union.
            unsafe { data.ifr_ifru.ifru_ifindex }
        })
        .map_err(explain)?;
        let mac = interface(&socket, &args.dev, libc::SIOCGIFHWADDR, |data| {
            // SAFETY: SIOCGIFHWADDR sets this field of the union.
            let addr = unsafe { data.ifr_ifru.ifru_hwaddr };
            let [octets @ .., _, _, _, _, _, _, _, _] = addr.sa_data;
            octets.map(|octet| octet as u8)
        })
        .map_err(explain)?;
        let src = interface(&socket, &args.dev, libc::SIOCGIFADDR, |data| {
            // SAFETY: SIOCGIFADDR sets this field of the union.
            let addr = unsafe { data.ifr_ifru.ifru_addr };
            let [_, _, octets @ .., _, _, _, _, _, _, _, _] = addr.sa_data;
            Ipv4Addr::from(octets.map(|octet| octet as u8))
        });
        let src = match src {
            Ok(src) => src,
            Err(err) if err.raw_os_error() == Some(libc::EADDRNOTAVAIL) => Ipv4Addr::UNSPECIFIED,
            Err(err) => return Err(explain(err)),
        };
        Ok(Self::Bypass {
            index,
            addresses: Addresses {
                src_mac: MacAddr(mac),
                dst_mac,
                src,
                dst: args.to,
                src_port: BYPASS_PORT,
            },
        })
    }

    /// Makes the socket and the packets of a sender.
    fn sender(&self, args: &FloodArgs, id: u16) -> Result<(OwnedFd, Batch)> {
        let size = usize::from(args.size);
        let batch = usize::from(args.batch);
        let made = match self {
            Self::Udp => (
                udp_socket(args)?,
                Batch::new(&payload(size, id), batch, set_number),
            ),
            Self::Bypass { index, addresses } => {
                let addresses = Addresses {
                    src_port: BYPASS_PORT + (id - args.sender),
                    ..*addresses
                };
                let frame = frame(&addresses, size, id);
                (
                    bypass_socket(args, *index)?,
                    Batch::new(&frame, batch, set_frame_number),
                )
            }
        };
        set_up(&made.0, args)?;
        Ok(made)
    }
}

fn socket(family: c_int, kind: c_int, dev: &str) -> Result<OwnedFd> {
    // SAFETY: The call takes numbers only.
    let fd = result(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, 0) })
        .map_err(|err| explain("make a socket for", dev, &err))?;
    // SAFETY: The descriptor is new, so it has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn udp_socket(args: &FloodArgs) -> Result<OwnedFd> {
    let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, &args.dev)?;
    let request = interface_request(&args.dev);
    set_option(
        &socket,
        libc::SOL_SOCKET,
        libc::SO_BINDTODEVICE,
        &request.ifr_name,
    )
    .map_err(|err| explain("bind to", &args.dev, &err))?;
    // No fragments: they would not be counted as numbered packets.
    set_option(
        &socket,
        libc::IPPROTO_IP,
        libc::IP_MTU_DISCOVER,
        &libc::IP_PMTUDISC_DO,
    )
    .context("cannot set IP_MTU_DISCOVER")?;
    set_option(&socket, libc::SOL_SOCKET, libc::SO_BROADCAST, &1i32)
        .context("cannot set SO_BROADCAST")?;
    let socket = UdpSocket::from(socket);
    socket
        .connect(SocketAddrV4::new(args.to, PORT))
        .map_err(|err| explain("send through", &args.dev, &err))?;
    Ok(socket.into())
}

fn bypass_socket(args: &FloodArgs, index: c_int) -> Result<OwnedFd> {
    // Protocol 0: nothing is received.
    let socket = socket(libc::AF_PACKET, libc::SOCK_RAW, &args.dev)?;
    set_option(&socket, libc::SOL_PACKET, PACKET_QDISC_BYPASS, &1i32)
        .context("cannot set PACKET_QDISC_BYPASS")?;
    // SAFETY: The structure is made of numbers, so all zero is fine.
    let mut addr: sockaddr_ll = unsafe { zeroed() };
    addr.sll_family = libc::AF_PACKET as u16;
    addr.sll_ifindex = index;
    let len = size_of_val(&addr) as socklen_t;
    // SAFETY: The pointer and the length are those of one address.
    let ret = unsafe { libc::bind(socket.as_raw_fd(), (&raw const addr).cast(), len) };
    result(ret).map_err(|err| explain("bind to", &args.dev, &err))?;
    Ok(socket)
}

fn set_up(socket: &OwnedFd, args: &FloodArgs) -> Result<()> {
    let timeout = libc::timeval {
        tv_sec: 0,
        tv_usec: i64::from(SEND_TIMEOUT.subsec_micros()),
    };
    set_option(socket, libc::SOL_SOCKET, libc::SO_SNDTIMEO, &timeout)
        .context("cannot set SO_SNDTIMEO")?;
    if let Some(bytes) = args.sndbuf {
        // Beyond net.core.wmem_max only root can.
        set_option(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &bytes)
            .or_else(|_| set_option(socket, libc::SOL_SOCKET, libc::SO_SNDBUF, &bytes))
            .context("cannot set SO_SNDBUF")?;
    }
    Ok(())
}

/// How a sender keeps to its rate.
struct Pace {
    start: Instant,
    /// Packets per second of this sender.
    rate: Option<f64>,
}

impl Pace {
    /// How many packets may go at once: about a millisecond's worth.
    fn batch(&self, batch: usize) -> usize {
        match self.rate {
            Some(rate) => batch.min((rate / 1000.0) as usize).max(1),
            None => batch,
        }
    }

    /// How long the packet of this number has to wait.
    fn wait(&self, number: u64, now: Instant) -> Duration {
        match self.rate {
            Some(rate) => {
                let due = self.start + Duration::from_secs_f64(number as f64 / rate);
                due.saturating_duration_since(now)
            }
            None => Duration::ZERO,
        }
    }
}

struct Sender<'a> {
    args: &'a FloodArgs,
    done: &'a AtomicBool,
    socket: OwnedFd,
    batch: Batch,
    pace: Pace,
    account: SentBy,
}

impl Sender<'_> {
    fn run(mut self) -> (SentBy, Result<()>) {
        sleep_exactly();
        let result = self.send_all();
        if result.is_err() {
            // The others need not go on.
            self.done.store(true, Ordering::Relaxed);
        }
        (self.account, result)
    }

    fn send_all(&mut self) -> Result<()> {
        let count = self.args.count.unwrap_or(u64::MAX);
        while self.account.sent < count && !self.done.load(Ordering::Relaxed) {
            if self.pace.rate.is_some() {
                let wait = self.pace.wait(self.account.sent, Instant::now());
                if !wait.is_zero() {
                    // In pieces, so that the end is noticed.
                    thread::sleep(wait.min(SEND_TIMEOUT));
                    continue;
                }
            }
            let left = usize::try_from(count - self.account.sent).unwrap_or(usize::MAX);
            let len = self.pace.batch(self.batch.packets.len()).min(left);
            match self.batch.send(&self.socket, self.account.sent, len) {
                Ok(sent) => self.account.sent += sent as u64,
                Err(err) if refused(&err) => {
                    // After a time-out or a signal the packet was not tried.
                    if !matches!(err.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)) {
                        self.account.refused += 1;
                        thread::sleep(REFUSED_DELAY);
                    }
                }
                Err(err) if self.args.keep_going && no_way(&err) => {
                    if lost_packet(&err) {
                        self.account.down += 1;
                    } else {
                        self.account.refused += 1;
                    }
                    thread::sleep(NO_WAY_DELAY);
                }
                Err(err) => return Err(explain("send through", &self.args.dev, &err)),
            }
        }
        Ok(())
    }
}

/// Runs `flood`.
pub fn flood(args: &FloodArgs) -> Result<()> {
    let stop = Stop::install()?;
    let way = Way::find(args)?;
    let sockets = (args.sender..=args.sender + (args.senders - 1))
        .map(|id| Ok((id, way.sender(args, id)?)))
        .collect::<Result<Vec<_>>>()?;

    let done = AtomicBool::new(false);
    let start = Instant::now();
    let deadline = args.duration.map(|duration| start + duration);
    let rate_each = args.rate.map(|rate| rate as f64 / f64::from(args.senders));
    let results: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = sockets
            .into_iter()
            .map(|(id, (socket, batch))| {
                let sender = Sender {
                    args,
                    done: &done,
                    socket,
                    batch,
                    pace: Pace {
                        start,
                        rate: rate_each,
                    },
                    account: SentBy {
                        id,
                        sent: 0,
                        refused: 0,
                        down: 0,
                    },
                };
                scope.spawn(|| sender.run())
            })
            .collect();
        // This thread ends the others, which are blocked for SEND_TIMEOUT at most.
        while threads.iter().any(|thread| !thread.is_finished()) {
            if stop.count() > 0 || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                done.store(true, Ordering::Relaxed);
            }
            thread::park_timeout(Duration::from_millis(10));
        }
        threads.into_iter().map(|thread| thread.join()).collect()
    });
    let seconds = start.elapsed().as_secs_f64();

    let mut senders = Vec::new();
    let mut outcome = Ok(());
    for result in results {
        let (account, result) = result.map_err(|_| anyhow!("a sender's thread failed"))?;
        senders.push(account);
        outcome = outcome.and(result);
    }
    let sent = senders.iter().map(|sender| sender.sent).sum();
    let result = Sent {
        sent,
        refused: senders.iter().map(|sender| sender.refused).sum(),
        down: senders.iter().map(|sender| sender.down).sum(),
        seconds,
        pps: rate(sent, seconds),
        senders,
    };
    println!("{result}");
    report::write_json(args.json.as_deref(), &result)?;
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paces_packets_by_rate() {
        let start = Instant::now();
        let at = |rate| Pace { start, rate };
        assert_eq!(at(None).batch(32), 32);
        assert_eq!(at(Some(100.0)).batch(32), 1);
        assert_eq!(at(Some(8000.0)).batch(32), 8);
        assert_eq!(at(Some(1e6)).batch(32), 32);
        assert_eq!(at(None).wait(1000, start), Duration::ZERO);
        assert_eq!(at(Some(100.0)).wait(0, start), Duration::ZERO);
        assert_eq!(at(Some(100.0)).wait(50, start), Duration::from_millis(500));
        let later = start + Duration::from_secs(1);
        assert_eq!(at(Some(100.0)).wait(50, later), Duration::ZERO);
    }

    #[test]
    fn sends_a_batch_with_its_numbers() {
        let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        receiver
            .set_read_timeout(Some(Duration::from_secs(300)))
            .unwrap();
        let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        sender.connect(receiver.local_addr().unwrap()).unwrap();
        let sender = OwnedFd::from(sender);
        let mut batch = Batch::new(&payload(64, 5), 8, set_number);
        assert_eq!(batch.send(&sender, 10, 3).unwrap(), 3);
        assert_eq!(batch.send(&sender, 13, 100).unwrap(), 8);
        let mut buffer = [0; 100];
        for number in 10..21u64 {
            assert_eq!(receiver.recv(&mut buffer).unwrap(), 64);
            assert_eq!(buffer[8..16], number.to_be_bytes());
            assert_eq!(buffer[16..18], [0, 5]);
        }
    }

    #[test]
    fn retries_after_enobufs_eagain_and_enetdown() {
        let err = io::Error::from_raw_os_error;
        assert!(refused(&err(libc::ENOBUFS)));
        assert!(refused(&err(libc::EAGAIN)));
        assert!(!refused(&err(libc::ENETDOWN)));
        assert!(!refused(&err(libc::EMSGSIZE)));
        assert!(no_way(&err(libc::ENETDOWN)));
        assert!(!no_way(&err(libc::EPERM)));
    }
}
