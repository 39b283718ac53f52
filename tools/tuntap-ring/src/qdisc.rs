// SPDX-License-Identifier: GPL-2.0

//! Qdiscs for devices with backpressure and `noqueue`, in which no packet can wait: libvirt gives its taps `noqueue`.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::status::{self, Namespace};

/// The handle of the qdiscs that this program adds, so that it finds them again.
const HANDLE: &str = "7472:";

/// Gives each device with `noqueue` whose flag the patterns have set the default qdisc, and returns the names of these
/// devices. Gives `noqueue` back to devices whose flag the patterns no longer set.
///
/// The kernel drops packets to a device while its qdisc is replaced.
///
/// Prints an error for a device that fails, for example because it was removed, and goes on with the others.
fn adjust() -> Result<Vec<String>> {
    let mut names = Vec::new();
    let seen = status::devices()?;
    for (inode, namespace) in status::namespaces() {
        let devices: Vec<_> = seen
            .iter()
            .filter(|device| device.namespace == inode)
            .collect();
        if devices.is_empty() {
            continue;
        }
        for qdisc in status::root_qdiscs(&namespace)? {
            let Some(device) = devices.iter().find(|device| device.name == qdisc.device) else {
                continue;
            };
            let by_policy = ["policy", "released"].contains(&device.flag.as_str());
            let result = if by_policy && qdisc.kind == "noqueue" {
                // Only a multi-queue device supports mq.
                replace(&namespace, &device.name, &["handle", HANDLE, "mq"])
                    .or_else(|_| replace(&namespace, &device.name, &["handle", HANDLE, &default()]))
                    .map(|()| names.push(device.name.clone()))
            } else if !by_policy && qdisc.handle == HANDLE {
                wait_until_empty(&namespace, &device.name)
                    .and_then(|()| replace(&namespace, &device.name, &["noqueue"]))
            } else {
                Ok(())
            };
            if let Err(err) = result {
                eprintln!("tuntap-ring: {err:#}");
            }
        }
    }
    Ok(names)
}

/// Waits until a qdisc is empty, which takes no time without backpressure; for a second at most.
fn wait_until_empty(namespace: &Namespace, device: &str) -> Result<()> {
    for _ in 0..20 {
        let waits = status::root_qdiscs(namespace)?
            .iter()
            .any(|qdisc| qdisc.device == device && qdisc.packets != 0);
        if !waits {
            break;
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// [`adjust`]s all devices, notifies systemd, and then [`adjust`]s each device that gets `noqueue` in this network
/// namespace.
pub fn follow() -> Result<()> {
    let mut is_first = true;
    loop {
        let mut monitor = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "tc", "monitor"])
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run setpriv (fix: install util-linux)")?;
        // Devices between the last adjustment and the start of the monitor.
        adjust_and_print();
        if is_first {
            if let Some(socket) = env::var_os("NOTIFY_SOCKET") {
                notify(Path::new(&socket))?;
            }
            is_first = false;
        }
        let lines = BufReader::new(monitor.stdout.take().context("no output")?).lines();
        for line in lines.map_while(Result::ok) {
            if line.contains("noqueue") {
                adjust_and_print();
            }
        }
        // The monitor has missed events, or was ended.
        let _ = monitor.kill();
        let _ = monitor.wait();
        thread::sleep(Duration::from_secs(1));
    }
}

/// [`adjust`]s devices, and prints their names. Only prints an error, for example without iproute2.
pub fn adjust_and_print() {
    match adjust() {
        Ok(names) => {
            for name in names {
                println!("{name}: noqueue replaced with a qdisc");
            }
        }
        Err(err) => eprintln!("tuntap-ring: {err:#}"),
    }
}

fn replace(namespace: &Namespace, device: &str, qdisc: &[&str]) -> Result<()> {
    let mut command = vec!["tc", "qdisc", "replace", "dev", device, "root"];
    command.extend(qdisc);
    namespace.run(&command)
}

/// Returns the default qdisc of devices.
fn default() -> String {
    fs::read_to_string("/proc/sys/net/core/default_qdisc")
        .map(|name| name.trim().to_owned())
        .ok()
        .filter(|name| !name.is_empty() && name != "noqueue")
        .unwrap_or_else(|| "fq_codel".to_owned())
}

/// Notifies systemd that the unit has started: `sd_notify(3)`.
fn notify(socket: &Path) -> Result<()> {
    UnixDatagram::unbound()
        .and_then(|sender| sender.send_to(b"READY=1", socket))
        .with_context(|| format!("cannot notify systemd at {}", socket.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_is_notified() {
        let path = env::temp_dir().join(format!("tuntap-ring-test-{}", std::process::id()));
        let receiver = UnixDatagram::bind(&path).unwrap();
        notify(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let mut text = [0; 16];
        let length = receiver.recv(&mut text).unwrap();
        assert_eq!(&text[..length], b"READY=1");
    }
}
