// SPDX-License-Identifier: GPL-2.0

//! Switches backpressure on and off for the tun and tap devices of a host, and shows what they do.

mod modules;
mod placeholders;
mod qdisc;
mod run;
mod status;
mod switch;
mod watch;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::{CommandFactory, Parser, Subcommand};

use status::Status;
use tuntap_device::VERSION;

/// The patterns of `on` without arguments.
const CONFIGURATION: &str = "/etc/tuntap-ring.conf";

/// Backpressure for tun and tap devices: packets wait in the qdisc instead of being dropped at a full ring.
#[derive(Debug, Parser)]
#[command(version = VERSION, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Give devices backpressure, while virtual machines run
    #[command(
        after_help = "Devices that are created later get it as well, while their names match. Without PATTERN, \
                            tuntap-ring reads /etc/tuntap-ring.conf, one pattern per line; the default is all \
                            devices, '*'.\n\n\
                            tuntap-ring live-patches the in-kernel vhost_net, which stays loaded until \
                            'tuntap-ring off'. On a kernel without live patching it loads a rebuilt vhost_net, \
                            which requires that no virtual machine runs.\n\n\
                            Devices with the qdisc noqueue, in which no packet can wait, get the default qdisc, \
                            until 'tuntap-ring off'. libvirt gives its taps noqueue.\n\n\
                            A guest that does not read blocks its senders for half a second (the parameter \
                            stall_timeout= of tuntap_ring); then its device drops packets until the guest reads. \
                            This does not apply to devices whose program set IFF_BACKPRESSURE itself."
    )]
    On {
        /// Shell patterns of device names, such as 'vnet*'
        #[arg(value_name = "PATTERN")]
        patterns: Vec<String>,
        /// Do not return, and give each later device with noqueue a qdisc, such as those of libvirt
        #[arg(long)]
        follow: bool,
    },
    /// Remove backpressure again, while virtual machines run
    Off,
    /// Show the consumer, and each device of every network namespace
    #[command(
        after_help = "FLAG is the origin of IFF_BACKPRESSURE: policy (the name matches a pattern of 'tuntap-ring \
                            on'), opener (the program itself), released (cleared, as the consumer does not read) or \
                            none. STOPPED is the time since a stopped queue has sent a packet. SLOTS is the length of \
                            the shortest ring. The first DROPS column counts drops at the device, the second drops in \
                            the qdisc. NOTE is the reason why backpressure has no effect."
    )]
    Status {
        /// Write JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Show the counters of tuntap_ring live
    Watch(watch::WatchArgs),
    /// Run a command, such as QEMU, with the descriptors of a tap that has IFF_BACKPRESSURE
    Run(run::RunArgs),
    /// Write man pages to a folder
    #[command(hide = true)]
    Man { folder: PathBuf },
    /// Write the completion of a shell to standard output
    #[command(hide = true)]
    Completion { shell: clap_complete::Shell },
}

fn execute(command: Command) -> Result<()> {
    match command {
        Command::On { patterns, follow } => {
            let patterns = if patterns.is_empty() {
                let configured = switch::configured(Path::new(CONFIGURATION))?;
                let patterns = configured.unwrap_or_else(|| vec!["*".to_owned()]);
                ensure!(
                    !patterns.is_empty(),
                    "{CONFIGURATION} has no pattern (fix: add one such as *, or give one to 'tuntap-ring on')"
                );
                patterns
            } else {
                patterns
            };
            switch::on(&patterns)?;
            if follow { qdisc::follow() } else { Ok(()) }
        }
        Command::Off => switch::off(),
        Command::Status { json } => {
            let status = Status::read()?;
            if json {
                println!("{}", serde_json::to_string_pretty(&status)?);
            } else {
                print!("{}", status.table());
            }
            Ok(())
        }
        Command::Watch(args) => watch::watch(&args),
        Command::Run(_) => unreachable!("it has its own exit status"),
        Command::Completion { shell } => {
            let mut cli = Cli::command();
            clap_complete::generate(shell, &mut cli, "tuntap-ring", &mut io::stdout());
            Ok(())
        }
        Command::Man { folder } => clap_mangen::generate_to(Cli::command(), &folder)
            .with_context(|| format!("cannot write man pages to {}", folder.display())),
    }
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    if let Command::Run(args) = &command {
        return run::run(args);
    }
    match execute(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("tuntap-ring: {err:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_defined_consistently() {
        Cli::command().debug_assert();
    }

    #[test]
    fn completions_have_each_command() {
        for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh] {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "tuntap-ring", &mut text);
            let text = String::from_utf8(text).unwrap();
            for command in ["on", "off", "status", "watch", "run"] {
                assert!(text.contains(command), "{shell}: no {command}");
            }
        }
    }
}
