// SPDX-License-Identifier: GPL-2.0

//! Loading and removing kernel modules.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Returns the folder of the module in debugfs. `ip netns exec` mounts a `/sys` without debugfs; then the folder is
/// found through the first process.
pub fn debugfs() -> PathBuf {
    let folder = Path::new("sys/kernel/debug/tuntap_ring");
    let own = Path::new("/").join(folder);
    let first = Path::new("/proc/1/root").join(folder);
    if own.exists() || !first.exists() {
        own
    } else {
        first
    }
}

/// Returns whether a module is loaded.
pub fn is_loaded(module: &str) -> bool {
    Path::new("/sys/module").join(module).exists()
}

/// Returns the reference count of a module, 0 if it is not loaded.
pub fn users(module: &str) -> u32 {
    fs::read_to_string(format!("/sys/module/{module}/refcnt"))
        .ok()
        .and_then(|count| count.trim().parse().ok())
        .unwrap_or(0)
}

/// Returns whether there is a file of a module for the running kernel.
pub fn is_installed(module: &str) -> bool {
    Command::new("modinfo")
        .args(["-n", module])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Loads a module, if it is not loaded. The error includes the last line that a module of this project has logged.
pub fn load(module: &str) -> Result<()> {
    let mut log = Log::from_here();
    run("modprobe", module, || log.last_line())
}

/// Removes a module.
pub fn remove(module: &str) -> Result<()> {
    run("rmmod", module, String::new)
}

fn run(program: &str, module: &str, more: impl FnOnce() -> String) -> Result<()> {
    let output = Command::new(program)
        .arg(module)
        .output()
        .with_context(|| format!("cannot run {program} (fix: install kmod)"))?;
    if output.status.success() {
        return Ok(());
    }
    let error = String::from_utf8_lossy(&output.stderr);
    let more = more();
    // The kernel's message is more specific than kmod's text for an errno.
    if more.is_empty() {
        bail!("{}", error.trim());
    }
    bail!("{module} does not load: {more}");
}

/// The kernel log from some moment on.
struct Log(Option<File>);

impl Log {
    fn from_here() -> Self {
        let log = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/kmsg");
        Self(log.ok().and_then(|mut log| {
            log.seek(SeekFrom::End(0)).ok()?;
            Some(log)
        }))
    }

    /// Returns the last line of a module of this project.
    fn last_line(&mut self) -> String {
        let mut last = String::new();
        let mut record = [0; 8192];
        // Each read is one line, behind a prefix.
        while let Some(length) = self.0.as_mut().and_then(|log| log.read(&mut record).ok()) {
            let record = String::from_utf8_lossy(&record[..length]);
            let line = record.split_once(';').map_or("", |(_, line)| line);
            let line = line.lines().next().unwrap_or("");
            if length == 0 {
                break;
            }
            if line.starts_with("tuntap_ring") && !line.contains("taint") {
                line.clone_into(&mut last);
            }
        }
        last
    }
}
