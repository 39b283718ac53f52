// SPDX-License-Identifier: GPL-2.0

//! `forward`: the guest as a bridge between two network devices.
//!
//! ```text
//!   tap A ring ─▶ vhost ─▶ rx of A ──▶ tx of B ─▶ vhost ─▶ tap B
//!   tap A ◀─ vhost ◀─ tx of A ◀── rx of B ◀─ vhost ◀─ tap B ring
//! ```
//!
//! Nothing is copied here: a buffer that vhost has filled at one side is handed to vhost at the
//! other side where it is, and goes back to be filled once it was sent. A receive queue has as many
//! buffers as the transmit queue across has descriptors, so that buffer and descriptor have the same
//! number, and there is always a descriptor. Nothing is dropped here either: while the far side is
//! slow its queue holds the buffers, vhost has none to fill, and the frames stay in the tap's ring.

use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use vm_memory::GuestAddress;

use crate::cli::ForwardArgs;
use crate::memory::{BUFFER_LEN, GuestRam, LARGE_BUFFER_LEN, PAGE, buffers_memory};
use crate::report::{self, Forwarded};
use crate::sys::{Stop, sleep_exactly};
use crate::tap::{NUM_BUFFERS, Source, Tap, VNET_HDR_LEN, set_offloads};
use crate::vhost_net::QueuePair;
use crate::virtqueue::{Direction, Used, Virtqueue};
use tuntap_device::wait::Waiter;

/// The buffers of one way: filled at its beginning, sent at its end.
struct Buffers {
    ram: Rc<GuestRam>,
    start: GuestAddress,
    count: u16,
    len: u32,
    /// Whether vhost reports the number of buffers of a frame.
    mergeable: bool,
    /// Number of buffers that are being sent.
    sending: u16,
    moved: report::Way,
}

impl Buffers {
    fn new(ram: &Rc<GuestRam>, count: u16, len: u32, mergeable: bool) -> Result<Self> {
        Ok(Self {
            ram: Rc::clone(ram),
            start: ram.allocate(u64::from(count) * u64::from(len), PAGE)?,
            count,
            len,
            mergeable,
            sending: 0,
            moved: report::Way::default(),
        })
    }

    fn address(&self, id: u16) -> GuestAddress {
        GuestAddress(self.start.0 + u64::from(id) * u64::from(self.len))
    }

    /// Hands out all buffers to be filled.
    fn post(&self, rx: &mut Virtqueue) -> Result<()> {
        for id in 0..self.count {
            rx.describe(id, self.address(id), self.len, Direction::DeviceWrites)?;
            rx.push(id)?;
        }
        rx.publish()
    }

    /// Takes back the buffers that were sent, and sends up to `batch` that were filled. Returns
    /// whether there were any of either.
    fn serve(&mut self, rx: &mut Virtqueue, tx: &mut Virtqueue, batch: u16) -> Result<bool> {
        self.moved.full_rounds += u64::from(self.sending == self.count);
        let sent = tx.pending()?;
        for _ in 0..sent {
            let id = tx.pop()?.id;
            rx.describe(id, self.address(id), self.len, Direction::DeviceWrites)?;
            rx.push(id)?;
        }
        rx.publish()?;
        let filled = rx.pending()?.min(batch);
        for _ in 0..filled {
            let used = rx.pop()?;
            self.see(used)?;
            // The header is unchanged: its offloads are still to be done.
            let address = self.address(used.id);
            tx.describe(used.id, address, used.len, Direction::DeviceReads)?;
            tx.push(used.id)?;
        }
        tx.publish()?;
        self.sending = self.sending - sent + filled;
        Ok(sent > 0 || filled > 0)
    }

    /// Records a frame.
    fn see(&mut self, used: Used) -> Result<()> {
        ensure!(
            used.len >= VNET_HDR_LEN as u32 && used.len <= self.len,
            "vhost wrote {} bytes of frame and header into a buffer of {}",
            used.len,
            self.len
        );
        if self.mergeable {
            let mut number = [0; 2];
            let at = self.address(used.id).0 + NUM_BUFFERS as u64;
            self.ram.read_bytes(at, &mut number)?;
            ensure!(
                u16::from_le_bytes(number) == 1,
                "a frame requires several buffers (fix: use an MTU of 1500)"
            );
        }
        self.moved.frames += 1;
        self.moved.bytes += u64::from(used.len) - VNET_HDR_LEN as u64;
        Ok(())
    }

    /// Requests signals: when a buffer was filled, and when one was sent if few are left to fill.
    /// Returns whether there is something to do already.
    fn ask(&self, rx: &mut Virtqueue, tx: &mut Virtqueue) -> Result<bool> {
        let mut pending = rx.enable_interrupts()?;
        if self.sending > self.count / 2 {
            pending |= tx.enable_interrupts()?;
        }
        Ok(pending)
    }
}

fn buffer_len(args: &ForwardArgs) -> u32 {
    if args.offloads {
        LARGE_BUFFER_LEN
    } else {
        BUFFER_LEN
    }
}

/// One of the two network devices, and the way that begins there.
struct Side {
    tap: Tap,
    pair: QueuePair,
    buffers: Buffers,
}

impl Side {
    /// Opens the tap, and sets up a vhost device that has all buffers to fill.
    fn new(args: &ForwardArgs, name: &str, ram: &Rc<GuestRam>) -> Result<Self> {
        let tap = Tap::open(&Source::Name(name), 1, args.backpressure)?;
        if args.offloads {
            set_offloads(&tap.queues[0])?;
        }
        let mut pair = QueuePair::open(&args.driver, ram)?;
        let buffers = Buffers::new(ram, args.driver.ring_size, buffer_len(args), pair.mergeable)?;
        buffers.post(&mut pair.rx)?;
        Ok(Self { tap, pair, buffers })
    }

    /// Returns the guest memory of a side.
    fn memory(ring_size: u16, buffer_len: u32) -> u64 {
        2 * Virtqueue::memory(ring_size) + buffers_memory(ring_size, buffer_len)
    }

    fn attach(&self) -> Result<()> {
        self.pair
            .attach(&self.tap.queues[0])
            .with_context(|| format!("cannot attach vhost to {}", self.tap.name))
    }

    fn serve(&mut self, to: &mut Self, batch: u16) -> Result<bool> {
        self.buffers
            .serve(&mut self.pair.rx, &mut to.pair.tx, batch)
    }

    fn ask(&mut self, to: &mut Self) -> Result<bool> {
        self.buffers.ask(&mut self.pair.rx, &mut to.pair.tx)
    }
}

struct Bridge<'a> {
    args: &'a ForwardArgs,
    stop: Stop,
    waiter: Waiter,
    a: Side,
    b: Side,
}

impl Bridge<'_> {
    /// Serves both ways once. Returns whether something moved.
    fn round(&mut self) -> Result<bool> {
        let there = self.a.serve(&mut self.b, self.args.driver.batch)?;
        let back = self.b.serve(&mut self.a, self.args.driver.batch)?;
        Ok(there | back)
    }

    /// Sleeps until there is something to do, or `until`.
    fn sleep(&mut self, until: Option<Instant>) -> Result<()> {
        let pending = self.a.ask(&mut self.b)? | self.b.ask(&mut self.a)?;
        if !pending {
            self.waiter
                .wait(until.map(|until| until.saturating_duration_since(Instant::now())))?;
        }
        for pair in [&mut self.a.pair, &mut self.b.pair] {
            pair.rx.disable_interrupts()?;
            pair.tx.disable_interrupts()?;
        }
        Ok(())
    }

    /// Forwards until a signal comes, and then until nothing moves for a while or another comes.
    fn run(&mut self) -> Result<()> {
        let mut last = None;
        loop {
            let moved = self.round()?;
            let signals = self.stop.count();
            if moved && !self.args.driver.delay.is_zero() {
                thread::sleep(self.args.driver.delay);
            }
            if signals > 0 {
                let now = Instant::now();
                let idle = *last.get_or_insert(now) + self.args.idle;
                if moved {
                    last = Some(now);
                } else if now >= idle || signals > 1 {
                    return Ok(());
                } else {
                    self.sleep(Some(idle))?;
                }
            } else if !moved && !self.args.poll {
                self.sleep(None)?;
            }
        }
    }
}

/// Runs `forward`.
pub fn forward(args: &ForwardArgs) -> Result<()> {
    report::not_ready(args.ready.as_deref())?;
    let stop = Stop::install()?;
    sleep_exactly();

    let [a, b] = &args.tap[..] else {
        unreachable!("clap has counted them");
    };
    let ram = Rc::new(GuestRam::with_room(
        2 * Side::memory(args.driver.ring_size, buffer_len(args)),
    )?);
    let a = Side::new(args, a, &ram)?;
    let b = Side::new(args, b, &ram)?;
    let waiter = Waiter::new(&stop)?;
    for side in [&a, &b] {
        waiter.watch(side.pair.rx.call().as_raw_fd())?;
        waiter.watch(side.pair.tx.call().as_raw_fd())?;
        side.attach()?;
    }
    if let Some(ready) = &args.ready {
        let names = format!("{} {}\n", a.tap.name, b.tap.name);
        report::write_file(ready, names.as_bytes())?;
    }

    let mut bridge = Bridge {
        args,
        stop,
        waiter,
        a,
        b,
    };
    bridge.run()?;
    for side in [&bridge.a, &bridge.b] {
        side.pair.detach()?;
    }
    let result = Forwarded {
        there: bridge.a.buffers.moved,
        back: bridge.b.buffers.moved,
    };
    println!("{result}");
    report::write_json(args.json.as_deref(), &result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtqueue::device;

    struct Bed {
        buffers: Buffers,
        rx: Virtqueue,
        tx: Virtqueue,
    }

    fn bed(count: u16) -> Bed {
        let ram = Rc::new(GuestRam::with_room(Side::memory(count, BUFFER_LEN)).unwrap());
        let mut bed = Bed {
            rx: Virtqueue::new(&ram, count, true).unwrap(),
            tx: Virtqueue::new(&ram, count, true).unwrap(),
            buffers: Buffers::new(&ram, count, BUFFER_LEN, false).unwrap(),
        };
        bed.buffers.post(&mut bed.rx).unwrap();
        bed
    }

    impl Bed {
        fn serve(&mut self, batch: u16) -> bool {
            self.buffers
                .serve(&mut self.rx, &mut self.tx, batch)
                .unwrap()
        }
    }

    #[test]
    fn forwards_a_buffer_and_posts_it_again() {
        let mut bed = bed(4);
        assert!(!bed.serve(64), "expected: nothing to serve");
        device::uses(&bed.rx, 0, 100);
        assert!(bed.serve(64));
        let sent = device::buffer(&bed.tx, 0);
        assert_eq!((sent.addr(), sent.len()), (bed.buffers.address(0), 100));
        assert!(!sent.is_write_only());
        assert!(
            !bed.serve(64),
            "expected: nothing, as the buffer is being sent"
        );
        device::uses(&bed.tx, 0, 0);
        assert!(bed.serve(64));
        let posted = device::buffer(&bed.rx, 4);
        assert_eq!(
            (posted.addr(), posted.len()),
            (bed.buffers.address(0), BUFFER_LEN)
        );
        assert!(posted.is_write_only());
        assert_eq!(bed.buffers.moved.frames, 1);
        assert_eq!(bed.buffers.moved.bytes, 100 - VNET_HDR_LEN as u64);
    }

    #[test]
    fn drops_nothing_while_the_far_side_does_not_send() {
        let mut bed = bed(4);
        for at in 0..4 {
            device::uses(&bed.rx, at, 60);
        }
        assert!(bed.serve(3) && bed.serve(3));
        assert_eq!(bed.buffers.moved.frames, 4);
        assert!(!bed.serve(64), "expected: nothing, as vhost has no buffer");
        assert_eq!(bed.buffers.moved.full_rounds, 1);
        for at in 0..4 {
            device::uses(&bed.tx, at, 0);
        }
        assert!(bed.serve(64));
        assert_eq!(bed.buffers.sending, 0);
    }

    #[test]
    fn requests_sent_buffers_when_few_are_left() {
        let mut bed = bed(4);
        for at in 0..3 {
            device::uses(&bed.rx, at, 60);
        }
        bed.serve(2);
        device::uses(&bed.tx, 0, 0);
        let asked = |bed: &mut Bed| bed.buffers.ask(&mut bed.rx, &mut bed.tx).unwrap();
        assert!(asked(&mut bed), "expected: one more was filled");
        bed.serve(0);
        bed.serve(1);
        assert_eq!(bed.buffers.sending, 2);
        device::uses(&bed.tx, 1, 0);
        assert!(
            !asked(&mut bed),
            "expected: no more, as half of them can be filled"
        );
    }

    #[test]
    fn rejects_frames_that_do_not_fit() {
        for len in [VNET_HDR_LEN as u32 - 1, BUFFER_LEN + 1] {
            let mut bed = bed(2);
            device::uses(&bed.rx, 0, len);
            assert!(
                bed.buffers.serve(&mut bed.rx, &mut bed.tx, 1).is_err(),
                "{len}"
            );
        }
    }
}
