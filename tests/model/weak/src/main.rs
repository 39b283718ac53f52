// SPDX-License-Identifier: GPL-2.0

//! `src/consume.rs` among its surroundings, on loom: all executions of C11's memory model within
//! the bounds that are printed. See `../README.rst`.
//!
//! ```text
//! weak list                the groups, one a line
//! weak teeth               the mistakes and the groups that have to find them, one pair a line
//! weak check GROUP         checks a group; exits with 0 if all properties hold
//! weak tooth NAME GROUP    exits with 0 if the mistake is found as what it is
//! ```

mod ring;
mod sync;

// The code under test is not all used here, and its copies are not this crate's to tidy.
#[allow(dead_code, unused, clippy::all, missing_docs, reason = "generated")]
mod sources {
    include!(concat!(env!("OUT_DIR"), "/sources.rs"));
}

use loom::{
    model::Builder,
    sync::{Arc, atomic::{Ordering, fence}},
    thread,
};
use ring::{Adapter, World};
use std::{
    env,
    process::{Command, ExitCode},
    sync::{Arc as StdArc, atomic::AtomicU64},
    time::Instant,
};
use variants::{Checker, TEETH};

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

/// The consumer: calls until all there will be has come. Returns what it took.
fn consumer(world: &World, adapter: Adapter, group: &Group, n: usize, total: usize) -> usize {
    // One sender alone loses nothing.
    let all = group.senders == 1 && group.other == Other::Nobody;
    let mut count = 0;
    let mut last = false;
    while !all || count < total {
        let taken = adapter(world, n);
        world.check_taken(&taken, count);
        count += taken.len();
        if !taken.is_empty() {
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
            world.data.wait();
        }
    }
    count
}

/// One execution with senders.
fn senders(group: &'static Group, run: usize, adapter: Adapter) {
    let (size, batch, offset, n, sends, _) = group.runs[run];
    let total = group.senders * sends;
    let quiet = group.other == Other::Nobody;
    let world = Arc::new(World::new(size, batch, offset, group.senders, total, quiet));
    let senders: Vec<_> = (0..group.senders)
        .map(|me| {
            let world = Arc::clone(&world);
            thread::spawn(move || world.sender(me, sends))
        })
        .collect();
    let other = (!quiet).then(|| {
        let world = Arc::clone(&world);
        thread::spawn(move || match group.other {
            Other::LinkDown => world.link_down(),
            _ => world.detach(),
        })
    });
    let count = consumer(&world, adapter, group, n, total);
    let dropped: usize = senders.into_iter().map(|sender| sender.join().expect("no thread panicked")).sum();
    if let Some(other) = other {
        other.join().expect("no thread panicked");
    }
    let stopped = world.stopped.load(Ordering::Relaxed);
    match group.other {
        Other::Nobody => {
            assert_eq!(count + dropped, total, "[conservation]");
            assert!(dropped == 0 || group.senders > 1, "[no-drop]");
            assert!(!stopped, "[liveness]");
        }
        Other::LinkDown => assert!(stopped, "[running]"),
        Other::Detach => {}
    }
}

/// One execution of a reader without a lock, beside a consumer, in a full ring.
fn reader(group: &'static Group, run: usize, adapter: Adapter) {
    let (size, batch, offset, n, sends, _) = group.runs[run];
    let world = Arc::new(World::new(size, batch, offset, 1, sends, true));
    world.sender(0, sends);
    let reader = {
        let world = Arc::clone(&world);
        thread::spawn(move || {
            let empty = world.slots[offset].0.load(Ordering::Relaxed) == 0;
            // smp_rmb()
            fence(Ordering::Acquire);
            let head = world.head.load(Ordering::Relaxed);
            // In a ring that is consumed as a whole the head comes round to the same slot, and
            // the ring is empty indeed.
            assert!(!empty || head != offset || n >= size, "[head]");
        })
    };
    let taken = adapter(&world, n.min(size.max(2) - 1));
    world.check_taken(&taken, 0);
    reader.join().expect("no thread panicked");
}

fn source(name: &str) -> Result<Adapter, String> {
    match sources::SOURCES.iter().find(|source| source.0 == name) {
        Some((_, Ok(adapter))) => Ok(*adapter),
        Some((_, Err(error))) => Err(format!("{name}: {error}")),
        None => Err(format!("{name}: no such copy of the source")),
    }
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
            if group.senders == 0 {
                reader(group, index, adapter);
            } else {
                senders(group, index, adapter);
            }
        });
        println!(
            "  {} executions, {}, {:.1} s",
            executions.load(Ordering::Relaxed),
            bound.map_or("all there are".to_owned(), |bound| format!("up to {bound} preemptions")),
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
    if text.contains("Causality violation") {
        return Some("payload");
    }
    ["no-wake-while-full", "running", "ownership", "conservation", "payload", "no-drop", "liveness", "head"]
        .into_iter()
        .find(|property| text.contains(&format!("[{property}]")))
}

/// Runs a group of a copy in a process of its own, for loom may not survive what it found.
fn tooth(name: &str, in_group: &str) -> Result<(), String> {
    source(name)?;
    let expected = TEETH
        .iter()
        .filter(|tooth| tooth.name == name)
        .flat_map(|tooth| tooth.found)
        .find(|&&(checker, group, _)| checker == Checker::Weak && group == in_group)
        .ok_or_else(|| format!("{name}: not expected to be found in {in_group}"))?
        .2;
    let output = env::current_exe()
        .and_then(|program| Command::new(program).args(["run", name, in_group]).env("RUST_BACKTRACE", "0").output())
        .map_err(|error| error.to_string())?;
    let (said, text) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    print!("{said}{text}");
    match property(&text) {
        _ if output.status.success() => Err(format!("{name}: survived; {expected} should have been found broken")),
        Some(property) if property == expected => Ok(()),
        other => Err(format!("{name}: broke {other:?}, not {expected}")),
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
        ["teeth"] => {
            for tooth in TEETH {
                for (checker, group, property) in tooth.found {
                    if *checker == Checker::Weak {
                        println!("{} {group} {property}", tooth.name);
                    }
                }
            }
            Ok(())
        }
        ["check", name] => run("shipped", name),
        ["run", name, group] => run(name, group),
        ["tooth", name, group] => tooth(name, group),
        _ => Err("usage: weak list | teeth | check GROUP | tooth NAME GROUP".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}
