// SPDX-License-Identifier: GPL-2.0

//! Explores `src/consume.rs` and its surroundings with loom: all executions of C11's memory model within
//! the printed bounds. See `../README.rst`.
//!
//! ```text
//! weak list                           prints the names of the groups, one per line
//! weak check GROUP                    checks a group; exits with 0 if all properties hold
//! weak mutant NAME GROUP PROPERTY     checks a group with a mutant; exits with 0 if it violates this
//!                                     property, and prints the trace
//! ```

#[macro_use]
mod ring;
mod sync;
mod trace;

// Not all of the code under test is used here, and warnings about its copies belong to the module.
#[allow(dead_code, unused, clippy::all, missing_docs, reason = "generated")]
mod sources {
    include!(concat!(env!("OUT_DIR"), "/sources.rs"));
}

use loom::{
    model::Builder,
    sync::{Arc, atomic::Ordering},
    thread,
};
use ring::{Adapter, World};
use std::{
    env, panic,
    process::{Command, ExitCode},
    sync::{Arc as StdArc, OnceLock, atomic::AtomicU64},
    time::Instant,
};

/// The thread besides the consumer and the senders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Other {
    None,
    LinkDown,
    Detach,
    Attach,
}

/// One model.
struct Run {
    size: usize,
    batch: usize,
    /// The start of all indices.
    offset: usize,
    /// The number of entries that the consumer requests.
    request: usize,
    /// The number of entries that each sender sends.
    sends: usize,
    /// The bound on preemptions.
    bound: Option<usize>,
    /// The least number of checkpoints in a ring.
    checkpoints: usize,
}

/// Returns a run without a bound on preemptions.
const fn run(size: usize, batch: usize, offset: usize, request: usize, sends: usize) -> Run {
    Run {
        size,
        batch,
        offset,
        request,
        sends,
        bound: None,
        // Rings as small as these have a checkpoint at each slot.
        checkpoints: 8,
    }
}

impl Run {
    const fn up_to(self, bound: usize) -> Self {
        Self {
            bound: Some(bound),
            ..self
        }
    }

    /// Returns the run with checkpoints as far apart as possible.
    const fn one_checkpoint(self) -> Self {
        Self {
            checkpoints: 1,
            ..self
        }
    }
}

/// Runs that share their threads.
struct Group {
    name: &'static str,
    about: &'static str,
    senders: usize,
    other: Other,
    runs: &'static [Run],
}

const GROUPS: &[Group] = &[
    Group {
        name: "one-sender",
        about: "one sender, such as a qdisc: it loses no packet, and its queue is not stopped at rest",
        senders: 1,
        other: Other::None,
        runs: &[
            run(1, 1, 0, 1, 2).up_to(5),
            run(1, 1, 0, 2, 3).up_to(4),
            run(2, 1, 0, 1, 3).up_to(3),
            run(2, 1, 1, 2, 3).up_to(3),
            run(2, 2, 0, 2, 3).up_to(3),
            run(2, 2, 1, 1, 3).up_to(3),
            run(3, 1, 1, 3, 4).up_to(3),
            run(3, 2, 2, 2, 4).up_to(3),
            run(4, 1, 0, 4, 5).up_to(3),
            run(4, 2, 0, 4, 5).up_to(3),
            run(4, 2, 3, 1, 5).up_to(3),
        ],
    },
    Group {
        name: "two-senders",
        about: "two senders that bypass the qdisc, and race",
        senders: 2,
        other: Other::None,
        runs: &[
            run(1, 1, 0, 1, 1).up_to(3),
            run(1, 1, 0, 2, 2).up_to(3),
            run(2, 1, 0, 2, 2).up_to(3),
            run(2, 2, 1, 1, 2).up_to(3),
            run(3, 1, 0, 3, 2).up_to(2),
            run(3, 2, 0, 2, 2).up_to(2),
            run(4, 1, 2, 2, 3).up_to(2),
            run(4, 2, 1, 4, 3).up_to(2),
        ],
    },
    Group {
        name: "checkpoints",
        about: "one sender; the distance of checkpoints is the ring, or half of it",
        senders: 1,
        other: Other::None,
        runs: &[
            run(2, 1, 0, 1, 3).one_checkpoint().up_to(3),
            run(2, 1, 1, 2, 4).one_checkpoint().up_to(3),
            run(3, 1, 1, 1, 4).one_checkpoint().up_to(3),
            run(4, 1, 1, 1, 5).one_checkpoint().up_to(2),
            run(4, 2, 2, 2, 5).one_checkpoint().up_to(3),
        ],
    },
    Group {
        name: "checkpoints-two-senders",
        about: "the same, below two senders",
        senders: 2,
        other: Other::None,
        runs: &[
            run(2, 1, 0, 1, 2).one_checkpoint().up_to(3),
            run(3, 1, 1, 2, 2).one_checkpoint().up_to(2),
            run(4, 2, 1, 2, 3).one_checkpoint().up_to(2),
        ],
    },
    Group {
        name: "link",
        about: "one sender, and the link goes down: the queue stays stopped",
        senders: 1,
        other: Other::LinkDown,
        runs: LOSSES,
    },
    Group {
        name: "detach",
        about: "one sender, and the file is detached: another file gets the queue",
        senders: 1,
        other: Other::Detach,
        runs: LOSSES,
    },
    Group {
        name: "attach",
        about: "one sender, and the file becomes a further queue of a device: the queue is not stopped at rest",
        senders: 1,
        other: Other::Attach,
        runs: &[
            run(1, 1, 0, 1, 1).up_to(3),
            run(1, 1, 0, 1, 2).up_to(3),
            run(2, 1, 0, 2, 2).up_to(3),
            run(2, 2, 1, 2, 3).up_to(2),
            run(3, 1, 2, 3, 3).up_to(2),
        ],
    },
];

/// Runs in which the file loses its queue.
const LOSSES: &[Run] = &[
    run(1, 1, 0, 1, 1).up_to(3),
    run(1, 1, 0, 1, 2).up_to(3),
    run(2, 1, 0, 2, 3).up_to(3),
    run(2, 2, 1, 2, 3).up_to(2),
    run(3, 1, 2, 1, 4).up_to(2),
    run(3, 2, 0, 3, 4).up_to(2),
    run(4, 1, 0, 2, 5).up_to(2),
    run(4, 2, 1, 4, 5).up_to(2),
];

/// The wanted property; any property if it is not set.
static WANTED: OnceLock<String> = OnceLock::new();

/// Panics with the property's name unless `holds`. The text is made only then.
pub(crate) fn must(holds: bool, property: &str, why: impl FnOnce() -> String) {
    if !holds && WANTED.get().is_none_or(|wanted| wanted == property) {
        panic!("[{property}] {}", why());
    }
}

/// The consumer's side of a model, with the number of entries that it took.
struct Consumer<'a> {
    world: &'a World,
    adapter: Adapter,
    request: usize,
    count: usize,
}

impl Consumer<'_> {
    /// Calls if it sees an entry. So a call that finds the ring empty cannot hide that an earlier call missed
    /// a stop.
    fn call(&mut self) -> bool {
        let empty = self.world.is_empty();
        if !empty {
            must(self.call_unseen() > 0, "conservation", || {
                "an entry at the head, and none was taken".to_owned()
            });
        }
        !empty
    }

    /// Calls, whether or not there are entries, and returns the number of taken entries.
    fn call_unseen(&mut self) -> usize {
        let taken = (self.adapter)(self.world, self.request);
        self.world.check_taken(&taken, self.count);
        self.count += taken.len();
        taken.len()
    }

    /// Calls until it has taken all entries, and sleeps while the ring is empty. If the queue stays stopped,
    /// the sender waits as well, which is a deadlock.
    fn sleep_and_call(&mut self, total: usize) {
        while self.count < total {
            if !self.call() {
                note!("sleeps");
                self.world.data.wait();
            }
        }
    }
}

/// The number of checks for entries while the senders run, if the consumer does not sleep.
const CALLS: usize = 2;

/// Starts a thread with this name.
fn spawn<T: Send + 'static>(
    name: String,
    f: impl FnOnce() -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    thread::Builder::new()
        .name(name)
        .spawn(f)
        .expect("loom starts any thread")
}

/// Runs one execution with senders.
fn senders(group: &'static Group, run: &'static Run, adapter: Adapter) {
    let total = group.senders * run.sends;
    let quiet = group.other == Other::None;
    // A single sender, which never finds the ring full, and the consumer can wait for each other. With more
    // threads, a queue that is stopped at rest, with an empty ring, is a stall.
    let alone = quiet && group.senders == 1;
    let attached = group.other != Other::Attach;
    let world = Arc::new(World::new(run, quiet, alone, attached));
    let senders: Vec<_> = (0..group.senders)
        .map(|me| {
            let world = Arc::clone(&world);
            spawn(format!("sender {me}"), move || world.sender(run.sends))
        })
        .collect();
    let other = (!quiet).then(|| {
        let world = Arc::clone(&world);
        spawn(format!("{:?}", group.other), move || match group.other {
            Other::LinkDown => world.link_down(),
            Other::Attach => world.attach(),
            _ => world.detach(),
        })
    });
    let request = run.request;
    let consumer = {
        let world = Arc::clone(&world);
        spawn("consumer".to_owned(), move || {
            let mut consumer = Consumer {
                world: &world,
                adapter,
                request,
                count: 0,
            };
            if alone {
                consumer.sleep_and_call(total);
            } else {
                // The first call may find the ring empty.
                consumer.call_unseen();
                for _ in 1..CALLS {
                    consumer.call();
                }
            }
            consumer.count
        })
    };
    let not_sent: usize = senders
        .into_iter()
        .map(|sender| sender.join().expect("no thread panicked"))
        .sum();
    if let Some(other) = other {
        other.join().expect("no thread panicked");
    }
    let mut consumer = Consumer {
        world: &world,
        adapter,
        request,
        count: consumer.join().expect("no thread panicked"),
    };
    while consumer.call() {}
    must(consumer.count + not_sent == total, "conservation", || {
        format!("{} taken, {not_sent} not sent, of {total}", consumer.count)
    });
    let stopped = world.stopped.load(Ordering::Relaxed);
    match group.other {
        Other::None | Other::Attach => must(!stopped, "liveness", || {
            "the ring is empty, and the queue stays stopped".to_owned()
        }),
        Other::LinkDown => must(stopped, "running", || {
            "the queue of a device that is down was woken".to_owned()
        }),
        Other::Detach => {}
    }
}

fn source(name: &str) -> Result<Adapter, String> {
    variants::find(sources::SOURCES, name)
}

fn group(name: &str) -> Result<&'static Group, String> {
    GROUPS
        .iter()
        .find(|group| group.name == name)
        .ok_or_else(|| format!("{name}: no such group"))
}

/// Checks a group, and prints bounds and totals. A breach is a panic.
fn explore(name: &str, in_group: &str) -> Result<(), String> {
    let adapter = source(name)?;
    let group = group(in_group)?;
    println!("{}", group.about);
    let mut all = 0;
    let begin = Instant::now();
    for run in group.runs {
        let start = Instant::now();
        let executions = StdArc::new(AtomicU64::new(0));
        let mut builder = Builder::new();
        builder.preemption_bound = run.bound;
        builder.max_branches = 10_000;
        let counter = StdArc::clone(&executions);
        print!(
            "ring of {}, batch of {}, from slot {}, calls for {}, {} sent by each sender: ",
            run.size, run.batch, run.offset, run.request, run.sends
        );
        builder.check(move || {
            counter.fetch_add(1, Ordering::Relaxed);
            trace::start();
            senders(group, run, adapter);
        });
        let executions = executions.load(Ordering::Relaxed);
        println!(
            "{executions} executions, {}, {:.1} s",
            run.bound
                .map_or("any number of preemptions".to_owned(), |bound| format!(
                    "up to {bound} preemptions"
                )),
            start.elapsed().as_secs_f32()
        );
        all += executions;
    }
    println!(
        "{all} executions in {} runs, {:.1} s",
        group.runs.len(),
        begin.elapsed().as_secs_f32()
    );
    Ok(())
}

/// Returns the property in the text of a panic.
fn property(text: &str) -> Option<&str> {
    if text.contains("deadlock") {
        return Some("liveness");
    }
    let rest = &text[text.find('[')? + 1..];
    rest.find(']').map(|end| &rest[..end])
}

/// Runs a group with a copy up to the first panic, which is printed with its trace.
fn seek(name: &str, group: &str, wanted: &str) -> Result<(), String> {
    WANTED.set(wanted.to_owned()).expect("set once");
    trace::want();
    panic::set_hook(Box::new(|info| {
        let text = info
            .payload()
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| info.payload().downcast_ref::<&str>().copied())
            .unwrap_or("a panic without text");
        println!(
            "  {} is broken: {text}",
            property(text).unwrap_or("no known property")
        );
        trace::print();
    }));
    explore(name, group)
}

/// Runs `seek` in another process, since loom may abort when it finds a breach.
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
    let output = String::from_utf8_lossy(&output.stdout);
    print!("{output}");
    let broken = output
        .lines()
        .find_map(|line| line.split_once(" is broken: "))
        .and_then(|(before, _)| before.split_whitespace().next_back());
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
        ["check", name] => explore("shipped", name).map(|()| println!("all properties hold")),
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
