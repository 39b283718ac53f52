// SPDX-License-Identifier: GPL-2.0

//! The command line.

use std::net::Ipv4Addr;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{ArgGroup, Args, CommandFactory, Parser, Subcommand};
use tuntap_device::{MAX_QUEUES, VERSION, interface_name};

use crate::packet::{MAX_PAYLOAD, MIN_PAYLOAD, MacAddr};
use crate::sequence::MAX_SENDERS;
use crate::virtqueue::MAX_SIZE;

/// Vhost test driver: drives tun/tap devices through vhost-net like a virtual machine, and sends
/// numbered packets to check that none is lost, doubled or out of order.
#[derive(Debug, Parser)]
#[command(version = VERSION, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// The subcommand.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Checks combinations of arguments.
    pub fn check(self) -> Result<Self, clap::Error> {
        let text = match &self.command {
            Command::Flood(FloodArgs {
                sender, senders, ..
            }) if sender.checked_add(senders - 1).is_none() => {
                format!("the ids of {senders} senders from {sender} are beyond 65535")
            }
            Command::Forward(ForwardArgs { tap, .. }) if tap.len() != 2 || tap[0] == tap[1] => {
                "two taps are needed to forward between".into()
            }
            _ => return Ok(self),
        };
        Err(Self::command().error(ErrorKind::ValueValidation, text))
    }
}

/// The subcommand.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Receive from a tap through vhost-net like a guest, and check the numbers
    Receive(ReceiveArgs),
    /// Forward packets between two taps like a guest
    Forward(ForwardArgs),
    /// Send numbered UDP packets, by default through the qdisc
    Flood(FloodArgs),
    /// Receive numbered UDP packets from a socket, check the numbers, and answer
    Listen(ListenArgs),
    /// Write the man pages, of this command and of each above
    #[command(hide = true)]
    Man {
        /// Folder to write them to
        folder: PathBuf,
    },
}

/// The arguments of `receive`.
#[derive(Args, Debug)]
#[command(
    group(ArgGroup::new("source").required(true)),
    after_help = "SIGTERM or SIGINT ends the run: queued frames are received at full speed until none \
                  comes for --idle; then vhost is detached, and the remaining frames in the ring are \
                  read from the tap and counted as 'leftover'. Another signal ends either at once. \
                  --stop-after and --duration stop at once, without a drain.\n\n\
                  With --control each line of standard input is a command, with a reply of one line on \
                  standard output: `ok`, `ok DATA` or `error TEXT`; the result is printed to standard \
                  error. The commands: `pause` and `resume` reception; `delay MICROSECONDS`, like \
                  --delay; `detach Q` and `attach Q`, a queue of the device; `backend Q off` and \
                  `backend Q on`, remove or set vhost's backend of a queue; `swap A B`, exchange the \
                  files of two queues' vhost devices; `read Q N`, read up to N frames from a queue \
                  without a backend, and reply with their number; `reopen`, close all files and open \
                  them again; `status`, reply with the result so far, as JSON; `quit`, like a signal.\n\n\
                  Exit status: 0 when the run is complete (with any result), 1 on an error, 2 on wrong \
                  usage."
)]
pub struct ReceiveArgs {
    /// Tap device to attach to; created if it does not exist
    #[arg(long, value_name = "NAME", group = "source", value_parser = interface_name)]
    pub tap: Option<String>,

    /// Character device to open instead, such as the /dev/tapN of a macvtap
    #[arg(long, value_name = "PATH", group = "source")]
    pub device: Option<PathBuf>,

    /// Tap file descriptor that is already open and set up; give it once per queue
    #[arg(long, value_name = "N", group = "source", value_parser = clap::value_parser!(i32).range(0..))]
    pub fd: Vec<RawFd>,

    /// Set IFF_BACKPRESSURE: a full ring stops the queue instead of dropping
    #[arg(long, conflicts_with = "fd")]
    pub backpressure: bool,

    /// Queues of the device, each with its own vhost device
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "fd",
          value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_QUEUES)))]
    pub queues: u16,

    /// How the virtqueues are served
    #[command(flatten)]
    pub driver: DriverArgs,

    /// Stop after at least that many frames
    #[arg(long, value_name = "FRAMES", value_parser = clap::value_parser!(u64).range(1..))]
    pub stop_after: Option<u64>,

    /// Stop after that time
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub duration: Option<Duration>,

    /// Idle time after which the drain ends
    #[arg(long, value_name = "MILLISECONDS", default_value = "300", value_parser = milliseconds)]
    pub idle: Duration,

    /// Do not drain on a signal: stop at once
    #[arg(long)]
    pub no_drain: bool,

    /// Answer ICMP echo requests
    #[arg(long)]
    pub answer_pings: bool,

    /// Read commands from standard input, and reply on standard output
    #[arg(long)]
    pub control: bool,

    /// Create this file when everything is set up and the buffers are posted
    #[arg(long, value_name = "FILE")]
    pub ready: Option<PathBuf>,

    /// Write the result to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Print the rate every second, even if standard error is not a terminal
    #[arg(short, long)]
    pub verbose: bool,
}

/// Options of the virtqueues.
#[derive(Args, Debug)]
pub struct DriverArgs {
    /// The vhost-net device
    #[arg(long, value_name = "PATH", default_value = "/dev/vhost-net")]
    pub vhost: PathBuf,

    /// Virtqueue entries: a power of two up to 1024
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = ring_size)]
    pub ring_size: u16,

    /// Time that vhost polls an empty queue before it sleeps
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 0)]
    pub busy_poll: u32,

    /// Frames to move per queue and round
    #[arg(long, value_name = "N", default_value_t = 64,
          value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_SIZE)))]
    pub batch: u16,

    /// Time to sleep after each round that moved frames
    #[arg(long, value_name = "MICROSECONDS", default_value = "0", value_parser = microseconds)]
    pub delay: Duration,
}

/// The arguments of `forward`.
#[derive(Args, Debug)]
#[command(
    after_help = "No frame is dropped: while one tap is slow, the frames for it stay in the ring of the \
                  other. Without --offloads frames of more than 2036 bytes are an error.\n\n\
                  SIGTERM or SIGINT ends the run once no frame has moved for --idle; another signal ends \
                  it at once.\n\n\
                  Exit status: 0 when the run is complete, 1 on an error, 2 on wrong usage."
)]
pub struct ForwardArgs {
    /// Tap device, to be given twice; created if it does not exist
    #[arg(long, value_name = "NAME", required = true, value_parser = interface_name)]
    pub tap: Vec<String>,

    /// Set IFF_BACKPRESSURE on both: a full ring stops the queue instead of dropping
    #[arg(long)]
    pub backpressure: bool,

    /// How the virtqueues are served
    #[command(flatten)]
    pub driver: DriverArgs,

    /// Accept packets of up to 64 kB, and without checksums, from the network stack
    #[arg(long)]
    pub offloads: bool,

    /// Poll for frames instead of sleeping
    #[arg(long)]
    pub poll: bool,

    /// Idle time after which the run ends
    #[arg(long, value_name = "MILLISECONDS", default_value = "100", value_parser = milliseconds)]
    pub idle: Duration,

    /// Create this file when both taps are attached
    #[arg(long, value_name = "FILE")]
    pub ready: Option<PathBuf>,

    /// Write the result to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// The arguments of `flood`.
#[derive(Args, Debug)]
#[command(
    group(ArgGroup::new("end").required(true).multiple(true)),
    after_help = "A packet counts as 'sent' when the kernel accepted it. A send that fails for lack of \
                  room counts as 'refused' and is repeated with the same number, so the sender leaves no \
                  gaps. IP_RECVERR is off: a packet that the qdisc drops was accepted, too, so sent = \
                  received + left over + dropped by the device + dropped by the qdisc. With --bypass the \
                  device's drops are reported to the sender, so they are refused and sent again: sent = \
                  received + left over.\n\n\
                  With --keep-going a send that fails with ENETDOWN or EINVAL counts as `down`, not as \
                  `refused`: its packet existed, and was dropped as the link went down. Other sends fail \
                  earlier. (The kernel reports each error only with --batch 1.)\n\n\
                  SIGTERM or SIGINT stops sending; the result is still printed.\n\n\
                  Exit status: 0 when the run is complete, 1 on an error, 2 on wrong usage."
)]
pub struct FloodArgs {
    /// Address to send to; no host needs to have it
    #[arg(long, value_name = "ADDR")]
    pub to: Ipv4Addr,

    /// Interface to send through
    #[arg(long, value_name = "IFNAME", value_parser = interface_name)]
    pub dev: String,

    /// Packets to send, per sender
    #[arg(long, value_name = "N", group = "end", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// Stop after that time
    #[arg(long, value_name = "SECONDS", group = "end", value_parser = seconds)]
    pub duration: Option<Duration>,

    /// Bytes of UDP payload per packet
    #[arg(long, value_name = "BYTES", default_value_t = 64,
          value_parser = clap::value_parser!(u16).range(MIN_PAYLOAD as i64..=MAX_PAYLOAD as i64))]
    pub size: u16,

    /// Packets per second, of all senders together (default: full speed)
    #[arg(long, value_name = "PPS", value_parser = clap::value_parser!(u64).range(1..))]
    pub rate: Option<u64>,

    /// Id of the first sender
    #[arg(long, value_name = "ID", default_value_t = 0)]
    pub sender: u16,

    /// Senders, each with its own thread, socket and id
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(1..=MAX_SENDERS as i64))]
    pub senders: u16,

    /// Packets per system call
    #[arg(long, value_name = "N", default_value_t = 32,
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub batch: u16,

    /// Size of each socket's send buffer
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(i32).range(1..=0x3fff_ffff))]
    pub sndbuf: Option<i32>,

    /// Send around the qdisc, with packet sockets and PACKET_QDISC_BYPASS
    #[arg(long, requires = "dst_mac")]
    pub bypass: bool,

    /// Also repeat sends that fail because the link is down, or the route or the device is gone
    #[arg(long, conflicts_with = "bypass")]
    pub keep_going: bool,

    /// Destination MAC address for --bypass
    #[arg(long, value_name = "MAC", requires = "bypass")]
    pub dst_mac: Option<MacAddr>,

    /// Write the result to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// The arguments of `listen`.
#[derive(Args, Debug)]
#[command(
    after_help = "`listen` receives packets to the port of numbered packets (9, discard) on any \
                  interface: in a virtual machine the packets of `flood`, on the host the answers. An \
                  answer is the packet itself, sent to the same port at its sender's address.\n\n\
                  SIGTERM or SIGINT ends the run once no packet has come for --idle; another signal ends \
                  it at once.\n\n\
                  Exit status: 0 when the run is complete (with any result), 1 on an error, 2 on wrong \
                  usage."
)]
pub struct ListenArgs {
    /// Send each packet back
    #[arg(long)]
    pub answer: bool,

    /// Idle time after which the run ends
    #[arg(long, value_name = "MILLISECONDS", default_value = "300", value_parser = milliseconds)]
    pub idle: Duration,

    /// Create this file when ready to receive
    #[arg(long, value_name = "FILE")]
    pub ready: Option<PathBuf>,

    /// Write the result to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

fn ring_size(text: &str) -> Result<u16, String> {
    text.parse()
        .ok()
        .filter(|size: &u16| size.is_power_of_two() && *size <= MAX_SIZE)
        .ok_or_else(|| format!("must be a power of two up to {MAX_SIZE}"))
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .filter(|seconds| *seconds > 0.0 && *seconds <= 1e6)
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "must be a number of seconds above 0, up to 1000000".into())
}

fn milliseconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .filter(|milliseconds| *milliseconds <= 60_000)
        .map(Duration::from_millis)
        .ok_or_else(|| "must be a whole number up to 60000".into())
}

/// Reads a time that is given in microseconds.
pub fn microseconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .filter(|microseconds| *microseconds <= 1_000_000)
        .map(Duration::from_micros)
        .ok_or_else(|| "must be a whole number up to 1000000".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(args: &str) -> Result<ReceiveArgs, clap::Error> {
        let args = ["tuntap-client", "receive"]
            .into_iter()
            .chain(args.split_whitespace());
        match Cli::try_parse_from(args)?.check()?.command {
            Command::Receive(args) => Ok(args),
            _ => unreachable!(),
        }
    }

    fn flood(args: &str) -> Result<FloodArgs, clap::Error> {
        let args = [
            "tuntap-client",
            "flood",
            "--to",
            "10.0.0.2",
            "--dev",
            "tap0",
        ]
        .into_iter()
        .chain(args.split_whitespace());
        match Cli::try_parse_from(args)?.check()?.command {
            Command::Flood(args) => Ok(args),
            _ => unreachable!(),
        }
    }

    #[test]
    fn client_options_are_defined_consistently() {
        Cli::command().debug_assert();
    }

    #[test]
    fn receive_rejects_other_than_one_source() {
        assert!(receive("").is_err());
        assert!(receive("--tap tap0").is_ok());
        assert!(receive("--device /dev/tap5").is_ok());
        assert!(receive("--tap tap0 --device /dev/tap5").is_err());
        assert!(receive("--tap tap0 --fd 3").is_err());
        assert_eq!(receive("--fd 3 --fd 4").unwrap().fd, [3, 4]);
        assert!(receive("--fd -1").is_err());
        assert!(receive("--fd 3 --backpressure").is_err());
        assert!(receive("--fd 3 --queues 2").is_err());
    }

    #[test]
    fn receive_rejects_values_out_of_range() {
        for (good, bad) in [
            ("--ring-size 1024", "--ring-size 2048"),
            ("--ring-size 1", "--ring-size 0"),
            ("--ring-size 64", "--ring-size 65"),
            ("--queues 256", "--queues 257"),
            ("--queues 1", "--queues 0"),
            ("--batch 1024", "--batch 1025"),
            ("--batch 1", "--batch 0"),
            ("--delay 1000000", "--delay 1000001"),
            ("--delay 0", "--delay -1"),
            ("--idle 60000", "--idle 60001"),
            ("--duration 0.5", "--duration 0"),
            ("--duration 1e6", "--duration inf"),
            ("--stop-after 1", "--stop-after 0"),
        ] {
            assert!(
                receive(&format!("--tap tap0 {good}")).is_ok(),
                "expected: no error for {good:?}"
            );
            assert!(
                receive(&format!("--tap tap0 {bad}")).is_err(),
                "expected: an error for {bad:?}, seen: none"
            );
        }
        assert!(receive("--tap fifteen-letters").is_ok());
        assert!(receive("--tap sixteen--letters").is_err());
        assert!(receive("--tap a/b").is_err());
    }

    #[test]
    fn flood_rejects_values_out_of_range() {
        assert!(flood("").is_err(), "expected: an error without an end");
        assert!(flood("--count 1 --duration 2").is_ok());
        for (good, bad) in [
            ("--size 18", "--size 17"),
            ("--size 65507", "--size 65508"),
            ("--senders 64", "--senders 65"),
            ("--senders 1", "--senders 0"),
            ("--batch 1024", "--batch 1025"),
            ("--rate 1", "--rate 0"),
            ("--sender 65535", "--sender 65536"),
            ("--sender 65534 --senders 2", "--sender 65535 --senders 2"),
            ("--sndbuf 4096", "--sndbuf 0"),
            ("--bypass --dst-mac 02:00:00:00:00:02", "--bypass"),
            (
                "--keep-going",
                "--keep-going --bypass --dst-mac 02:00:00:00:00:02",
            ),
            ("", "--dst-mac 02:00:00:00:00:02"),
        ] {
            assert!(
                flood(&format!("--count 1 {good}")).is_ok(),
                "expected: no error for {good:?}"
            );
            assert!(
                flood(&format!("--count 1 {bad}")).is_err(),
                "expected: an error for {bad:?}, seen: none"
            );
        }
        assert!(flood("--count 0").is_err());
    }

    #[test]
    fn forward_rejects_other_than_two_taps() {
        let forward = |args: &str| {
            let args = ["tuntap-client", "forward"]
                .into_iter()
                .chain(args.split_whitespace());
            Cli::try_parse_from(args)?.check().map(drop)
        };
        assert!(forward("--tap tap0 --tap tap1").is_ok());
        for bad in [
            "",
            "--tap tap0",
            "--tap tap0 --tap tap0",
            "--tap tap0 --tap tap1 --tap tap2",
        ] {
            assert!(
                forward(bad).is_err(),
                "expected: an error for {bad:?}, seen: none"
            );
        }
    }

    #[test]
    fn invalid_arguments_exit_with_status_2() {
        assert_eq!(receive("").unwrap_err().exit_code(), 2);
    }
}
