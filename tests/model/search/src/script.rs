// SPDX-License-Identifier: GPL-2.0

//! The code under test as a machine that can be stepped, and stopped at each access.
//!
//! `consume_batched()` cannot be suspended. But it is deterministic: what it does next follows
//! from what its accesses gave so far. So it is run from its start with the answers that it got
//! before; at the first access for which there is no answer the run is given up by unwinding, and
//! that access is the next step. [`Tree`] keeps the result, so each sequence of answers is run
//! once, and a state of the search names the consumer's progress by one number.

use crate::Adapter;
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    panic::{self, AssertUnwindSafe},
    thread,
};

/// What the code under test can do to the world around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Takes the consumer lock.
    Lock,
    /// Drops it.
    Unlock,
    /// Takes the producer lock.
    LockProducer,
    /// Drops it.
    UnlockProducer,
    /// Turns bottom halves off.
    BottomHalvesOff,
    /// Turns them on again.
    BottomHalvesOn,
    /// Asks how much is to be freed before a wake, in percent.
    WakeAfter,
    /// Asks how many ring-fulls may be freed before the queue is woken though its ring is full.
    MostSuppressed,
    /// Asks how often the queue is to be looked at in a ring-full.
    Checkpoints,
    /// Reads the ring's size.
    Size,
    /// Reads the ring's batch.
    Batch,
    /// Reads the head.
    Head,
    /// Reads the tail.
    Tail,
    /// Writes the head.
    SetHead(u8),
    /// Writes the tail.
    SetTail(u8),
    /// Reads a slot.
    Read(u8),
    /// Frees a slot.
    Free(u8),
    /// Asks whether the producer's slot is free.
    HasRoom,
    /// Enters an RCU section and reads the pointer to the device.
    Enter,
    /// Leaves the RCU section.
    Leave,
    /// Compares the layout of the device's structures.
    CheckLayout,
    /// Asks whether the device has backpressure.
    Backpressure,
    /// Asks whether the device runs.
    Running,
    /// Asks whether the file owns its slot.
    Owns,
    /// Asks which queue is the file's: its index and 1, or 0 where there is none.
    Queue,
    /// Asks whether that queue is stopped.
    IsStopped(u8),
    /// Wakes that queue.
    Wake(u8),
    /// Adds to the count of freed slots, and reads it.
    AddFreed(u8),
    /// Sets that count to 0.
    ResetFreed,
}

/// What became of the wake, as the code under test says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// `Wake::NotNeeded`.
    NotNeeded,
    /// `Wake::Done`.
    Done,
    /// `Wake::Suppressed`.
    Suppressed,
}

/// What a call returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Returned {
    pub(crate) taken: usize,
    pub(crate) freed: usize,
    pub(crate) wake: Said,
    /// The entries handed out: the addresses that [`Access::Read`] was answered with.
    pub(crate) out: Vec<usize>,
}

/// A property, and how it was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Breach {
    pub(crate) property: &'static str,
    pub(crate) text: String,
}

impl Breach {
    pub(crate) fn new(property: &'static str, text: impl Into<String>) -> Self {
        Self {
            property,
            text: text.into(),
        }
    }
}

/// What the code under test does next.
#[derive(Clone, Debug)]
pub(crate) enum Next {
    Access(Access),
    Returned(Returned),
    Broken(Breach),
}

#[derive(Default)]
struct Script {
    answers: Vec<u8>,
    asked: Vec<Access>,
}

thread_local! {
    static SCRIPT: RefCell<Script> = RefCell::default();
    static RUNNING: Cell<bool> = const { Cell::new(false) };
}

/// What a run is given up with.
struct GivenUp;

/// For the adapter: performs an access, which returns its answer, or does not return.
pub(crate) fn ask(access: Access) -> u8 {
    // Guards are dropped while a run is being given up.
    if thread::panicking() {
        return 0;
    }
    let answer = SCRIPT.with_borrow_mut(|script| {
        let answer = script.answers.get(script.asked.len()).copied();
        script.asked.push(access);
        answer
    });
    answer.unwrap_or_else(|| panic::resume_unwind(Box::new(GivenUp)))
}

/// Keeps panics of the code under test from being printed: they are findings, reported as such.
pub(crate) fn quiet() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !RUNNING.get() {
            print(info);
        }
    }));
}

/// No call needs as many accesses as this: one that does may not end.
const MOST: usize = 400;

/// Runs a call for `n` entries with answers to its first accesses.
fn run(adapter: Adapter, wanted: Option<&str>, n: usize, answers: Vec<u8>) -> Next {
    SCRIPT.set(Script {
        answers,
        asked: Vec::new(),
    });
    RUNNING.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(|| adapter(n)));
    RUNNING.set(false);
    let script = SCRIPT.take();
    if script.asked.len() > MOST {
        return Next::Broken(Breach::new(
            "locks",
            format!("more than {MOST} accesses in one call"),
        ));
    }
    let counts = |breach: &Breach| wanted.is_none_or(|wanted| wanted == breach.property);
    match result {
        Err(payload) if payload.is::<GivenUp>() => {
            let last = script.asked.last().copied().expect("given up in an access");
            audit(&script, last)
                .filter(counts)
                .map_or(Next::Access(last), Next::Broken)
        }
        Err(payload) => {
            let text = payload
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| payload.downcast_ref::<&str>().copied())
                .unwrap_or("a panic without a text");
            Next::Broken(Breach::new("panic", text))
        }
        Ok(returned) => audit_return(&script, n, &returned)
            .filter(counts)
            .map_or(Next::Returned(returned), Next::Broken),
    }
}

/// What can be said of an access by those before it in the same call.
fn audit(script: &Script, next: Access) -> Option<Breach> {
    let (mut locked, mut producer, mut off, mut rcu) = (false, false, false, false);
    let (mut freed, mut added, mut stopped) = (0, 0, false);
    let (mut look, mut dry, mut woken, mut took) = (0, false, false, false);
    let mut not_stopped = false;
    // Of the hold: the tail at its start and now; of the call: how far marks are apart.
    let (mut tails, mut size, mut checkpoints): (Option<(u8, u8)>, u8, u8) = (None, 0, 1);
    let last = script.asked.len() - 1;
    let mut breach = None;
    for (index, access) in script.asked.iter().enumerate() {
        let answer = (index < last).then(|| script.answers[index]);
        let stride = 1_u8 << (size / checkpoints).checked_ilog2().unwrap_or(0);
        let (from, to) = tails.unwrap_or_default();
        let passed = freed + usize::from(from % stride) - usize::from(to % stride);
        let mut must = |holds: bool, property, text: &str| {
            if !holds && index == last && breach.is_none() {
                breach = Some(Breach::new(property, format!("{text}: {next:?}")));
            }
        };
        match *access {
            Access::Lock => {
                must(!locked, "locks", "the consumer lock is taken twice");
                must(
                    !rcu,
                    "locks",
                    "the consumer lock is taken inside the RCU section",
                );
                (locked, freed, added, stopped, woken, dry) = (true, 0, 0, false, false, false);
                tails = None;
                look += 1;
            }
            Access::Unlock => {
                must(locked && !producer, "locks", "the locks do not nest");
                must(!rcu, "locks", "the RCU section outlives the lock");
                must(!woken, "count", "the count was not reset with the wake");
                locked = false;
            }
            Access::LockProducer => {
                must(
                    locked && !producer,
                    "locks",
                    "the producer lock nests inside the consumer's",
                );
                must(off, "locks", "the producer lock wants bottom halves off");
                producer = true;
            }
            Access::UnlockProducer => {
                must(producer, "locks", "not held");
                producer = false;
            }
            Access::BottomHalvesOff => off = true,
            Access::BottomHalvesOn => {
                must(
                    !locked && !producer,
                    "locks",
                    "bottom halves come on under a lock",
                );
                off = false;
            }
            Access::HasRoom => must(producer, "locks", "without the producer lock"),
            Access::Enter => {
                must(locked && !rcu, "locks", "without the consumer lock");
                rcu = true;
            }
            Access::Leave => rcu = false,
            Access::CheckLayout => must(locked && !rcu, "locks", "without the consumer lock"),
            Access::IsStopped(_) => {
                must(rcu, "locks", "outside of the RCU section");
                // The first hold is the only one that moves entries.
                must(
                    look > 1 || passed > 0 || (dry && took),
                    "no-needless-check",
                    "a look at the queue after a call that passed no mark, and left entries behind or took none",
                );
                stopped = answer == Some(1);
                not_stopped = answer == Some(0);
            }
            Access::Wake(_) => {
                must(rcu && locked, "locks", "outside of lock or RCU section");
                woken = true;
            }
            Access::AddFreed(slots) => {
                must(rcu && locked, "locks", "outside of lock or RCU section");
                must(
                    stopped,
                    "count",
                    "slots are counted though no stop was seen",
                );
                added += usize::from(slots);
                must(
                    added == passed,
                    "count",
                    &format!("{added} counted, {freed} freed, {passed} from mark to mark"),
                );
            }
            Access::ResetFreed => {
                must(rcu && locked, "locks", "outside of lock or RCU section");
                must(
                    woken || not_stopped,
                    "count",
                    "the count is reset without a wake, below a queue that is stopped",
                );
                woken = false;
            }
            Access::Free(_) => {
                must(locked, "locks", "without the consumer lock");
                freed += 1;
            }
            Access::Read(_) => {
                must(locked, "locks", "without the consumer lock");
                dry = answer == Some(0);
                took |= answer.is_some_and(|entry| entry != 0);
            }
            Access::SetTail(tail) => {
                must(locked, "locks", "without the consumer lock");
                tails = Some((from, tail));
            }
            Access::Tail => {
                must(locked, "locks", "without the consumer lock");
                tails = tails.or(answer.map(|tail| (tail, tail)));
            }
            Access::Size => {
                must(locked, "locks", "without the consumer lock");
                size = answer.unwrap_or(0);
            }
            Access::Batch | Access::Head | Access::SetHead(_) => {
                must(locked, "locks", "without the consumer lock");
            }
            Access::Checkpoints => checkpoints = answer.unwrap_or(1),
            Access::WakeAfter | Access::MostSuppressed => {}
            Access::Backpressure | Access::Running | Access::Owns | Access::Queue => {
                must(rcu, "locks", "outside of the RCU section");
            }
        }
        // An empty ring of no slots has none to read.
        if matches!(access, Access::Size) && answer == Some(0) {
            dry = true;
        }
    }
    breach
}

/// What can be said of a call by all its accesses.
fn audit_return(script: &Script, n: usize, returned: &Returned) -> Option<Breach> {
    let count =
        |wanted: fn(&Access) -> bool| script.asked.iter().filter(|access| wanted(access)).count();
    let freed = count(|access| matches!(access, Access::Free(_)));
    let wakes = count(|access| matches!(access, Access::Wake(_)));
    let locks = count(|access| matches!(access, Access::Lock))
        == count(|access| matches!(access, Access::Unlock));
    let size = script
        .asked
        .iter()
        .zip(&script.answers)
        .find(|(access, _)| matches!(access, Access::Size))
        .map_or(0, |(_, &size)| usize::from(size));
    // The addresses are the entries' places in the order of production, from 1.
    let in_order = returned.out.iter().copied().eq(1..=returned.taken);
    if !in_order || returned.taken > n {
        Some(Breach::new("conservation", format!("{returned:?} of {n}")))
    } else if returned.taken > size {
        let text = format!("{} taken of a ring of {size}", returned.taken);
        Some(Breach::new("bounded", text))
    } else if returned.freed != freed {
        Some(Breach::new(
            "outcome",
            format!("{returned:?}, but {freed} slots were freed"),
        ))
    } else if (returned.wake == Said::Done) != (wakes == 1) || wakes > 1 {
        Some(Breach::new(
            "outcome",
            format!("{returned:?}, but {wakes} wakes"),
        ))
    } else if !locks {
        Some(Breach::new(
            "locks",
            "the call returns with the consumer lock held",
        ))
    } else {
        None
    }
}

/// Where the consumer is in a call: what it does next follows from it.
pub(crate) type Place = u32;

struct Node {
    next: Next,
    n: u8,
    /// The node before, and the answer that leads here.
    from: Option<(Place, u8)>,
    edges: Vec<(u8, Place)>,
}

/// All that the code under test was seen to do, by the answers that it got.
pub(crate) struct Tree<'a> {
    adapter: Adapter,
    /// The only property that counts, if there is one.
    wanted: Option<&'a str>,
    nodes: Vec<Node>,
    roots: HashMap<u8, Place>,
}

impl<'a> Tree<'a> {
    pub(crate) fn new(adapter: Adapter, wanted: Option<&'a str>) -> Self {
        Self {
            adapter,
            wanted,
            nodes: Vec::new(),
            roots: HashMap::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The start of a call for `n` entries.
    pub(crate) fn start(&mut self, n: u8) -> Place {
        if let Some(&place) = self.roots.get(&n) {
            return place;
        }
        let place = self.grow(n, None);
        self.roots.insert(n, place);
        place
    }

    pub(crate) fn next(&self, place: Place) -> &Next {
        &self.nodes[place as usize].next
    }

    /// How many entries were asked for.
    pub(crate) fn asked(&self, place: Place) -> u8 {
        self.nodes[place as usize].n
    }

    /// Where an answer to the access at `place` leads.
    pub(crate) fn follow(&mut self, place: Place, answer: u8) -> Place {
        let edges = &self.nodes[place as usize].edges;
        if let Some(&(_, next)) = edges.iter().find(|edge| edge.0 == answer) {
            return next;
        }
        let next = self.grow(self.asked(place), Some((place, answer)));
        self.nodes[place as usize].edges.push((answer, next));
        next
    }

    fn grow(&mut self, n: u8, from: Option<(Place, u8)>) -> Place {
        let mut answers = Vec::new();
        let mut at = from;
        while let Some((place, answer)) = at {
            answers.push(answer);
            at = self.nodes[place as usize].from;
        }
        answers.reverse();
        let next = run(self.adapter, self.wanted, usize::from(n), answers);
        let place = Place::try_from(self.nodes.len()).expect("fewer than 2^32 places");
        self.nodes.push(Node {
            next,
            n,
            from,
            edges: Vec::new(),
        });
        place
    }
}
