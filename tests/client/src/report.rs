// SPDX-License-Identifier: GPL-2.0

//! The results, as JSON and as text.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

/// The result of `receive`.
#[derive(Debug, Serialize)]
pub struct Received {
    /// Distinct numbered packets that came through the virtqueues.
    pub received: u64,
    /// Frames that came through the virtqueues.
    pub frames: u64,
    /// Those of them that were numbered packets, duplicates included.
    pub numbered: u64,
    /// Those of them that were anything else.
    pub strays: u64,
    /// Those of them that did not come through a virtqueue, but were read by command.
    pub read: u64,
    /// Numbers missing between 0 and the highest one seen.
    pub gaps: u64,
    /// Packets that came after a higher number.
    pub reorders: u64,
    /// Packets whose number had been seen.
    pub duplicates: u64,
    /// Frames read from the tap after vhost was detached.
    pub leftover: u64,
    /// Distinct numbered packets among them.
    pub leftover_numbered: u64,
    /// The highest number, when there was exactly one sender.
    pub highest: Option<u64>,
    /// From the first numbered packet to the last.
    pub seconds: f64,
    /// Numbered packets per second of that time.
    pub pps: f64,
    /// From the first frame of any kind to the last.
    pub frames_seconds: f64,
    /// Frames per second of that time.
    pub frames_pps: f64,
    /// The reason for the end of the run, if it has ended.
    pub end: Option<End>,
    /// Per queue.
    pub queues: Vec<Queue>,
    /// Per sender.
    pub senders: Vec<Sender>,
}

/// The reason for the end of a run of `receive`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// A signal.
    Signal,
    /// `--stop-after`.
    Frames,
    /// `--duration`.
    Duration,
    /// The command `quit`.
    Quit,
}

/// The frames through one queue.
#[derive(Debug, Serialize)]
pub struct Queue {
    /// Frames.
    pub frames: u64,
}

/// The packets from one sender.
#[derive(Debug, Serialize)]
pub struct Sender {
    /// Its id.
    pub id: u16,
    /// Distinct packets that came through the virtqueues.
    pub received: u64,
    /// Distinct packets that were left in the ring.
    pub leftover: u64,
    /// The highest number.
    pub highest: u64,
    /// Numbers missing between 0 and that.
    pub gaps: u64,
    /// Packets that came after a higher number.
    pub reorders: u64,
    /// Packets whose number had been seen.
    pub duplicates: u64,
}

/// The state of a run of `receive`.
#[derive(Debug, Serialize)]
pub struct Status {
    /// The result so far.
    #[serde(flatten)]
    pub received: Received,
    /// Whether reception is paused.
    pub paused: bool,
    /// Per queue.
    pub backends: Vec<Backend>,
}

/// The file of a vhost device.
#[derive(Debug, Serialize)]
pub struct Backend {
    /// The index of the tap's file.
    pub file: usize,
    /// Its descriptor in this process, unless it could not be opened again.
    pub fd: Option<i32>,
    /// Whether it is the backend now.
    pub on: bool,
}

impl fmt::Display for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "received {} numbered packets in {:.3} s ({:.0} per second)",
            self.received, self.seconds, self.pps
        )?;
        writeln!(
            f,
            "gaps {}, reorders {}, duplicates {}",
            self.gaps, self.reorders, self.duplicates
        )?;
        write!(
            f,
            "left over {} ({} numbered), strays {}, frames {}",
            self.leftover, self.leftover_numbered, self.strays, self.frames
        )?;
        if let [_, _, ..] = self.queues[..] {
            let frames: Vec<_> = self.queues.iter().map(|q| q.frames.to_string()).collect();
            write!(f, " (by queue: {})", frames.join(", "))?;
        }
        if let [_, _, ..] = self.senders[..] {
            for sender in &self.senders {
                write!(
                    f,
                    "\nsender {}: received {}, left over {}, gaps {}, reorders {}, duplicates {}",
                    sender.id,
                    sender.received,
                    sender.leftover,
                    sender.gaps,
                    sender.reorders,
                    sender.duplicates
                )?;
            }
        }
        Ok(())
    }
}

/// The result of `flood`.
#[derive(Debug, Serialize)]
pub struct Sent {
    /// Packets that the kernel accepted.
    pub sent: u64,
    /// Sends that the kernel refused, and that were repeated.
    pub refused: u64,
    /// Sends whose packet the kernel dropped as the link was down, and that were repeated.
    pub down: u64,
    /// From the first send to the last.
    pub seconds: f64,
    /// Packets per second of that time.
    pub pps: f64,
    /// Per sender.
    pub senders: Vec<SentBy>,
}

/// The result of one sender.
#[derive(Debug, Serialize)]
pub struct SentBy {
    /// Its id.
    pub id: u16,
    /// Packets that the kernel accepted.
    pub sent: u64,
    /// Sends that the kernel refused, and that were repeated.
    pub refused: u64,
    /// Sends whose packet the kernel dropped as the link was down, and that were repeated.
    pub down: u64,
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "sent {} packets in {:.3} s ({:.0} per second), {} sends refused",
            self.sent, self.seconds, self.pps, self.refused
        )
    }
}

/// The result of `listen`.
#[derive(Debug, Serialize)]
pub struct Listened {
    /// Distinct numbered packets.
    pub received: u64,
    /// Packets that were anything else.
    pub strays: u64,
    /// Numbers missing between 0 and the highest one seen.
    pub gaps: u64,
    /// Packets that came after a higher number.
    pub reorders: u64,
    /// Packets whose number had been seen.
    pub duplicates: u64,
    /// Packets that were sent back.
    pub answered: u64,
}

impl fmt::Display for Listened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "received {} numbered packets, answered {}; gaps {}, reorders {}, duplicates {}, strays {}",
            self.received, self.answered, self.gaps, self.reorders, self.duplicates, self.strays
        )
    }
}

/// The result of `forward`.
#[derive(Debug, Serialize)]
pub struct Forwarded {
    /// From the first tap to the second.
    pub there: Way,
    /// From the second tap to the first.
    pub back: Way,
}

/// The frames in one direction.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Way {
    /// Frames.
    pub frames: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Rounds in which all buffers waited to be sent, and none was there to be filled.
    pub full_rounds: u64,
}

impl fmt::Display for Forwarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "forwarded {} frames ({} bytes) there, {} ({} bytes) back",
            self.there.frames, self.there.bytes, self.back.frames, self.back.bytes
        )
    }
}

/// Returns a rate, 0 if no time has passed.
pub fn rate(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 {
        count as f64 / seconds
    } else {
        0.0
    }
}

/// Removes an old file of `--ready`.
pub fn not_ready(ready: Option<&Path>) -> Result<()> {
    let Some(ready) = ready else { return Ok(()) };
    match fs::remove_file(ready) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => {
            Err(err).with_context(|| format!("cannot remove {}", ready.display()))
        }
        _ => Ok(()),
    }
}

/// Writes a file atomically.
pub fn write_file(path: &Path, contents: &[u8]) -> Result<()> {
    let mut temporary = OsString::from(path);
    temporary.push(format!(".{}", std::process::id()));
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(contents)?;
        fs::rename(&temporary, path)
    };
    write()
        .inspect_err(|_| drop(fs::remove_file(&temporary)))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Writes a result to the file of `--json`, if given.
pub fn write_json(path: Option<&Path>, result: &impl Serialize) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let mut json = serde_json::to_vec_pretty(result).context("cannot make JSON")?;
    json.push(b'\n');
    write_file(path, &json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_a_file_and_leaves_no_other() {
        let dir = std::env::temp_dir().join(format!("tuntap-client-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("result.json");
        for contents in ["long contents", "short"] {
            write_file(&path, contents.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), contents);
        }
        assert_eq!(
            fs::read_dir(&dir).unwrap().count(),
            1,
            "nothing else is left"
        );
        fs::remove_dir_all(&dir).unwrap();
        assert!(write_file(&path, b"").is_err());
    }

    #[test]
    fn rate_in_no_time_is_zero() {
        assert_eq!(rate(10, 0.0).to_bits(), 0f64.to_bits());
        assert!((rate(10, 2.0) - 5.0).abs() < 1e-9);
    }
}
