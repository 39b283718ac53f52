// SPDX-License-Identifier: GPL-2.0

//! `receive --control`: commands on standard input, a line each, and one line of answer for each.
//!
//! An answer is `ok`, `ok DATA` or `error TEXT`. This is the language; what the commands do is up to
//! the guest.

use std::io::{BufRead, Write};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::cli::microseconds;

/// The commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Stop receiving from the virtqueues.
    Pause,
    /// Receive again.
    Resume,
    /// Sleep that long after each round that moved frames.
    Delay(Duration),
    /// Detach a queue from the device.
    Detach(usize),
    /// Attach it again.
    Attach(usize),
    /// Set or remove vhost's backend of a queue.
    Backend(usize, bool),
    /// Exchange the files of two queues.
    Swap(usize, usize),
    /// Read up to so many frames from a queue's file.
    Read(usize, u64),
    /// Close all files and open them again.
    Reopen,
    /// Report the result so far.
    Status,
    /// Drain, and end.
    Quit,
}

/// The syntax of all commands, for errors.
const COMMANDS: &str = "pause, resume, delay MICROSECONDS, detach Q, attach Q, backend Q on|off, swap A B, \
     read Q N, reopen, status, quit";

impl Command {
    /// Reads a command to a guest of that many queues.
    fn parse(line: &str, queues: usize) -> Result<Self, String> {
        let words: Vec<_> = line.split_whitespace().collect();
        let queue = |word: &str| {
            word.parse()
                .ok()
                .filter(|queue| *queue < queues)
                .ok_or_else(|| format!("no queue `{word}`: there are {queues}, from 0"))
        };
        Ok(match words[..] {
            ["pause"] => Self::Pause,
            ["resume"] => Self::Resume,
            ["delay", time] => Self::Delay(microseconds(time)?),
            ["detach", q] => Self::Detach(queue(q)?),
            ["attach", q] => Self::Attach(queue(q)?),
            ["backend", q, "on"] => Self::Backend(queue(q)?, true),
            ["backend", q, "off"] => Self::Backend(queue(q)?, false),
            ["swap", a, b] if a != b => Self::Swap(queue(a)?, queue(b)?),
            ["read", q, frames] => Self::Read(
                queue(q)?,
                frames
                    .parse()
                    .map_err(|_| format!("`{frames}` is not a number of frames"))?,
            ),
            ["reopen"] => Self::Reopen,
            ["status"] => Self::Status,
            ["quit"] => Self::Quit,
            _ => return Err(format!("unknown command `{line}`; use one of: {COMMANDS}")),
        })
    }
}

/// The commands as they come, and the way back for the answers.
pub struct Control<W> {
    lines: Receiver<String>,
    event: EventFd,
    answers: W,
}

impl<W: Write> Control<W> {
    /// Begins to read commands. After the last one there are no more, and nothing else.
    pub fn new(commands: impl BufRead + Send + 'static, answers: W) -> Result<Self> {
        let event = EventFd::new(EFD_NONBLOCK).context("cannot make an eventfd")?;
        let come = event.try_clone().context("cannot duplicate an eventfd")?;
        let (send, lines) = channel();
        // epoll does not support a file as standard input, so a thread reads it.
        thread::spawn(move || {
            for line in commands.lines().map_while(Result::ok) {
                if send.send(line).is_err() || come.write(1).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            lines,
            event,
            answers,
        })
    }

    /// Returns the descriptor that is readable when a command comes.
    pub fn event(&self) -> &EventFd {
        &self.event
    }

    /// Returns the next command, if there is one. Replies to unknown commands with an error.
    pub fn next(&mut self, queues: usize) -> Result<Option<Command>> {
        while let Ok(line) = self.lines.try_recv() {
            match Command::parse(&line, queues) {
                Ok(command) => return Ok(Some(command)),
                Err(text) => self.answer_line("error", &text)?,
            }
        }
        Ok(None)
    }

    /// Answers the command that came last.
    pub fn answer(&mut self, answer: Result<String>) -> Result<()> {
        match answer {
            Ok(data) => self.answer_line("ok", &data),
            Err(err) => self.answer_line("error", &format!("{err:#}")),
        }
    }

    fn answer_line(&mut self, word: &str, text: &str) -> Result<()> {
        let line = format!("{word} {}", text.replace('\n', " "));
        writeln!(self.answers, "{}", line.trim_end())
            .and_then(|()| self.answers.flush())
            .context("cannot answer a command")
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Cursor, Read};
    use std::sync::mpsc::{RecvTimeoutError, Sender};

    use anyhow::anyhow;

    use super::*;

    #[test]
    fn parses_each_command() {
        for (line, command) in [
            ("pause", Command::Pause),
            (" resume ", Command::Resume),
            ("delay 0", Command::Delay(Duration::ZERO)),
            ("delay 1000000", Command::Delay(Duration::from_secs(1))),
            ("detach 3", Command::Detach(3)),
            ("attach 0", Command::Attach(0)),
            ("backend 1 off", Command::Backend(1, false)),
            ("backend 1  on", Command::Backend(1, true)),
            ("swap 0 3", Command::Swap(0, 3)),
            ("read 2 100", Command::Read(2, 100)),
            ("reopen", Command::Reopen),
            ("status", Command::Status),
            ("quit", Command::Quit),
        ] {
            assert_eq!(Command::parse(line, 4), Ok(command), "{line}");
        }
    }

    #[test]
    fn rejects_malformed_commands() {
        for line in [
            "",
            "Pause",
            "pause now",
            "delay",
            "delay -1",
            "delay 1000001",
            "detach",
            "detach 4",
            "detach -1",
            "attach x",
            "backend 0",
            "backend 0 up",
            "backend 4 on",
            "swap 0",
            "swap 1 1",
            "swap 0 4",
            "read 0",
            "read 0 -1",
            "read 4 1",
            "status 0",
        ] {
            assert!(
                Command::parse(line, 4).is_err(),
                "expected: an error for {line:?}, seen: none"
            );
        }
        let text = Command::parse("halt", 4).unwrap_err();
        assert!(
            text.contains("`halt`") && text.contains("resume"),
            "seen: {text}"
        );
        let text = Command::parse("detach 4", 4).unwrap_err();
        assert!(text.contains("`4`"), "seen: {text}");
    }

    /// The input. The channel shows that the reader has dropped it.
    struct Input(Cursor<&'static str>, #[expect(dead_code)] Sender<()>);

    impl Read for Input {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0.read(buffer)
        }
    }

    #[test]
    fn answers_each_line_with_one_line() {
        let (open, ended) = channel();
        let lines = Cursor::new("status\nbad\n\npause\nread 0 1");
        let mut answers = Vec::new();
        let mut control = Control::new(BufReader::new(Input(lines, open)), &mut answers).unwrap();
        let end = ended.recv_timeout(Duration::from_secs(300));
        assert_eq!(end, Err(RecvTimeoutError::Disconnected));
        let mut seen = Vec::new();
        while let Some(command) = control.next(1).unwrap() {
            seen.push(command);
            control
                .answer(match command {
                    Command::Status => Ok("{}".into()),
                    Command::Pause => Ok(String::new()),
                    _ => Err(anyhow!("one\ntwo").context("read")),
                })
                .unwrap();
        }
        assert_eq!(control.event().read().unwrap(), 5);
        assert_eq!(seen, [Command::Status, Command::Pause, Command::Read(0, 1)]);
        let answers = String::from_utf8(answers).unwrap();
        let answers: Vec<_> = answers.lines().collect();
        assert_eq!(answers[0], "ok {}");
        assert!(answers[1].starts_with("error unknown command `bad`"));
        assert!(answers[2].starts_with("error unknown command ``"));
        assert_eq!(answers[3..], ["ok", "error read: one two"]);
    }
}
