// SPDX-License-Identifier: GPL-2.0

//! `run`: starts a command, such as QEMU, with the descriptors of a tap that has IFF_BACKPRESSURE.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{self, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::Args;
use tuntap_device::{MAX_QUEUES, Queues, Source, interface_name, result};

use crate::placeholders;

/// Exit status if something fails before the command runs, as of env(1) and the like.
const FAILED: u8 = 125;
/// If the command cannot be run.
const CANNOT_RUN: u8 = 126;
/// If the command does not exist.
const NOT_FOUND: u8 = 127;

/// The arguments of `run`.
#[derive(Args, Debug)]
#[command(
    override_usage = "tuntap-ring run [OPTIONS] <--tap <NAME>|--device <PATH>> -- <COMMAND>...",
    after_help = "In the arguments of COMMAND these stand for descriptors, which it inherits:\n\n  \
                  %fd        the tap's queue       %fds       all its queues, as 3:5:7\n  \
                  %vhostfd   its vhost-net device  %vhostfds  one for each queue, as 4:6:8\n  \
                  %%         a percent sign\n\n\
                  /dev/vhost-net is opened only for these placeholders.\n\n\
                  A tap that does not exist is created, and removed when the command ends. To use it in \
                  a bridge, or as a user other than root, create it first:\n\n  \
                  ip tuntap add dev tap0 mode tap user alice\n  \
                  ip link set tap0 master br0 up\n\n\
                  Warning: with IFF_BACKPRESSURE a guest that does not read blocks its senders, and one \
                  that also sends can stop all ping replies and TCP resets of its host. A small limit of \
                  the queue prevents that:\n\n  \
                  tc qdisc replace dev tap0 root pfifo limit 50\n\n\
                  To release blocked senders, set the link down or end the VM.\n\n\
                  Examples:\n\n  \
                  tuntap-ring run --tap tap0 -- qemu-system-x86_64 ... \\\n    \
                  -netdev tap,id=net0,fd=%fd,vhost=on,vhostfd=%vhostfd \\\n    \
                  -device virtio-net-pci,netdev=net0\n\n  \
                  tuntap-ring run --tap tap0 --queues 4 -- qemu-system-x86_64 ... \\\n    \
                  -netdev tap,id=net0,fds=%fds,vhost=on,vhostfds=%vhostfds \\\n    \
                  -device virtio-net-pci,netdev=net0,mq=on,vectors=10\n\n\
                  Exit status: that of the command; 125 on an error before it, 126 if it cannot be \
                  run, 127 if it does not exist, 2 on wrong usage."
)]
pub struct RunArgs {
    /// Tap device to attach to; created if it does not exist
    #[arg(long, value_name = "NAME", value_parser = interface_name,
          required_unless_present = "device")]
    tap: Option<String>,

    /// Character device of a macvtap or ipvtap instead, such as /dev/tap7; these do not support
    /// IFF_BACKPRESSURE
    #[arg(long, value_name = "PATH", conflicts_with = "tap")]
    device: Option<PathBuf>,

    /// Queues to open
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_QUEUES)))]
    queues: u16,

    /// The vhost-net device
    #[arg(long, value_name = "PATH", default_value = "/dev/vhost-net")]
    vhost: PathBuf,

    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// The files that the command inherits, and the command with their descriptors.
struct Prepared {
    /// Open while this lives, and after exec.
    _files: Vec<File>,
    command: Vec<OsString>,
}

fn prepare(cli: &RunArgs) -> Result<Prepared> {
    let (wants_tap, wants_vhost) = placeholders::wants(&cli.command);
    ensure!(
        wants_tap,
        "the command has no placeholder for the tap (fix: write fd=%fd or fds=%fds in it)"
    );
    let (source, backpressure) = match (&cli.tap, &cli.device) {
        (Some(name), _) => (Source::Name(name), true),
        (None, Some(path)) => (Source::Device(path), false),
        (None, None) => unreachable!("one of them is required"),
    };
    let taps = Queues::open(source, cli.queues, backpressure)?.files;
    let vhosts: Vec<_> = taps
        .iter()
        .filter(|_| wants_vhost)
        .map(|_| tuntap_device::open(&cli.vhost, "modprobe vhost_net"))
        .collect::<Result<_>>()?;

    let [tap_fds, vhost_fds] = [&taps, &vhosts].map(|files| {
        let descriptors = files.iter().map(AsRawFd::as_raw_fd);
        descriptors.collect::<Vec<_>>()
    });
    let command = cli
        .command
        .iter()
        .map(|argument| placeholders::fill(argument, &tap_fds, &vhost_fds))
        .collect::<Result<_>>()?;
    for fd in tap_fds.into_iter().chain(vhost_fds) {
        inherit(fd)?;
    }
    Ok(Prepared {
        _files: taps.into_iter().chain(vhosts).collect(),
        command,
    })
}

/// Lets a descriptor of this program stay open in the command, which closes the others. Descriptors that this
/// program has inherited are passed on to the command.
fn inherit(fd: RawFd) -> Result<()> {
    // SAFETY: The call takes no pointers.
    result(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) })
        .with_context(|| format!("cannot pass file descriptor {fd} on"))?;
    Ok(())
}

/// Prints an error before the command runs.
fn failed(err: &anyhow::Error) -> ExitCode {
    eprintln!("tuntap-ring: {err:#}");
    ExitCode::from(FAILED)
}

/// Becomes the command; returns only if that fails.
pub fn run(cli: &RunArgs) -> ExitCode {
    let prepared = match prepare(cli) {
        Ok(prepared) => prepared,
        Err(err) => return failed(&err),
    };
    let program = &prepared.command[0];
    // Returns only if it fails.
    let err = process::Command::new(program)
        .args(&prepared.command[1..])
        .exec();
    let (status, fix) = match err.kind() {
        io::ErrorKind::NotFound => (NOT_FOUND, "install it, or give its path"),
        io::ErrorKind::PermissionDenied => (CANNOT_RUN, "name a program"),
        _ => (CANNOT_RUN, "run it by hand to see the reason"),
    };
    eprintln!(
        "tuntap-ring: cannot run {}: {err} (fix: {fix})",
        program.to_string_lossy()
    );
    ExitCode::from(status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: RunArgs,
    }

    fn parse(args: &str) -> Result<RunArgs, clap::Error> {
        Cli::try_parse_from(["run"].into_iter().chain(args.split_whitespace())).map(|cli| cli.args)
    }

    #[test]
    fn rejects_other_than_one_source_and_a_command() {
        assert!(parse("--tap tap0 -- qemu %fd").is_ok());
        assert!(parse("--device /dev/tap7 -- qemu %fd").is_ok());
        for bad in [
            "-- qemu %fd",
            "--tap tap0",
            "--tap tap0 --",
            "--tap tap0 qemu %fd",
            "--tap tap0 --device /dev/tap7 -- qemu %fd",
            "--tap a/b -- qemu %fd",
            "--tap tap0 --queues 0 -- qemu %fd",
            "--tap tap0 --queues 257 -- qemu %fd",
        ] {
            assert!(
                parse(bad).is_err(),
                "expected: an error for {bad:?}, seen: none"
            );
        }
    }

    #[test]
    fn passes_options_after_dashes_to_the_command() {
        let cli = parse("--tap tap0 -- qemu --tap tap1 --help %fd").unwrap();
        assert_eq!(cli.tap.as_deref(), Some("tap0"));
        assert_eq!(cli.command, ["qemu", "--tap", "tap1", "--help", "%fd"]);
    }

    /// Nothing is opened for a command that would not use it.
    #[test]
    fn rejects_a_command_that_takes_no_tap() {
        let cli = parse("--tap tap0 -- qemu %%fd %vhostfd").unwrap();
        let err = prepare(&cli).err().unwrap().to_string();
        assert!(err.contains("fix: write fd=%fd"), "seen: {err}");
    }
}
