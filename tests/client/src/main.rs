// SPDX-License-Identifier: GPL-2.0

//! Vhost test driver: receives from tun/tap through vhost-net and checks numbered packets, or
//! forwards between two taps; and sends such packets.

mod cli;
mod control;
mod flood;
mod forward;
mod listen;
mod memory;
mod packet;
mod receive;
mod report;
mod sequence;
mod sys;
mod tap;
mod vhost_net;
mod virtqueue;

use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, Parser};

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let result = match &Cli::parse()
        .check()
        .unwrap_or_else(|err| err.exit())
        .command
    {
        Command::Receive(args) => receive::receive(args),
        Command::Forward(args) => forward::forward(args),
        Command::Flood(args) => flood::flood(args),
        Command::Listen(args) => listen::listen(args),
        Command::Man { folder } => clap_mangen::generate_to(Cli::command(), folder)
            .with_context(|| format!("cannot write man pages to {}", folder.display())),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("tuntap-client: {err:#}");
            ExitCode::FAILURE
        }
    }
}
