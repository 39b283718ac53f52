// SPDX-License-Identifier: GPL-2.0

//! `src/consume.rs` among its surroundings, on loom: all executions of C11's memory model within
//! the bounds that are printed. See `../README.rst`.
//!
//! ```text
//! weak list                           the groups, one a line
//! weak check GROUP                    checks a group; exits with 0 if all properties hold
//! weak mutant NAME GROUP PROPERTY     exits with 0 if the mistake breaks that very property there,
//!                                     and prints the way to it
//! ```

#[macro_use]
mod ring;
mod sync;
mod trace;

// The code under test is not all used here, and its copies are not this crate's to tidy.
#[allow(dead_code, unused, clippy::all, missing_docs, reason = "generated")]
mod sources {
    include!(concat!(env!("OUT_DIR"), "/sources.rs"));
}

use loom::{
    model::Builder,
    sync::{
        Arc,
        atomic::{Ordering, fence},
    },
    thread,
};
use ring::{Adapter, World};
use std::{
    env, panic,
    process::{Command, ExitCode},
    sync::{Arc as StdArc, OnceLock, atomic::AtomicU64},
    time::Instant,
};

/// Who takes part besides the consumer and the senders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Other {
    Nobody,
    LinkDown,
    Detach,
}

/// Runs that share their threads.
struct Group {
    name: &'static str,
    about: &'static str,
    senders: usize,
    other: Other,
    /// Size, batch, offset of the indices, how many entries are asked for, how many each sender
    /// sends, and the bound on preemptions.
    runs: &'static [(usize, usize, usize, usize, usize, Option<usize>)],
}

const GROUPS: &[Group] = &[
    Group {
        name: "one-sender",
        about: "one sender, as a qdisc is: it loses nothing, and is never left stopped",
        senders: 1,
        other: Other::Nobody,
        runs: &[
            (1, 1, 0, 1, 2, None),
            (1, 1, 0, 2, 3, Some(5)),
            (2, 1, 0, 1, 3, Some(4)),
            (2, 1, 1, 2, 3, Some(4)),
            (2, 2, 0, 2, 3, Some(4)),
            (2, 2, 1, 1, 3, Some(4)),
            (3, 1, 1, 3, 4, Some(3)),
            (3, 2, 2, 2, 4, Some(3)),
            (4, 1, 0, 4, 5, Some(3)),
            (4, 2, 0, 4, 5, Some(3)),
            (4, 2, 3, 1, 5, Some(3)),
        ],
    },
    Group {
        name: "two-senders",
        about: "two senders that bypass the qdisc, and race",
        senders: 2,
        other: Other::Nobody,
        runs: &[
            (1, 1, 0, 1, 1, Some(2)),
            (1, 1, 0, 2, 2, Some(2)),
            (2, 1, 0, 2, 2, Some(2)),
            (2, 2, 1, 1, 2, Some(2)),
            (3, 1, 0, 3, 2, Some(2)),
            (3, 2, 0, 2, 2, Some(2)),
            (4, 2, 1, 4, 3, Some(1)),
        ],
    },
    Group {
        name: "link",
        about: "one sender, and the link goes down: the queue stays stopped",
        senders: 1,
        other: Other::LinkDown,
        runs: &[
            (1, 1, 0, 1, 2, Some(2)),
            (2, 1, 0, 2, 3, Some(2)),
            (2, 2, 1, 2, 3, Some(2)),
            (3, 2, 0, 3, 4, Some(2)),
        ],
    },
    Group {
        name: "detach",
        about: "one sender, and the file is detached: the queue is another's",
        senders: 1,
        other: Other::Detach,
        runs: &[
            (1, 1, 0, 1, 2, Some(2)),
            (2, 1, 0, 2, 3, Some(2)),
            (2, 2, 1, 2, 3, Some(2)),
            (3, 2, 0, 3, 4, Some(2)),
        ],
    },
    Group {
        name: "head",
        about: "a lockless reader that sees a freed slot, and then looks at the head, does not find the old one",
        senders: 0,
        other: Other::Nobody,
        runs: &[
            (1, 1, 0, 1, 1, None),
            (2, 1, 0, 1, 2, None),
            (2, 2, 0, 2, 2, None),
            (3, 1, 1, 3, 3, None),
            (4, 2, 2, 4, 4, None),
        ],
    },
];

/// The property that is looked for; any if there is none.
static WANTED: OnceLock<String> = OnceLock::new();

/// A property: broken unless `holds`. The text is made only then.
pub(crate) fn must(holds: bool, property: &str, why: impl FnOnce() -> String) {
    if !holds && WANTED.get().is_none_or(|wanted| wanted == property) {
        panic!("[{property}] {}", why());
    }
}

/// The consumer: calls as long as it sees entries, then waits, until all there will be has come.
/// So no call that finds nothing comes to the help of one that missed a stop. Returns how many
/// entries it took.
fn consumer(world: &World, adapter: Adapter, group: &Group, n: usize, total: usize) -> usize {
    // One sender alone loses nothing.
    let all = group.senders == 1 && group.other == Other::Nobody;
    let mut count = 0;
    let mut last = false;
    while !all || count < total {
        if !world.is_dry() {
            let taken = adapter(world, n);
            world.check_taken(&taken, count);
            must(!taken.is_empty(), "conservation", || {
                "an entry at the head, and none was handed out".to_owned()
            });
            count += taken.len();
            continue;
        }
        if last {
            break;
        }
        // Nothing is scheduled between this look and the wait.
        last = world.done.load(Ordering::Relaxed) == group.senders;
        if last {
            // So that all that they produced is seen.
            drop(world.producer_lock.lock().expect("no thread panicked"));
        } else {
            note!("sleeps");
            world.data.wait();
        }
    }
    count
}

/// Starts a thread with a name.
fn spawn<T: Send + 'static>(
    name: String,
    f: impl FnOnce() -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    thread::Builder::new()
        .name(name)
        .spawn(f)
        .expect("loom starts any thread")
}

/// One execution with senders.
fn senders(group: &'static Group, run: usize, adapter: Adapter) {
    let (size, batch, offset, n, sends, _) = group.runs[run];
    let total = group.senders * sends;
    let quiet = group.other == Other::Nobody;
    let world = Arc::new(World::new(size, batch, offset, group.senders, quiet));
    let senders: Vec<_> = (0..group.senders)
        .map(|me| {
            let world = Arc::clone(&world);
            spawn(format!("sender {me}"), move || world.sender(me, sends))
        })
        .collect();
    let other = (!quiet).then(|| {
        let world = Arc::clone(&world);
        spawn(format!("{:?}", group.other), move || match group.other {
            Other::LinkDown => world.link_down(),
            _ => world.detach(),
        })
    });
    let count = consumer(&world, adapter, group, n, total);
    let dropped: usize = senders
        .into_iter()
        .map(|sender| sender.join().expect("no thread panicked"))
        .sum();
    if let Some(other) = other {
        other.join().expect("no thread panicked");
    }
    let stopped = world.stopped.load(Ordering::Relaxed);
    match group.other {
        Other::Nobody => {
            must(count + dropped == total, "conservation", || {
                format!("{count} taken, {dropped} dropped, {total} sent")
            });
            must(!stopped, "liveness", || {
                "the queue stays stopped".to_owned()
            });
        }
        Other::LinkDown => must(stopped, "running", || {
            "the queue of a device that is down was woken".to_owned()
        }),
        Other::Detach => {}
    }
}

/// One execution of a reader without a lock, beside a consumer, in a full ring.
fn reader(group: &'static Group, run: usize, adapter: Adapter) {
    let (size, batch, offset, n, sends, _) = group.runs[run];
    let world = Arc::new(World::new(size, batch, offset, 1, true));
    world.sender(0, sends);
    let reader = {
        let world = Arc::clone(&world);
        spawn("reader".to_owned(), move || {
            let empty = world.slots[offset].0.load(Ordering::Relaxed) == 0;
            // smp_rmb()
            fence(Ordering::Acquire);
            let head = world.head.load(Ordering::Relaxed);
            // In a ring that is consumed as a whole the head comes round to the same slot, and
            // the ring is empty indeed.
            note!(
                "sees the first slot {}, then the head: {head}",
                if empty { "empty" } else { "occupied" }
            );
            must(!empty || head != offset || n >= size, "head", || {
                "the slot at the head is empty, and the ring has entries".to_owned()
            });
        })
    };
    let taken = adapter(&world, n.min(size.max(2) - 1));
    world.check_taken(&taken, 0);
    reader.join().expect("no thread panicked");
}

fn source(name: &str) -> Result<Adapter, String> {
    sources::SOURCES
        .iter()
        .find(|source| source.0 == name)
        .map(|source| source.1)
        .ok_or_else(|| format!("{name}: no such copy of the source; was this built with MUTANTS=?"))
}

fn group(name: &str) -> Result<&'static Group, String> {
    GROUPS
        .iter()
        .find(|group| group.name == name)
        .ok_or_else(|| format!("{name}: no such group"))
}

/// Checks a group, and prints what it did. A breach is a panic.
fn run(name: &str, in_group: &str) -> Result<(), String> {
    let adapter = source(name)?;
    let group = group(in_group)?;
    println!("{}", group.about);
    for (index, &(size, batch, offset, n, sends, bound)) in group.runs.iter().enumerate() {
        let start = Instant::now();
        let executions = StdArc::new(AtomicU64::new(0));
        let mut builder = Builder::new();
        builder.preemption_bound = bound;
        builder.max_branches = 10_000;
        let counter = StdArc::clone(&executions);
        println!(
            "ring of {size}, batch of {batch}, from slot {offset}, calls for {n}, {} senders of {sends}: ",
            group.senders
        );
        builder.check(move || {
            counter.fetch_add(1, Ordering::Relaxed);
            trace::start();
            if group.senders == 0 {
                reader(group, index, adapter);
            } else {
                senders(group, index, adapter);
            }
        });
        println!(
            "  {} executions, {}, {:.1} s",
            executions.load(Ordering::Relaxed),
            bound.map_or("all there are".to_owned(), |bound| format!(
                "up to {bound} preemptions"
            )),
            start.elapsed().as_secs_f32()
        );
    }
    Ok(())
}

/// The property that a panic's text names.
fn property(text: &str) -> Option<&str> {
    if text.contains("deadlock") {
        return Some("liveness");
    }
    let rest = &text[text.find('[')? + 1..];
    rest.find(']').map(|end| &rest[..end])
}

/// Runs a group of a copy, up to the first panic, which is printed with what lead to it.
fn seek(name: &str, group: &str, wanted: &str) -> Result<(), String> {
    WANTED.set(wanted.to_owned()).expect("set once");
    trace::want();
    panic::set_hook(Box::new(|info| {
        let text = info
            .payload()
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| info.payload().downcast_ref::<&str>().copied())
            .unwrap_or("a panic without a text");
        println!(
            "  {} is broken: {text}",
            property(text).unwrap_or("nothing that is known")
        );
        trace::print();
    }));
    run(name, group)
}

/// Seeks in a process of its own, for loom may not survive what it found.
fn mutant(name: &str, in_group: &str, wanted: &str) -> Result<(), String> {
    source(name)?;
    group(in_group)?;
    let output = env::current_exe()
        .and_then(|program| {
            Command::new(program)
                .args(["seek", name, in_group, wanted])
                .output()
        })
        .map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stdout);
    print!("{said}");
    let broken = said
        .lines()
        .find_map(|line| line.trim_start().split_once(" is broken: "))
        .map(|(property, _)| property);
    match broken {
        Some(property) if property == wanted => Ok(()),
        Some(property) => Err(format!("{name}: broke {property}, not {wanted}")),
        None => Err(format!("{name}: survived; it should have broken {wanted}")),
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        ["list"] => {
            GROUPS.iter().for_each(|group| println!("{}", group.name));
            Ok(())
        }
        ["check", name] => run("shipped", name).map(|()| println!("all properties hold")),
        ["seek", name, group, wanted] => seek(name, group, wanted),
        ["mutant", name, group, property] => mutant(name, group, property),
        _ => Err("usage: weak list | check GROUP | mutant NAME GROUP PROPERTY".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}
