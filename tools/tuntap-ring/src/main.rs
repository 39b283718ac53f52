// SPDX-License-Identifier: GPL-2.0

//! Switches backpressure on and off for the tun and tap devices of a host, and shows what they do.

mod modules;
mod placeholders;
mod run;
mod status;
mod switch;
mod watch;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
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
    /// Give devices backpressure, under running virtual machines
    #[command(
        after_help = "Later devices get it, too, as long as their names match. Without PATTERN those of \
                            /etc/tuntap-ring.conf are taken, one a line; without that file all devices, '*'.\n\n\
                            vhost_net is live-patched, where the kernel can do that, and stays loaded until \
                            'tuntap-ring off'. Otherwise a rebuilt one is loaded, for which no virtual machine may \
                            be using vhost_net.\n\n\
                            Warning: with backpressure a guest that does not read blocks its senders, and one that \
                            also sends can stop all ping replies and TCP resets of its host. A small limit of the \
                            qdisc prevents that: tc qdisc replace dev tap0 root pfifo limit 50"
    )]
    On {
        /// Shell patterns of device names, such as 'vnet*'
        #[arg(value_name = "PATTERN")]
        patterns: Vec<String>,
    },
    /// Undo that, under running virtual machines
    Off,
    /// Show who takes the packets, and each device of every network namespace
    #[command(
        after_help = "FLAG is who has set IFF_BACKPRESSURE: policy (a pattern of ours matches), opener (the \
                            program itself) or none. STOPPED is for how long a queue that is stopped has not sent. \
                            The first DROPS are those at a full ring, the second those of the qdisc."
    )]
    Status {
        /// Write JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Show live what tuntap_ring counts
    Watch(watch::WatchArgs),
    /// Run a command, such as QEMU, with the descriptors of a tap that has IFF_BACKPRESSURE
    Run(run::RunArgs),
    /// Write man pages to a folder
    #[command(hide = true)]
    Man { folder: PathBuf },
}

fn execute(command: Command) -> Result<()> {
    match command {
        Command::On { patterns } => {
            let patterns = if patterns.is_empty() {
                let configured = switch::configured(Path::new(CONFIGURATION))?;
                configured.unwrap_or_else(|| vec!["*".to_owned()])
            } else {
                patterns
            };
            switch::on(&patterns)
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
        Command::Run(_) => unreachable!("it has an exit status of its own"),
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
}
