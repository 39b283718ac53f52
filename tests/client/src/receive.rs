// SPDX-License-Identifier: GPL-2.0

//! `receive`: the guest.
//!
//! One thread serves all queues. A round takes up to a batch of used buffers from each queue,
//! checks their frames and hands the buffers out again; only when a round finds nothing does it
//! ask vhost for signals and sleep.

use std::io::{self, BufReader, IsTerminal, Stdout, Write};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use vm_memory::GuestAddress;

use crate::cli::ReceiveArgs;
use crate::control::{Command, Control};
use crate::memory::{BUFFER_LEN, GuestRam, PAGE, buffers_memory};
use crate::packet::{PARSE_LEN, echo_reply, parse};
use crate::report::{self, End, Received, rate};
use crate::sequence::{Source, Tracker, Verdict};
use crate::sys::{Stop, sleep_exactly};
use crate::tap::{self, NUM_BUFFERS, Tap, VNET_HDR_LEN};
use crate::vhost_net::QueuePair;
use crate::virtqueue::{Direction, Virtqueue};
use tuntap_device::wait::Waiter;

/// From the first of several moments to the last.
#[derive(Default)]
struct Span(Option<(Instant, Instant)>);

impl Span {
    fn extend(&mut self, now: Instant) {
        let (first, _) = self.0.unwrap_or((now, now));
        self.0 = Some((first, now));
    }

    fn seconds(&self) -> f64 {
        self.0
            .map_or(0.0, |(first, last)| (last - first).as_secs_f64())
    }
}

/// The counters.
#[derive(Default)]
struct Counts {
    tracker: Tracker,
    numbered: u64,
    strays: u64,
    read: u64,
    leftover: u64,
    /// When numbered packets came.
    numbered_span: Span,
    /// When anything came.
    frames_span: Span,
}

impl Counts {
    /// Records a frame of `len` bytes that begins with `head`.
    fn see(&mut self, head: &[u8], len: usize, source: Source) {
        let verdict = parse(head, len).map(|packet| self.tracker.see(packet, source));
        let numbered = matches!(verdict, Some(Verdict::New | Verdict::Duplicate));
        match source {
            Source::Leftover => self.leftover += 1,
            Source::Virtqueue if numbered => self.numbered += 1,
            Source::Virtqueue => self.strays += 1,
        }
    }

    fn frames(&self) -> u64 {
        self.numbered + self.strays
    }

    /// Records the beginning of a round that received more than `before`: numbered packets and frames.
    fn came(&mut self, before: (u64, u64), now: Instant) {
        if self.numbered > before.0 {
            self.numbered_span.extend(now);
        }
        if self.frames() > before.1 {
            self.frames_span.extend(now);
        }
    }

    fn report(&self, queues: &[Queue], end: Option<End>) -> Received {
        let tracker = &self.tracker;
        let senders: Vec<_> = tracker
            .senders()
            .map(|(id, sender)| report::Sender {
                id,
                received: sender.received,
                leftover: sender.leftover,
                highest: sender.highest,
                gaps: sender.gaps(),
                reorders: sender.reorders,
                duplicates: sender.duplicates,
            })
            .collect();
        let seconds = self.numbered_span.seconds();
        let frames_seconds = self.frames_span.seconds();
        Received {
            received: tracker.total(|sender| sender.received),
            frames: self.frames(),
            numbered: self.numbered,
            strays: self.strays,
            read: self.read,
            gaps: tracker.total(|sender| sender.gaps()),
            reorders: tracker.total(|sender| sender.reorders),
            duplicates: tracker.total(|sender| sender.duplicates),
            leftover: self.leftover,
            leftover_numbered: tracker.total(|sender| sender.leftover),
            highest: match &senders[..] {
                [sender] => Some(sender.highest),
                _ => None,
            },
            seconds,
            pps: rate(self.numbered, seconds),
            frames_seconds,
            frames_pps: rate(self.frames(), frames_seconds),
            end,
            queues: queues
                .iter()
                .map(|queue| report::Queue {
                    frames: queue.frames,
                })
                .collect(),
            senders,
        }
    }
}

/// A queue of the guest's network device.
struct Queue {
    ram: Rc<GuestRam>,
    pair: QueuePair,
    buffers: GuestAddress,
    /// Buffers that still belong to the frame that came last.
    continued: u16,
    frames: u64,
    /// Which file of the tap vhost works on.
    file: usize,
    /// Whether it does.
    on: bool,
    /// The answers to the pings of a round, with their virtio-net headers; none are made without the option.
    answers: Option<Vec<Vec<u8>>>,
}

impl Queue {
    /// Sets up a vhost device and posts all buffers to it.
    fn new(args: &ReceiveArgs, ram: &Rc<GuestRam>, file: usize) -> Result<Self> {
        let pair = QueuePair::open(&args.driver, ram)?;
        let size = u64::from(args.driver.ring_size) * u64::from(BUFFER_LEN);
        let mut queue = Self {
            ram: Rc::clone(ram),
            buffers: ram.allocate(size, PAGE)?,
            continued: 0,
            frames: 0,
            file,
            on: false,
            answers: args.answer_pings.then(Vec::new),
            pair,
        };
        for id in 0..args.driver.ring_size {
            let addr = queue.buffer(id);
            let rx = &mut queue.pair.rx;
            rx.describe(id, addr, BUFFER_LEN, Direction::DeviceWrites)?;
            rx.push(id)?;
        }
        queue.pair.rx.publish()?;
        Ok(queue)
    }

    /// Returns the guest memory of a queue of that size.
    fn memory(ring_size: u16) -> u64 {
        2 * Virtqueue::memory(ring_size) + buffers_memory(ring_size, BUFFER_LEN)
    }

    fn buffer(&self, id: u16) -> GuestAddress {
        GuestAddress(self.buffers.0 + u64::from(id) * u64::from(BUFFER_LEN))
    }

    /// Puts vhost on the tap.
    fn attach(&mut self, tap: &Tap) -> Result<()> {
        self.pair
            .attach(tap.file(self.file)?)
            .with_context(|| format!("cannot attach vhost to {}", tap.name))?;
        self.on = true;
        Ok(())
    }

    /// Takes vhost off the tap.
    fn detach(&mut self) -> Result<()> {
        self.pair.detach()?;
        self.on = false;
        Ok(())
    }

    /// Receives all frames that vhost has delivered.
    fn serve_all(&mut self, batch: u16, counts: &mut Counts) -> Result<()> {
        while self.serve(batch, counts)? > 0 {}
        Ok(())
    }

    /// Takes up to `batch` used buffers and hands them out again. Returns how many.
    fn serve(&mut self, batch: u16, counts: &mut Counts) -> Result<u16> {
        let buffers = self.pair.rx.pending()?.min(batch);
        for _ in 0..buffers {
            let used = self.pair.rx.pop()?;
            ensure!(
                used.len <= BUFFER_LEN,
                "vhost wrote {} bytes into a buffer of {BUFFER_LEN}",
                used.len
            );
            if self.continued > 0 {
                self.continued -= 1;
            } else {
                self.see(self.buffer(used.id), used.len as usize, counts)?;
            }
            self.pair.rx.push(used.id)?;
        }
        self.pair.rx.publish()?;
        Ok(buffers)
    }

    /// Checks a frame of which `len` bytes are in this buffer.
    fn see(&mut self, buffer: GuestAddress, len: usize, counts: &mut Counts) -> Result<()> {
        let mut bytes = [0; VNET_HDR_LEN + PARSE_LEN];
        let head = len.min(bytes.len());
        ensure!(
            head >= VNET_HDR_LEN,
            "vhost gave a frame without its header"
        );
        let bytes = &mut bytes[..head];
        self.ram.read_bytes(buffer.0, bytes)?;
        let mut whole = len - VNET_HDR_LEN;
        if self.pair.mergeable {
            let buffers = u16::from_le_bytes([bytes[NUM_BUFFERS], bytes[NUM_BUFFERS + 1]]);
            ensure!(buffers > 0, "vhost gave a frame of no buffers");
            self.continued = buffers - 1;
            // How long the rest is matters no more than that it is there.
            whole += usize::from(self.continued) * BUFFER_LEN as usize;
        }
        self.frames += 1;
        counts.see(&bytes[VNET_HDR_LEN..], whole, Source::Virtqueue);
        if let Some(answers) = &mut self.answers {
            let mut frame = vec![0; len];
            self.ram.read_bytes(buffer.0, &mut frame)?;
            let (header, rest) = frame.split_at_mut(VNET_HDR_LEN);
            if echo_reply(rest) {
                header.fill(0);
                answers.push(frame);
            }
        }
        Ok(())
    }
}

/// Prints a line a second.
struct Meter {
    on: bool,
    next: Instant,
    frames: u64,
}

const SECOND: Duration = Duration::from_secs(1);

impl Meter {
    fn new(on: bool) -> Self {
        Self {
            on,
            next: Instant::now() + SECOND,
            frames: 0,
        }
    }

    fn tick(&mut self, now: Instant, counts: &Counts) {
        if !self.on || now < self.next {
            return;
        }
        let seconds = (now - self.next + SECOND).as_secs_f64();
        let frames = counts.frames();
        eprintln!(
            "{:.0} frames per second, {frames} in all, {} gaps",
            rate(frames - self.frames, seconds),
            counts.tracker.total(|sender| sender.gaps()),
        );
        self.frames = frames;
        self.next = now + SECOND;
    }
}

struct Guest<'a> {
    args: &'a ReceiveArgs,
    tap: Tap,
    stop: Stop,
    control: Option<Control<Stdout>>,
    paused: bool,
    delay: Duration,
    waiter: Waiter,
    queues: Vec<Queue>,
    counts: Counts,
}

impl Guest<'_> {
    /// Serves each queue once, and sleeps for `--delay` if a frame has moved.
    fn round(&mut self, delay: Duration, now: Instant) -> Result<bool> {
        let before = (self.counts.numbered, self.counts.frames());
        let mut buffers = 0;
        for queue in &mut self.queues {
            buffers += u32::from(queue.serve(self.args.driver.batch, &mut self.counts)?);
            for answer in queue
                .answers
                .iter_mut()
                .flat_map(|answers| answers.drain(..))
            {
                self.tap
                    .file(queue.file)?
                    .write_all(&answer)
                    .context("cannot answer a ping")?;
            }
        }
        self.counts.came(before, now);
        if buffers > 0 && !delay.is_zero() {
            thread::sleep(delay);
        }
        Ok(buffers > 0)
    }

    /// Sleeps until a queue has something, a signal comes or the time is over.
    fn sleep(&mut self, timeout: Option<Duration>) -> Result<()> {
        let mut pending = false;
        for queue in &mut self.queues {
            pending |= queue.pair.rx.enable_interrupts()?;
        }
        if !pending {
            self.waiter.wait(timeout)?;
        }
        for queue in &mut self.queues {
            queue.pair.rx.disable_interrupts()?;
        }
        Ok(())
    }

    /// Executes the commands so far. Returns whether one was `quit`.
    fn obey_all(&mut self) -> Result<bool> {
        // Out of the guest while commands change that.
        let Some(mut control) = self.control.take() else {
            return Ok(false);
        };
        let mut quit = false;
        while let Some(command) = control.next(self.queues.len())? {
            quit |= command == Command::Quit;
            let answer = self.obey(command);
            control.answer(answer)?;
        }
        self.control = Some(control);
        Ok(quit)
    }

    /// Executes a command. Returns the reply.
    fn obey(&mut self, command: Command) -> Result<String> {
        let before = (self.counts.numbered, self.counts.frames());
        match command {
            Command::Pause => self.paused = true,
            Command::Resume => self.paused = false,
            Command::Delay(delay) => self.delay = delay,
            Command::Detach(queue) => self.tap.detach(self.queues[queue].file)?,
            Command::Attach(queue) => self.tap.attach(self.queues[queue].file)?,
            Command::Backend(queue, true) => self.queues[queue].attach(&self.tap)?,
            Command::Backend(queue, false) => self.queues[queue].detach()?,
            Command::Swap(a, b) => self.swap(a, b)?,
            Command::Read(queue, most) => {
                let frames = self.read(queue, most)?;
                self.counts.came(before, Instant::now());
                return Ok(frames.to_string());
            }
            Command::Reopen => self.reopen()?,
            Command::Status => return self.status(),
            Command::Quit => {}
        }
        self.counts.came(before, Instant::now());
        Ok(String::new())
    }

    /// Runs a step without vhost on some queues. All frames that vhost has delivered are received before, so that
    /// frames from a file by another way are in order. Sets vhost's backends again, unless the step failed.
    fn without_vhost(
        &mut self,
        queues: &[usize],
        step: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let were_on: Vec<_> = queues
            .iter()
            .copied()
            .filter(|queue| self.queues[*queue].on)
            .collect();
        for queue in queues {
            let queue = &mut self.queues[*queue];
            if queue.on {
                queue.detach()?;
            }
            queue.serve_all(self.args.driver.batch, &mut self.counts)?;
        }
        step(self)?;
        for queue in were_on {
            self.queues[queue].attach(&self.tap)?;
        }
        Ok(())
    }

    fn swap(&mut self, a: usize, b: usize) -> Result<()> {
        self.without_vhost(&[a, b], |guest| {
            let file = guest.queues[a].file;
            guest.queues[a].file = guest.queues[b].file;
            guest.queues[b].file = file;
            Ok(())
        })
    }

    fn read(&mut self, queue: usize, most: u64) -> Result<u64> {
        let (queue, counts) = (&mut self.queues[queue], &mut self.counts);
        ensure!(
            !queue.on,
            "vhost consumes this queue (fix: `backend Q off`)"
        );
        queue.serve_all(self.args.driver.batch, counts)?;
        let frames = self.tap.read(queue.file, most, |frame| {
            counts.see(
                &frame[..frame.len().min(PARSE_LEN)],
                frame.len(),
                Source::Virtqueue,
            );
            counts.read += 1;
            queue.frames += 1;
        })?;
        Ok(frames)
    }

    fn reopen(&mut self) -> Result<()> {
        ensure!(
            self.args.fd.is_empty(),
            "files that were passed cannot be opened"
        );
        let all: Vec<_> = (0..self.queues.len()).collect();
        self.without_vhost(&all, |guest| {
            guest.tap.queues.clear();
            // A pattern has become a name.
            let source = match source(guest.args) {
                tap::Source::Name(_) => tap::Source::Name(&guest.tap.name),
                other => other,
            };
            guest.tap = Tap::open(&source, guest.args.queues, guest.args.backpressure)?;
            for (file, queue) in guest.queues.iter_mut().enumerate() {
                queue.file = file;
            }
            Ok(())
        })
    }

    fn status(&self) -> Result<String> {
        let status = report::Status {
            received: self.counts.report(&self.queues, None),
            paused: self.paused,
            backends: self
                .queues
                .iter()
                .map(|queue| report::Backend {
                    file: queue.file,
                    fd: self.tap.queues.get(queue.file).map(AsRawFd::as_raw_fd),
                    on: queue.on,
                })
                .collect(),
        };
        serde_json::to_string(&status).context("cannot make JSON")
    }

    /// Receives until something ends it.
    fn run(&mut self) -> Result<End> {
        let start = Instant::now();
        let deadline = self.args.duration.map(|duration| start + duration);
        let mut meter = Meter::new(self.args.verbose || io::stderr().is_terminal());
        loop {
            let now = Instant::now();
            meter.tick(now, &self.counts);
            let quit = self.obey_all()?;
            if quit || self.stop.count() > 0 {
                if !self.args.no_drain {
                    self.drain(meter)?;
                }
                return Ok(if quit { End::Quit } else { End::Signal });
            }
            if deadline.is_some_and(|deadline| now >= deadline) {
                return Ok(End::Duration);
            }
            if self
                .args
                .stop_after
                .is_some_and(|frames| self.counts.frames() >= frames)
            {
                return Ok(End::Frames);
            }
            let tick = meter.on.then_some(meter.next);
            let until = deadline.into_iter().chain(tick).min();
            let timeout = until.map(|until| until.saturating_duration_since(now));
            if self.paused {
                self.waiter.wait(timeout)?;
            } else if !self.round(self.delay, now)? {
                self.sleep(timeout)?;
            }
        }
    }

    /// Receives at full speed until no frame comes for `--idle`, or another signal comes.
    fn drain(&mut self, mut meter: Meter) -> Result<()> {
        let signals = self.stop.count();
        let mut last = Instant::now();
        loop {
            let now = Instant::now();
            meter.tick(now, &self.counts);
            if self.round(Duration::ZERO, now)? {
                last = now;
            } else if now - last >= self.args.idle {
                return Ok(());
            } else {
                self.sleep(Some(last + self.args.idle - now))?;
            }
            if self.stop.count() > signals {
                return Ok(());
            }
        }
    }

    /// Takes vhost off the tap, and counts the frames that it has delivered, and those that it left.
    fn finish(&mut self) -> Result<()> {
        for queue in &mut self.queues {
            queue.detach()?;
        }
        let now = Instant::now();
        while self.round(Duration::ZERO, now)? {}
        let (stop, counts) = (&self.stop, &mut self.counts);
        let signals = stop.count();
        let hurry = || stop.count() > signals;
        let whole = self.tap.read_rest(self.args.idle, hurry, |frame| {
            counts.see(
                &frame[..frame.len().min(PARSE_LEN)],
                frame.len(),
                Source::Leftover,
            );
        })?;
        if !whole {
            eprintln!("tuntap-client: frames keep coming: not all that are left were counted");
        }
        Ok(())
    }
}

/// Returns the source in the arguments.
fn source(args: &ReceiveArgs) -> tap::Source<'_> {
    match (&args.tap, &args.device) {
        (Some(name), _) => tap::Source::Name(name),
        (_, Some(path)) => tap::Source::Device(path),
        _ => tap::Source::Fds(&args.fd),
    }
}

/// Runs `receive`.
pub fn receive(args: &ReceiveArgs) -> Result<()> {
    report::not_ready(args.ready.as_deref())?;
    let stop = Stop::install()?;
    sleep_exactly();

    let tap = Tap::open(&source(args), args.queues, args.backpressure)?;

    let ram = tap.queues.len() as u64 * Queue::memory(args.driver.ring_size);
    let ram = Rc::new(GuestRam::with_room(ram)?);
    let mut queues = (0..tap.queues.len())
        .map(|file| Queue::new(args, &ram, file))
        .collect::<Result<Vec<_>>>()?;

    let waiter = Waiter::new(&stop)?;
    for queue in &queues {
        waiter.watch(queue.pair.rx.call().as_raw_fd())?;
    }
    for queue in &mut queues {
        queue.attach(&tap)?;
    }
    let control = args
        .control
        .then(|| Control::new(BufReader::new(io::stdin()), io::stdout()))
        .transpose()?;
    if let Some(control) = &control {
        waiter.watch(control.event().as_raw_fd())?;
    }
    if let Some(ready) = &args.ready {
        report::write_file(ready, format!("{}\n", tap.name).as_bytes())?;
    }

    let mut guest = Guest {
        args,
        tap,
        stop,
        control,
        paused: false,
        delay: args.driver.delay,
        waiter,
        queues,
        counts: Counts::default(),
    };
    let end = guest.run()?;
    guest.finish()?;
    let result = guest.counts.report(&guest.queues, Some(end));
    if args.control {
        eprintln!("{result}");
    } else {
        println!("{result}");
    }
    report::write_json(args.json.as_deref(), &result)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::packet::{Addresses, MacAddr, frame, set_frame_number};

    fn numbered(number: u64) -> Vec<u8> {
        let addresses = Addresses {
            src_mac: MacAddr([2, 0, 0, 0, 0, 1]),
            dst_mac: MacAddr([2, 0, 0, 0, 0, 2]),
            src: Ipv4Addr::new(10, 99, 0, 1),
            dst: Ipv4Addr::new(10, 99, 0, 2),
            src_port: 40000,
        };
        let mut frame = frame(&addresses, 64, 0);
        set_frame_number(&mut frame, number);
        frame
    }

    #[test]
    fn counts_numbered_stray_and_leftover_frames_apart() {
        let mut counts = Counts::default();
        for number in [0, 1, 1, 3] {
            let frame = numbered(number);
            counts.see(&frame, frame.len(), Source::Virtqueue);
        }
        counts.see(&[0; 60], 60, Source::Virtqueue);
        let frame = numbered(2);
        counts.see(&frame, frame.len(), Source::Leftover);
        counts.see(&[0; 60], 60, Source::Leftover);

        let result = counts.report(&[], Some(End::Signal));
        assert_eq!((result.frames, result.numbered, result.strays), (5, 4, 1));
        assert_eq!((result.received, result.duplicates), (3, 1));
        assert_eq!((result.leftover, result.leftover_numbered), (2, 1));
        assert_eq!((result.gaps, result.reorders), (0, 1));
        assert_eq!(result.highest, Some(3));
    }

    #[test]
    fn reports_rates_of_numbered_packets_and_of_all_frames() {
        let mut counts = Counts::default();
        let start = Instant::now();
        let mut round = |frame: &[u8], seconds| {
            let before = (counts.numbered, counts.frames());
            counts.see(frame, frame.len(), Source::Virtqueue);
            counts.came(before, start + Duration::from_secs(seconds));
        };
        round(&[0; 60], 0);
        round(&numbered(0), 1);
        round(&numbered(1), 2);
        round(&[0; 60], 4);
        let now = start + Duration::from_secs(8);
        counts.came((counts.numbered, counts.frames()), now);

        let result = counts.report(&[], Some(End::Signal));
        for (found, expected) in [
            (result.seconds, 1.0),
            (result.pps, 2.0),
            (result.frames_seconds, 4.0),
            (result.frames_pps, 1.0),
        ] {
            assert!(
                (found - expected).abs() < 1e-9,
                "expected: {expected}, seen: {found}"
            );
        }
    }

    #[test]
    fn guest_memory_has_room_for_rings_and_buffers() {
        for ring_size in [1, 2, 256, 1024] {
            let ram = GuestRam::new(Queue::memory(ring_size) as usize).unwrap();
            let ram = Rc::new(ram);
            for _ in 0..2 {
                Virtqueue::new(&ram, ring_size, true).unwrap();
            }
            let buffers = u64::from(ring_size) * u64::from(BUFFER_LEN);
            assert!(
                ram.allocate(buffers, PAGE).is_ok(),
                "expected: no error for {ring_size:?}"
            );
        }
    }
}
