// SPDX-License-Identifier: GPL-2.0

//! `on` and `off`: backpressure for the devices of a host, while its virtual machines run.

use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::modules;
use crate::qdisc;
use crate::status::{self, Status};

pub const MODULE: &str = "tuntap_ring";
/// The live patch of the in-kernel `vhost_net`, and its state.
pub const LIVEPATCH: &str = "tuntap_ring_livepatch";
const LIVEPATCH_STATE: &str = "/sys/kernel/livepatch/tuntap_ring_livepatch";
/// The replacement of the in-kernel `vhost_net` on kernels without live patching.
pub const REBUILT: &str = "tuntap_ring_vhost_net";
const IN_KERNEL: &str = "vhost_net";
pub const PATTERNS: &str = "/sys/module/tuntap_ring/parameters/backpressure";

/// After this time, the tasks that hold up a transition are printed.
const PATIENCE: Duration = Duration::from_secs(3);

/// Reads the patterns of a configuration: one per line, without comments.
pub fn configured(path: &Path) -> Result<Option<Vec<String>>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(parse(&text))),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(err) => Err(err).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn parse(text: &str) -> Vec<String> {
    text.lines()
        .map(|line| line.split('#').next().unwrap_or("").trim())
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Gives devices that match backpressure, and makes vhost-net consume their rings with `tuntap_ring`.
pub fn on(patterns: &[String]) -> Result<()> {
    let was_loaded = modules::is_loaded(MODULE);
    ensure!(
        was_loaded || modules::is_installed(MODULE),
        "{MODULE} is not installed for the running kernel (fix: install tuntap-ring-modules-$(uname -r), or \
         tuntap-ring-dkms)"
    );
    modules::load(MODULE)?;
    let switched = consume().and_then(|consumer| {
        write_patterns(&patterns.join(","))?;
        Ok(consumer)
    });
    let consumer = switched.inspect_err(|_| {
        // Leaves the host as it was.
        if !was_loaded {
            let _ = undo();
        }
    })?;
    // Missing debugfs or iproute2 only limits the output.
    let devices = status::devices().map_or_else(
        |err| format!("{err:#}"),
        |devices| {
            let flagged = devices.iter().filter(|device| device.flag != "none");
            format!(
                "{} of {} tun and tap devices have backpressure",
                flagged.count(),
                devices.len()
            )
        },
    );
    println!("on: {}; {devices}; {consumer}", patterns.join(" "));
    qdisc::adjust_and_print();
    if let Ok(status) = Status::read() {
        for line in status.without_effect() {
            println!("{line}");
        }
    }
    Ok(())
}

/// Undoes [`on`].
pub fn off() -> Result<()> {
    if !modules::is_loaded(MODULE) {
        println!("already off");
        return Ok(());
    }
    undo()?;
    println!("off: devices drop packets again when their rings are full");
    Ok(())
}

fn undo() -> Result<()> {
    write_patterns("")?;
    qdisc::adjust_and_print();
    if modules::is_loaded(LIVEPATCH) {
        remove_patch()?;
    }
    if modules::is_loaded(REBUILT) {
        ensure_unused(REBUILT)?;
        modules::remove(REBUILT)?;
        modules::load(IN_KERNEL)?;
    }
    modules::remove(MODULE).context("tuntap_ring stays loaded, without effect")
}

/// Disables and removes the live patch, which may be disabled already.
fn remove_patch() -> Result<()> {
    if state("enabled") == Some(1) {
        fs::write(Path::new(LIVEPATCH_STATE).join("enabled"), "0")
            .context("cannot disable the live patch")?;
    }
    wait_for_transition();
    // The kernel gives up the module a moment after the transition.
    let end = Instant::now() + PATIENCE;
    while let Err(err) = modules::remove(LIVEPATCH) {
        ensure!(Instant::now() < end, err);
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn write_patterns(list: &str) -> Result<()> {
    fs::write(PATTERNS, format!("{list}\n")).map_err(|err| match err.kind() {
        io::ErrorKind::InvalidInput => anyhow::anyhow!(
            "'{list}' has a pattern that no device's name can match (fix: use shell patterns such as vnet*)"
        ),
        io::ErrorKind::PermissionDenied => anyhow::anyhow!("cannot write {PATTERNS}: {err} (fix: run as root)"),
        _ => anyhow::anyhow!("cannot write {PATTERNS}: {err}"),
    })
}

/// Makes vhost-net call `tuntap_ring`, and returns a description of the consumer.
fn consume() -> Result<&'static str> {
    if modules::is_loaded(LIVEPATCH) && state("enabled") != Some(1) {
        // Disabled by hand, by an interrupted `off`, or by a live patch that replaces all others.
        remove_patch()?;
    }
    if modules::is_loaded(LIVEPATCH) || modules::is_installed(LIVEPATCH) {
        modules::load(LIVEPATCH)?;
        wait_for_transition();
        return Ok("vhost_net is live-patched");
    }
    if !modules::is_loaded(REBUILT) {
        ensure!(
            modules::is_installed(REBUILT),
            "neither {LIVEPATCH} nor {REBUILT} is installed for this kernel (fix: install the package for it)"
        );
        ensure_unused(IN_KERNEL)?;
        if modules::is_loaded(IN_KERNEL) {
            modules::remove(IN_KERNEL)?;
        }
        modules::load(REBUILT)?;
    }
    Ok("vhost_net is rebuilt, as this kernel does not support live patching")
}

fn ensure_unused(module: &str) -> Result<()> {
    if modules::users(module) == 0 {
        return Ok(());
    }
    let programs: Vec<_> = status::holders_of(Path::new("/dev/vhost-net"))
        .into_iter()
        .map(|program| program.to_string())
        .collect();
    bail!(
        "{module} is in use, and this kernel cannot live-patch it (fix: end {})",
        if programs.is_empty() {
            "the virtual machines that use it".to_owned()
        } else {
            programs.join(", ")
        }
    );
}

/// Returns a number of the live patch's state; `None` if it is not loaded.
fn state(name: &str) -> Option<u32> {
    let text = fs::read_to_string(Path::new(LIVEPATCH_STATE).join(name)).ok()?;
    text.trim().parse().ok()
}

/// Returns whether the live patch is being enabled or disabled.
pub fn is_in_transition() -> bool {
    state("transition") == Some(1)
}

/// Returns whether the live patch is enabled, and in effect for every task.
pub fn is_patched() -> bool {
    state("enabled") == Some(1) && state("transition") == Some(0)
}

/// Waits for the end of a transition, and prints the tasks that hold it up when it takes long.
fn wait_for_transition() {
    let mut printed = Instant::now();
    while state("transition") == Some(1) {
        thread::sleep(Duration::from_millis(50));
        if printed.elapsed() >= PATIENCE {
            printed = Instant::now();
            let target = state("enabled").unwrap_or(0);
            for task in status::tasks_not_in_state(target) {
                eprintln!(
                    "tuntap-ring: waiting for {task}, which runs the code that is being replaced"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_is_one_pattern_a_line() {
        assert_eq!(
            parse("# all\n\n vnet* # libvirt\ntap*i*\n"),
            ["vnet*", "tap*i*"]
        );
        assert!(parse("#vnet*\n").is_empty());
    }
}
