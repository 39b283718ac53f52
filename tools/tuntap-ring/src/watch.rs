// SPDX-License-Identifier: GPL-2.0

//! `watch`: shows the counters of the module live.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, IsTerminal, Write as _};
use std::mem::zeroed;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use clap::Args;
use tuntap_device::stop::Stop;
use tuntap_device::wait::Waiter;

use crate::modules;

/// The arguments of `watch`.
#[derive(Args, Debug)]
#[command(
    after_help = "On a terminal it draws one screen: rates, totals, how many entries the calls took, \
                  and which queues of tun devices are stopped (of this network namespace, at the \
                  moment of the look). Else it writes a line for each look.\n\n\
                  SIGTERM or SIGINT ends it.\n\n\
                  Exit status: 0 in the end, 1 on an error, such as the module being unloaded, 2 on \
                  wrong usage."
)]
pub struct WatchArgs {
    /// Time between two samples
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub interval: Duration,

    /// End after that many samples
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// Write lines, even to a terminal
    #[arg(long)]
    pub plain: bool,

    /// Folder of the counters (default: the module's in debugfs)
    #[arg(long, value_name = "PATH")]
    pub counters: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map_err(|_| "not a number".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|err| err.to_string())
}

/// Returns a rate, 0 if there was no time.
fn rate(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 {
        count as f64 / seconds
    } else {
        0.0
    }
}

/// The counters that are one number: file and name.
const COUNTERS: [(&str, &str); 5] = [
    ("calls", "calls"),
    ("entries", "entries"),
    ("wakes", "wakes"),
    ("withheld", "wakes withheld"),
    ("rejected", "calls rejected"),
];
const CALLS: usize = 0;
const ENTRIES: usize = 1;
const WAKES: usize = 2;
const WITHHELD: usize = 3;

/// How wide the longest bar of the histogram is.
const BAR: usize = 40;

/// The counters of the module at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sample {
    /// As in [`COUNTERS`].
    counters: [u64; COUNTERS.len()],
    /// Calls by their number of entries: at least this number, and less than the next.
    batches: Vec<(u64, u64)>,
    /// Device and number of each queue that is stopped.
    stopped: Vec<String>,
}

impl Sample {
    fn read(folder: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path).map_err(|err| explain(&path, &err))
        };
        let mut sample = Self::default();
        for (counter, (name, _)) in sample.counters.iter_mut().zip(COUNTERS) {
            let text = read(name)?;
            *counter = text.trim().parse().map_err(|_| unexpected(folder, name))?;
        }
        for line in lines(&read("batches")?) {
            let parsed = line
                .split_once(' ')
                .and_then(|(least, calls)| Some((least.parse().ok()?, calls.parse().ok()?)));
            sample
                .batches
                .push(parsed.ok_or_else(|| unexpected(folder, "batches"))?);
        }
        sample.stopped = lines(&read("stopped")?).map(str::to_owned).collect();
        Ok(sample)
    }

    /// Returns the difference to an earlier sample; all, if the module was loaded again since.
    fn since(&self, earlier: &Self) -> Self {
        let reloaded = self.counters[CALLS] < earlier.counters[CALLS];
        let since = |now: u64, then: u64| {
            if reloaded {
                now
            } else {
                now.saturating_sub(then)
            }
        };
        let mut since_then = self.clone();
        for (now, then) in since_then.counters.iter_mut().zip(earlier.counters) {
            *now = since(*now, then);
        }
        for (now, then) in since_then.batches.iter_mut().zip(&earlier.batches) {
            now.1 = since(now.1, then.1);
        }
        since_then
    }
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.is_empty())
}

fn explain(path: &Path, err: &io::Error) -> anyhow::Error {
    let fix = match err.kind() {
        io::ErrorKind::NotFound => {
            "modprobe tuntap_ring, and mount -t debugfs debugfs /sys/kernel/debug"
        }
        io::ErrorKind::PermissionDenied => "run as root",
        _ => "give --counters the folder of the module in debugfs",
    };
    anyhow!("cannot read {}: {err} (fix: {fix})", path.display())
}

fn unexpected(folder: &Path, name: &str) -> anyhow::Error {
    anyhow!(
        "{} has an unknown format (fix: use the tool with the module of the same version)",
        folder.join(name).display()
    )
}

/// The screen: the last interval, the totals, and for how many samples in a row queues were stopped.
struct View {
    sample: Sample,
    last: Sample,
    /// How long the last interval took.
    interval: f64,
    /// How many intervals there were, and how long they took together.
    samples: u64,
    elapsed: f64,
    /// The queues that are stopped now, and for how many samples in a row.
    stopped: Vec<(String, u64)>,
}

impl View {
    fn new(sample: Sample) -> Self {
        let mut view = Self {
            last: sample.clone(),
            sample,
            interval: 0.0,
            samples: 0,
            elapsed: 0.0,
            stopped: Vec::new(),
        };
        view.see_stopped();
        view
    }

    fn advance(&mut self, sample: Sample, interval: Duration) {
        self.last = sample.since(&self.sample);
        self.sample = sample;
        self.interval = interval.as_secs_f64();
        self.samples += 1;
        self.elapsed += self.interval;
        self.see_stopped();
    }

    fn see_stopped(&mut self) {
        let samples = |queue: &String| {
            let before = self.stopped.iter().find(|(name, _)| name == queue);
            before.map_or(0, |(_, samples)| *samples)
        };
        let now = self.sample.stopped.iter();
        self.stopped = now
            .map(|queue| (queue.clone(), samples(queue) + 1))
            .collect();
    }

    fn per_second(&self, counter: usize) -> f64 {
        rate(self.last.counters[counter], self.interval)
    }

    fn per_call(&self) -> f64 {
        let [calls, entries] = [CALLS, ENTRIES].map(|counter| self.last.counters[counter]);
        rate(entries, calls as f64)
    }

    /// The whole, for a terminal.
    fn screen(&self) -> String {
        let mut text = String::from("tuntap_ring, ");
        // Nothing has a rate yet.
        let _ = match self.samples {
            0 => write!(text, "since it was loaded"),
            _ => write!(
                text,
                "for {:.0} s, one sample per {:.1} s",
                self.elapsed, self.interval
            ),
        };
        text.push_str("; Ctrl-C ends\n\n");
        let _ = writeln!(text, "{:22}{:>14}{:>20}", "", "per second", "total");
        for (index, (_, title)) in COUNTERS.iter().enumerate() {
            let per_second = match self.samples {
                0 => "-".to_owned(),
                _ => grouped(self.per_second(index).round() as u64),
            };
            let total = grouped(self.sample.counters[index]);
            let _ = writeln!(text, "{title:22}{per_second:>14}{total:>20}");
        }
        // Above what a small terminal has no room for.
        text.push_str("\nstopped queues:");
        if self.stopped.is_empty() {
            text.push_str(" none");
        }
        for (queue, samples) in &self.stopped {
            let _ = match samples {
                1 => write!(text, "\n  {queue}"),
                _ => write!(text, "\n  {queue}, for {samples} samples"),
            };
            if *samples > 2 && self.last.counters[CALLS] == 0 {
                text.push_str("; no ring is consumed");
            }
        }
        let _ = writeln!(text, "\n\nentries a call{:>22.1}", self.per_call());
        let calls: u64 = self.last.batches.iter().map(|(_, calls)| calls).sum();
        let highest = self.last.batches.iter().map(|(_, calls)| *calls).max();
        let highest = highest.unwrap_or(0).max(1) as f64;
        for (index, (least, count)) in self.last.batches.iter().enumerate() {
            let next = self.last.batches.get(index + 1).map(|(next, _)| *next);
            let range = match next {
                None => format!("{least}+"),
                Some(next) if next <= least + 1 => least.to_string(),
                Some(next) => format!("{least}-{}", next - 1),
            };
            let bar = "#".repeat((*count as f64 / highest * BAR as f64).round() as usize);
            let percent = 100.0 * rate(*count, calls as f64);
            let line = format!("{range:>9} {percent:>5.1} % {bar}");
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text
    }

    /// Returns the heading of the lines.
    const HEADING: &str =
        "   seconds      calls/s    entries/s    wakes/s withheld/s per call stopped";

    /// Returns the line of one interval, for output that is not a terminal.
    fn line(&self) -> String {
        let stopped = match self.sample.stopped.len() {
            0 => "-".to_owned(),
            _ => self.sample.stopped.join(",").replace(' ', ":"),
        };
        format!(
            "{:>10.1} {:>12.0} {:>12.0} {:>10.0} {:>10.0} {:>8.1} {stopped}",
            self.elapsed,
            self.per_second(CALLS),
            self.per_second(ENTRIES),
            self.per_second(WAKES),
            self.per_second(WITHHELD),
            self.per_call()
        )
    }
}

/// A number with commas in it.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Lines and columns of the terminal.
fn terminal_size() -> (usize, usize) {
    // SAFETY: The structure is made of numbers.
    let mut size: libc::winsize = unsafe { zeroed() };
    // SAFETY: The ioctl writes one winsize, which is what it is given.
    let ret = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    if ret < 0 || size.ws_row == 0 || size.ws_col == 0 {
        return (24, 80);
    }
    (size.ws_row.into(), size.ws_col.into())
}

/// A text as it is drawn over what is on the screen, as much of it as fits.
fn drawn(text: &str, (rows, columns): (usize, usize)) -> String {
    let lines = text.lines().take(rows - 1);
    let lines = lines.map(|line| line.chars().take(columns).collect::<String>());
    // To the top; each line, and nothing behind it; nothing below.
    let mut drawn = "\x1b[H".to_owned();
    for line in lines {
        drawn.push_str(&line);
        drawn.push_str("\x1b[K\r\n");
    }
    drawn.push_str("\x1b[J");
    drawn
}

/// A screen that is drawn on, with the cursor hidden; what is on it in the end stays.
struct Screen;

impl Screen {
    fn new() -> Result<Self> {
        print(b"\x1b[2J\x1b[?25l")?;
        Ok(Self)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        drop(print(b"\x1b[?25h"));
    }
}

fn print(bytes: &[u8]) -> Result<()> {
    let mut output = io::stdout().lock();
    output
        .write_all(bytes)
        .and_then(|()| output.flush())
        .context("cannot write to standard output")
}

/// Runs `watch`.
pub fn watch(args: &WatchArgs) -> Result<()> {
    // Before anything is drawn.
    let counters = args.counters.clone().unwrap_or_else(modules::debugfs);
    let mut view = View::new(Sample::read(&counters)?);
    let stop = Stop::install()?;
    let waiter = Waiter::new(&stop)?;
    let screen = if io::stdout().is_terminal() && !args.plain {
        Some(Screen::new()?)
    } else {
        print(format!("{}\n", View::HEADING).as_bytes())?;
        None
    };
    let mut then = Instant::now();
    if screen.is_some() {
        print(drawn(&view.screen(), terminal_size()).as_bytes())?;
    }
    while args.count.is_none_or(|count| view.samples < count) {
        let next = then + args.interval;
        while stop.count() == 0 && Instant::now() < next {
            waiter.wait(Some(next.saturating_duration_since(Instant::now())))?;
        }
        if stop.count() != 0 {
            break;
        }
        let now = Instant::now();
        view.advance(Sample::read(&counters)?, now - then);
        then = now;
        if screen.is_some() {
            print(drawn(&view.screen(), terminal_size()).as_bytes())?;
        } else {
            print(format!("{}\n", view.line()).as_bytes())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(counters: [u64; 5], batches: &[u64], stopped: &[&str]) -> Sample {
        Sample {
            counters,
            batches: batches
                .iter()
                .enumerate()
                .map(|(power, calls)| (1 << power, *calls))
                .collect(),
            stopped: stopped.iter().map(|queue| (*queue).to_owned()).collect(),
        }
    }

    #[test]
    fn reads_counters_and_rejects_malformed_ones() {
        let folder = std::env::temp_dir().join(format!("tuntap-watch-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let missing = Sample::read(&folder).unwrap_err().to_string();
        assert!(
            missing.contains("fix: modprobe tuntap_ring"),
            "seen: {missing}"
        );
        for (index, (name, _)) in COUNTERS.iter().enumerate() {
            fs::write(folder.join(name), format!("{index}\n")).unwrap();
        }
        fs::write(folder.join("batches"), "1 7\n2 8\n4 9\n").unwrap();
        fs::write(folder.join("stopped"), "\n").unwrap();
        let expected = sample([0, 1, 2, 3, 4], &[7, 8, 9], &[]);
        assert_eq!(Sample::read(&folder).unwrap(), expected);
        fs::write(folder.join("stopped"), "tap0 0\ntap1 3\n").unwrap();
        assert_eq!(Sample::read(&folder).unwrap().stopped, ["tap0 0", "tap1 3"]);
        for (name, text) in [("batches", "1\n"), ("wakes", "many\n")] {
            fs::write(folder.join(name), text).unwrap();
            let err = Sample::read(&folder).unwrap_err().to_string();
            assert!(err.contains(name), "expected: {name} in it, seen: {err}");
        }
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn counts_since_the_previous_sample() {
        let then = sample([10, 100, 5, 1, 0], &[4, 6], &[]);
        let now = sample([30, 500, 9, 1, 2], &[9, 21], &["tap0 0"]);
        let since = sample([20, 400, 4, 0, 2], &[5, 15], &["tap0 0"]);
        assert_eq!(now.since(&then), since);
        // Counted from nothing again.
        assert_eq!(then.since(&now), then);
    }

    #[test]
    fn prints_one_line_an_interval() {
        let mut view = View::new(Sample::default());
        let next = sample([1000, 64_000, 30, 10, 0], &[1000], &["tap0 0", "tap1 3"]);
        view.advance(next, Duration::from_secs(2));
        assert_eq!(
            view.line(),
            "       2.0          500        32000         15          5     64.0 tap0:0,tap1:3"
        );
        view.advance(Sample::default(), Duration::from_secs(1));
        assert_eq!(
            view.line(),
            "       3.0            0            0          0          0      0.0 -"
        );
    }

    #[test]
    fn draws_counters_batches_and_stopped_queues() {
        let mut view = View::new(sample([7; 5], &[0; 9], &[]));
        let screen = view.screen();
        for line in [
            "tuntap_ring, since it was loaded; Ctrl-C ends",
            "calls                              -                   7",
        ] {
            assert!(
                screen.lines().any(|seen| seen == line),
                "expected: {line}\nseen: {screen}"
            );
        }
        let next = sample(
            [3_000_000, 64, 30, 10, 0],
            &[1_000_000, 2_000_000, 0, 0, 0, 0, 0, 0, 0],
            &["tap0 0"],
        );
        view.advance(next, Duration::from_secs(1));
        let screen = view.screen();
        for line in [
            "tuntap_ring, for 1 s, one sample per 1.0 s; Ctrl-C ends",
            "calls                      2,999,993           3,000,000",
            "        1  33.3 % ####################",
            "      2-3  66.7 % ########################################",
            "     256+   0.0 %",
            "  tap0 0",
        ] {
            assert!(
                screen.lines().any(|seen| seen == line),
                "expected: {line}\nseen: {screen}"
            );
        }
    }

    #[test]
    fn counts_how_long_a_queue_stays_stopped() {
        let stopped = sample([5; 5], &[], &["tap0 0"]);
        let mut view = View::new(stopped.clone());
        for _ in 0..3 {
            view.advance(stopped.clone(), Duration::from_secs(1));
        }
        assert_eq!(view.stopped, [("tap0 0".to_owned(), 4)]);
        assert!(
            view.screen().contains("no ring is consumed"),
            "expected: \"no ring is consumed\" in it, seen: {}",
            view.screen()
        );
        view.advance(sample([5; 5], &[], &["tap0 1"]), Duration::from_secs(1));
        assert_eq!(view.stopped, [("tap0 1".to_owned(), 1)]);
    }

    #[test]
    fn cuts_the_screen_to_the_terminal() {
        let drawn = drawn("one line\nanother\nthird\n", (3, 5));
        assert_eq!(drawn, "\x1b[Hone l\x1b[K\r\nanoth\x1b[K\r\n\x1b[J");
    }

    #[test]
    fn groups_digits_by_thousands() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (12_345_678, "12,345,678"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }
}
