// SPDX-License-Identifier: GPL-2.0

//! `status`: the consumer, and the state of each device, in every network namespace.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, anyhow, ensure};
use serde::Serialize;
use serde_json::Value;

use crate::modules;
use crate::switch::{self, MODULE, PATTERNS, REBUILT};

/// A device of tun, as the module sees it.
pub struct Seen {
    /// The inode of its network namespace.
    pub namespace: u64,
    index: u64,
    pub name: String,
    /// `policy`, `opener`, `released` or `none`.
    pub flag: String,
    queues: u64,
    stopped: u64,
    stopped_ms: u64,
    slots: u64,
}

/// The devices of tun in all network namespaces; none without the module.
pub fn devices() -> Result<Vec<Seen>> {
    if !modules::is_loaded(MODULE) {
        return Ok(Vec::new());
    }
    let file = modules::debugfs().join("devices");
    let text = fs::read_to_string(&file).map_err(|err| {
        anyhow!(
            "cannot read {}: {err} (fix: run as root, with debugfs mounted)",
            file.display()
        )
    })?;
    text.lines()
        .filter(|line| !line.is_empty())
        .map(|line| {
            parse(line).ok_or_else(|| {
                anyhow!(
                    "{} has an unknown line: {line} (fix: use the tool with the module of the same version)",
                    file.display()
                )
            })
        })
        .collect()
}

fn parse(line: &str) -> Option<Seen> {
    let words: Vec<_> = line.split(' ').collect();
    let &[
        namespace,
        index,
        name,
        flag,
        queues,
        stopped,
        stopped_ms,
        slots,
    ] = words.as_slice()
    else {
        return None;
    };
    Some(Seen {
        namespace: namespace.parse().ok()?,
        index: index.parse().ok()?,
        name: name.to_owned(),
        flag: flag.to_owned(),
        queues: queues.parse().ok()?,
        stopped: stopped.parse().ok()?,
        stopped_ms: stopped_ms.parse().ok()?,
        slots: slots.parse().ok()?,
    })
}

/// A process: its name and PID.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Program {
    name: String,
    pid: u32,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.name, self.pid)
    }
}

fn program(process: &Path) -> Option<Program> {
    Some(Program {
        name: fs::read_to_string(process.join("comm"))
            .ok()?
            .trim()
            .to_owned(),
        pid: process.file_name()?.to_str()?.parse().ok()?,
    })
}

/// The folder of each process.
fn processes() -> impl Iterator<Item = PathBuf> {
    entries(Path::new("/proc")).filter(|path| {
        path.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.parse::<u32>().is_ok())
    })
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
}

/// Programs that have a file open.
pub fn holders_of(file: &Path) -> Vec<Program> {
    processes()
        .filter(|process| {
            entries(&process.join("fd"))
                .any(|fd| fs::read_link(fd).is_ok_and(|target| target == file))
        })
        .filter_map(|process| program(&process))
        .collect()
}

/// Returns the tasks that a transition still waits for. The target is 1 for the patched code, 0 for the original.
pub fn tasks_not_in_state(target: u32) -> Vec<Program> {
    processes()
        .flat_map(|process| entries(&process.join("task")))
        .filter(|task| {
            fs::read_to_string(task.join("patch_state"))
                .ok()
                .and_then(|state| state.trim().parse::<i64>().ok())
                .is_some_and(|state| state >= 0 && state != i64::from(target))
        })
        .filter_map(|task| program(&task))
        .collect()
}

/// Programs that have a queue of a device, by the device's name.
fn openers() -> BTreeMap<String, Vec<Program>> {
    let mut openers: BTreeMap<String, Vec<Program>> = BTreeMap::new();
    for process in processes() {
        for info in entries(&process.join("fdinfo")) {
            let Ok(text) = fs::read_to_string(&info) else {
                continue;
            };
            let device = text.lines().find_map(|line| line.strip_prefix("iff:"));
            if let (Some(device), Some(program)) = (device, program(&process)) {
                let programs = openers.entry(device.trim().to_owned()).or_default();
                if !programs.contains(&program) {
                    programs.push(program);
                }
            }
        }
    }
    openers
}

/// A network namespace: its name, and the file to enter it.
pub struct Namespace {
    name: String,
    file: PathBuf,
}

/// Returns all network namespaces that have a process or a name, by their inodes. The one of this program has an empty
/// name.
pub fn namespaces() -> BTreeMap<u64, Namespace> {
    let mut namespaces = BTreeMap::new();
    let own = inode(Path::new("/proc/self/ns/net"));
    let named = entries(Path::new("/run/netns")).map(|file| {
        let name = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        (name, file)
    });
    let of_processes = processes().map(|process| {
        let name = program(&process).map_or_else(String::new, |program| program.to_string());
        (name, process.join("ns/net"))
    });
    for (name, file) in named.chain(of_processes) {
        let Some(inode) = inode(&file) else {
            continue;
        };
        namespaces.entry(inode).or_insert_with(|| Namespace {
            name: if Some(inode) == own {
                String::new()
            } else {
                name
            },
            file,
        });
    }
    namespaces
}

fn inode(file: &Path) -> Option<u64> {
    Some(fs::metadata(file).ok()?.ino())
}

impl Namespace {
    /// Returns the JSON output of a command of iproute2 in it.
    fn query(&self, command: &[&str]) -> Result<Value> {
        let output = self.output(command)?;
        // An empty list is printed as nothing.
        Ok(serde_json::from_slice(&output.stdout).unwrap_or(Value::Array(Vec::new())))
    }

    /// Runs a command of iproute2 in it.
    pub fn run(&self, command: &[&str]) -> Result<()> {
        let output = self.output(command)?;
        ensure!(
            output.status.success(),
            "{}: {}",
            command.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }

    fn output(&self, command: &[&str]) -> Result<Output> {
        let mut whole = Command::new(command[0]);
        if !self.name.is_empty() {
            whole = Command::new("nsenter");
            whole
                .arg(format!("--net={}", self.file.display()))
                .arg(command[0]);
        }
        whole
            .args(&command[1..])
            .output()
            .with_context(|| format!("cannot run {} (fix: install iproute2)", command[0]))
    }
}

/// The qdisc at the root of a device.
pub struct RootQdisc {
    pub device: String,
    pub kind: String,
    pub handle: String,
    /// Number of packets in it.
    pub packets: u64,
}

/// The root qdiscs of the devices of a network namespace.
pub fn root_qdiscs(namespace: &Namespace) -> Result<Vec<RootQdisc>> {
    let qdiscs = namespace.query(&["tc", "-json", "-statistics", "qdisc", "show"])?;
    Ok(each(&qdiscs)
        .filter(|qdisc| qdisc.get("root").is_some())
        .map(|qdisc| RootQdisc {
            device: text(qdisc, "/dev").to_owned(),
            kind: text(qdisc, "/kind").to_owned(),
            handle: text(qdisc, "/handle").to_owned(),
            packets: number(qdisc, "/qlen"),
        })
        .collect())
}

/// A device, as it is shown.
#[derive(Debug, Serialize)]
pub struct Device {
    namespace: String,
    name: String,
    kind: String,
    programs: Vec<Program>,
    queues: u64,
    /// `policy`, `opener`, `released`, `none`; `unknown` without the module.
    flag: String,
    stopped: u64,
    stopped_ms: u64,
    /// Slots of the smallest ring.
    slots: u64,
    dropped_by_device: u64,
    dropped_by_qdisc: u64,
    qdisc: String,
    /// Why backpressure has no effect here; empty if it has.
    reason: String,
}

/// The output of `status`.
#[derive(Debug, Serialize)]
pub struct Status {
    /// `live-patched`, `rebuilt` or `none`.
    consumer: &'static str,
    patterns: Vec<String>,
    devices: Vec<Device>,
}

impl Status {
    /// Looks at the host.
    pub fn read() -> Result<Self> {
        let consumer = if switch::is_patched() {
            "live-patched"
        } else if modules::is_loaded(REBUILT) {
            "rebuilt"
        } else {
            "none"
        };
        let patterns = fs::read_to_string(PATTERNS).unwrap_or_default();
        let patterns: Vec<_> = patterns
            .trim()
            .split(',')
            .filter(|pattern| !pattern.is_empty())
            .map(str::to_owned)
            .collect();
        let seen = devices()?;
        let openers = openers();
        let mut devices = Vec::new();
        for (inode, namespace) in namespaces() {
            let links =
                namespace.query(&["ip", "-json", "-details", "-statistics", "link", "show"])?;
            let tuntaps: Vec<_> = each(&links).filter(|link| is_tuntap(link)).collect();
            if tuntaps.is_empty() {
                continue;
            }
            let qdiscs = namespace.query(&["tc", "-json", "-statistics", "qdisc", "show"])?;
            for link in tuntaps {
                devices.push(device(link, &qdiscs, &namespace, inode, &seen, &openers));
            }
        }
        for device in &mut devices {
            device.reason = reason(device);
        }
        Ok(Self {
            consumer,
            patterns,
            devices,
        })
    }

    /// Returns a line for each device whose flag has no effect.
    pub fn without_effect(&self) -> impl Iterator<Item = String> {
        self.devices
            .iter()
            .filter(|device| device.flag == "policy" && !device.reason.is_empty())
            .map(|device| format!("{}: no effect: {}", device.full_name(), device.reason))
    }

    /// As a table that fits a screen.
    pub fn table(&self) -> String {
        let mut text = format!(
            "consumer: {}\npatterns: {}\n",
            match self.consumer {
                "live-patched" => "tuntap_ring, by a live patch of vhost_net",
                "rebuilt" => "tuntap_ring, by the rebuilt vhost_net",
                _ if switch::is_in_transition() => "in transition: see tuntap-ring on",
                _ => "vhost_net's own (tuntap-ring on changes that)",
            },
            if self.patterns.is_empty() {
                "none".to_owned()
            } else {
                self.patterns.join(" ")
            }
        );
        if self.devices.is_empty() {
            text.push_str("there are no tun or tap devices\n");
            return text;
        }
        let head = [
            "DEVICE", "QUEUES", "FLAG", "STOPPED", "SLOTS", "DROPS", "QDISC", "DROPS", "PROGRAM",
            "NOTE",
        ];
        let mut rows = vec![head.map(str::to_owned)];
        rows.extend(self.devices.iter().map(Device::row));
        let widths: Vec<_> = (0..head.len())
            .map(|column| {
                rows.iter()
                    .map(|row| row[column].chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        text.push('\n');
        for row in &rows {
            let mut line = String::new();
            for (cell, &width) in row.iter().zip(&widths) {
                let _ = write!(line, "{cell:width$}  ");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

impl Device {
    /// Returns the name, after that of its network namespace if that is another one.
    fn full_name(&self) -> String {
        if self.namespace.is_empty() {
            self.name.clone()
        } else {
            format!("{}:{}", self.namespace, self.name)
        }
    }

    fn row(&self) -> [String; 10] {
        let stopped = match self.stopped {
            0 => "-".to_owned(),
            1 if self.queues == 1 => duration(self.stopped_ms),
            some => format!("{some}, {}", duration(self.stopped_ms)),
        };
        let program = match self.programs.as_slice() {
            [] => "-".to_owned(),
            [one] => one.to_string(),
            [one, more @ ..] => format!("{one} and {}", more.len()),
        };
        [
            self.full_name(),
            self.queues.to_string(),
            self.flag.clone(),
            stopped,
            self.slots.to_string(),
            self.dropped_by_device.to_string(),
            self.qdisc.clone(),
            self.dropped_by_qdisc.to_string(),
            program,
            self.reason.clone(),
        ]
    }
}

/// Milliseconds, as people read them.
fn duration(milliseconds: u64) -> String {
    match milliseconds {
        0..1_000 => format!("{milliseconds}ms"),
        1_000..60_000 => format!("{}s", milliseconds / 1_000),
        _ => format!("{}min", milliseconds / 60_000),
    }
}

fn each(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or("")
}

fn number(value: &Value, path: &str) -> u64 {
    value.pointer(path).and_then(Value::as_u64).unwrap_or(0)
}

fn is_tuntap(link: &Value) -> bool {
    ["tun", "macvtap", "ipvtap"].contains(&text(link, "/linkinfo/info_kind"))
}

fn device(
    link: &Value,
    qdiscs: &Value,
    namespace: &Namespace,
    inode: u64,
    seen: &[Seen],
    openers: &BTreeMap<String, Vec<Program>>,
) -> Device {
    let name = text(link, "/ifname");
    let kind = match text(link, "/linkinfo/info_kind") {
        "tun" => text(link, "/linkinfo/info_data/type"),
        other => other,
    };
    let seen = seen.iter().find(|seen| {
        seen.namespace == inode && seen.index == number(link, "/ifindex") && seen.name == name
    });
    // Below mq each queue has one of its own, and the root none.
    let qdiscs: Vec<_> = each(qdiscs)
        .filter(|qdisc| text(qdisc, "/dev") == name)
        .collect();
    let root = qdiscs.iter().find(|qdisc| qdisc.get("root").is_some());
    Device {
        namespace: namespace.name.clone(),
        name: name.to_owned(),
        kind: kind.to_owned(),
        programs: openers.get(name).cloned().unwrap_or_default(),
        queues: seen.map_or_else(|| number(link, "/num_tx_queues"), |seen| seen.queues),
        flag: match (kind, seen) {
            ("tun" | "tap", Some(seen)) => seen.flag.clone(),
            ("tun" | "tap", None) => "unknown".to_owned(),
            _ => "none".to_owned(),
        },
        stopped: seen.map_or(0, |seen| seen.stopped),
        stopped_ms: seen.map_or(0, |seen| seen.stopped_ms),
        slots: seen.map_or_else(|| number(link, "/txqlen"), |seen| seen.slots),
        dropped_by_device: number(link, "/stats64/tx/dropped"),
        dropped_by_qdisc: root.map_or(0, |root| number(root, "/drops")),
        qdisc: root
            .map_or_else(|| text(link, "/qdisc"), |root| text(root, "/kind"))
            .to_owned(),
        reason: String::new(),
    }
}

/// Why backpressure has no effect on a device.
fn reason(device: &Device) -> String {
    let reason = match (device.kind.as_str(), device.flag.as_str()) {
        ("macvtap" | "ipvtap", _) => "macvtap and ipvtap have no backpressure",
        (_, "unknown") => "tuntap_ring is not loaded",
        (_, "none") => "no pattern matches",
        (_, "released") => "consumer stalled; drops until it reads",
        _ if device.qdisc == "noqueue" => "noqueue: tuntap-ring on gives it a qdisc",
        _ => "",
    };
    reason.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_lines_are_read() {
        let seen = parse("4026531840 3 tap0 policy 4 1 1500 64").unwrap();
        assert_eq!(
            (seen.namespace, seen.index, seen.name.as_str()),
            (4_026_531_840, 3, "tap0")
        );
        assert_eq!((seen.flag.as_str(), seen.queues), ("policy", 4));
        assert_eq!((seen.stopped, seen.stopped_ms, seen.slots), (1, 1500, 64));
        assert!(parse("4026531840 3 tap0 policy 4 1 1500").is_none());
        assert!(parse("x 3 tap0 policy 4 1 0 64").is_none());
    }

    #[test]
    fn devices_without_effect_are_named() {
        let with_reason = |flag, reason: &str| Device {
            reason: reason.to_owned(),
            ..shown("tap", flag, "noqueue")
        };
        let status = Status {
            consumer: "live-patched",
            patterns: Vec::new(),
            devices: vec![
                with_reason("policy", "noqueue"),
                with_reason("policy", ""),
                with_reason("none", "no pattern matches"),
            ],
        };
        let lines: Vec<_> = status.without_effect().collect();
        assert_eq!(lines, ["tap0: no effect: noqueue"]);
    }

    #[test]
    fn durations_are_short() {
        assert_eq!(duration(999), "999ms");
        assert_eq!(duration(59_999), "59s");
        assert_eq!(duration(120_000), "2min");
    }

    fn shown(kind: &str, flag: &str, qdisc: &str) -> Device {
        Device {
            namespace: String::new(),
            name: "tap0".to_owned(),
            kind: kind.to_owned(),
            programs: Vec::new(),
            queues: 1,
            flag: flag.to_owned(),
            stopped: 0,
            stopped_ms: 0,
            slots: 500,
            dropped_by_device: 0,
            dropped_by_qdisc: 0,
            qdisc: qdisc.to_owned(),
            reason: String::new(),
        }
    }

    #[test]
    fn reasons_name_what_is_in_the_way() {
        let reason_of = |kind, flag, qdisc| reason(&shown(kind, flag, qdisc));
        assert_eq!(reason_of("tap", "policy", "fq_codel"), "");
        assert_eq!(reason_of("tun", "opener", "fq_codel"), "");
        assert!(reason_of("tap", "policy", "noqueue").contains("noqueue"));
        assert!(reason_of("tap", "none", "fq_codel").contains("no pattern"));
        assert!(reason_of("macvtap", "none", "fq_codel").contains("macvtap"));
    }
}
