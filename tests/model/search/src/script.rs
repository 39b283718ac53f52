// SPDX-License-Identifier: GPL-2.0

//! Runs the code under test step by step, and stops it at each access.
//!
//! `consume_batched()` cannot be suspended. But it is deterministic: its next access depends only on the
//! results of its accesses so far. So each step runs it from its start and replays these results. At the
//! first access without a result the run is abandoned by unwinding, and this access is the next step.
//! [`Tree`] keeps the access, so each sequence of results is run once, and a state of the search
//! represents the consumer's progress by one number.

use crate::Adapter;
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    panic::{self, AssertUnwindSafe},
    thread,
};

/// An access of the code under test to its surroundings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Takes the consumer lock.
    Lock,
    /// Drops the consumer lock.
    Unlock,
    /// Takes the producer lock.
    LockProducer,
    /// Drops the producer lock.
    UnlockProducer,
    /// Turns bottom halves off.
    BottomHalvesOff,
    /// Turns bottom halves on.
    BottomHalvesOn,
    /// Reads the percentage of the ring that is freed before a wake.
    WakeAfter,
    /// Reads the number of ring-fulls that may be freed before the queue of a full ring is woken.
    MostSuppressed,
    /// Reads the least number of checkpoints in a ring.
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
    /// Checks whether the producer's slot is free.
    HasRoom,
    /// Enters an RCU section and reads the pointer to the device.
    Enter,
    /// Leaves the RCU section.
    Leave,
    /// Checks the layout of the device's structures.
    CheckLayout,
    /// Checks whether the device has backpressure.
    Backpressure,
    /// Checks whether the device runs.
    Running,
    /// Checks whether the file owns its slot.
    Owns,
    /// Reads the index of the file's queue.
    Queue,
    /// Checks whether the queue is stopped.
    IsStopped(u8),
    /// Wakes the queue.
    Wake(u8),
    /// Adds to the count of freed slots, and reads it.
    AddFreed(u8),
    /// Resets the count of freed slots to 0.
    ResetFreed,
}

/// The wake, as the code under test returns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// `Wake::NotNeeded`.
    NotNeeded,
    /// `Wake::Done`.
    Done,
    /// `Wake::Suppressed`.
    Suppressed,
}

/// The result of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Returned {
    pub(crate) taken: usize,
    pub(crate) freed: usize,
    pub(crate) wake: Wake,
    /// The returned entries: the addresses that [`Access::Read`] returned.
    pub(crate) out: Vec<usize>,
}

/// A property, and how it was violated.
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

/// The next event of the code under test.
#[derive(Clone, Debug)]
pub(crate) enum Next {
    Access(Access),
    Returned(Returned),
    Broken(Breach),
}

#[derive(Default)]
struct Script {
    results: Vec<u8>,
    accesses: Vec<Access>,
}

thread_local! {
    static SCRIPT: RefCell<Script> = RefCell::default();
    static RUNNING: Cell<bool> = const { Cell::new(false) };
}

/// The payload of the unwinding that abandons a run.
struct Abandoned;

/// Performs an access for the adapter. Returns its result, or abandons the run if there is none.
pub(crate) fn perform(access: Access) -> u8 {
    // Guards are dropped while a run is abandoned.
    if thread::panicking() {
        return 0;
    }
    let result = SCRIPT.with_borrow_mut(|script| {
        let result = script.results.get(script.accesses.len()).copied();
        script.accesses.push(access);
        result
    });
    result.unwrap_or_else(|| panic::resume_unwind(Box::new(Abandoned)))
}

/// Prevents panics of the code under test from being printed, as they are reported as breaches.
pub(crate) fn quiet() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !RUNNING.get() {
            print(info);
        }
    }));
}

/// The largest number of accesses of a call. A call with more may not end.
const MOST: usize = 400;

/// Runs a call for `n` entries with the results of its first accesses.
fn run(adapter: Adapter, wanted: Option<&str>, n: usize, results: Vec<u8>) -> Next {
    SCRIPT.set(Script {
        results,
        accesses: Vec::new(),
    });
    RUNNING.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(|| adapter(n)));
    RUNNING.set(false);
    let script = SCRIPT.take();
    if script.accesses.len() > MOST {
        return Next::Broken(Breach::new(
            "locks",
            format!("more than {MOST} accesses in one call"),
        ));
    }
    let counts = |breach: &Breach| wanted.is_none_or(|wanted| wanted == breach.property);
    match result {
        Err(payload) if payload.is::<Abandoned>() => {
            let last = script
                .accesses
                .last()
                .copied()
                .expect("abandoned in an access");
            audit(&script, last)
                .filter(counts)
                .map_or(Next::Access(last), Next::Broken)
        }
        Err(payload) => {
            let text = payload
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| payload.downcast_ref::<&str>().copied())
                .unwrap_or("a panic without text");
            Next::Broken(Breach::new("panic", text))
        }
        Ok(returned) => audit_return(&script, n, &returned)
            .filter(counts)
            .map_or(Next::Returned(returned), Next::Broken),
    }
}

/// Checks an access against the accesses before it in the same call.
fn audit(script: &Script, next: Access) -> Option<Breach> {
    let (mut locked, mut producer, mut off, mut rcu) = (false, false, false, false);
    let (mut freed, mut added, mut stopped) = (0, 0, false);
    let (mut section, mut empty, mut woken, mut took) = (0, false, false, false);
    let mut not_stopped = false;
    // The tail at the start of the critical section and now; the ring's size and least number of checkpoints.
    let (mut tails, mut size, mut checkpoints): (Option<(u8, u8)>, u8, u8) = (None, 0, 1);
    let last = script.accesses.len() - 1;
    let mut breach = None;
    for (index, access) in script.accesses.iter().enumerate() {
        let result = (index < last).then(|| script.results[index]);
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
                (locked, freed, added, stopped, woken, empty) = (true, 0, 0, false, false, false);
                tails = None;
                section += 1;
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
                must(off, "locks", "the producer lock requires bottom halves off");
                producer = true;
            }
            Access::UnlockProducer => {
                must(producer, "locks", "the producer lock is not held");
                producer = false;
            }
            Access::BottomHalvesOff => off = true,
            Access::BottomHalvesOn => {
                must(
                    !locked && !producer,
                    "locks",
                    "bottom halves are turned on under a lock",
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
                // Only the first critical section moves entries.
                must(
                    section > 1 || passed > 0 || (empty && took),
                    "no-needless-check",
                    "a check of the queue in a call that passed no checkpoint, and left entries behind or took none",
                );
                stopped = result == Some(1);
                not_stopped = result == Some(0);
            }
            Access::Wake(_) => {
                must(rcu && locked, "locks", "outside of lock or RCU section");
                woken = true;
            }
            Access::AddFreed(slots) => {
                must(rcu && locked, "locks", "outside of lock or RCU section");
                must(stopped, "count", "slots are counted without a seen stop");
                added += usize::from(slots);
                must(
                    added == passed,
                    "count",
                    &format!(
                        "{added} counted, {freed} freed, {passed} from checkpoint to checkpoint"
                    ),
                );
            }
            Access::ResetFreed => {
                must(rcu && locked, "locks", "outside of lock or RCU section");
                must(
                    woken || not_stopped,
                    "count",
                    "the count is reset without a wake, below a stopped queue",
                );
                woken = false;
            }
            Access::Free(_) => {
                must(locked, "locks", "without the consumer lock");
                freed += 1;
            }
            Access::Read(_) => {
                must(locked, "locks", "without the consumer lock");
                empty = result == Some(0);
                took |= result.is_some_and(|entry| entry != 0);
            }
            Access::SetTail(tail) => {
                must(locked, "locks", "without the consumer lock");
                tails = Some((from, tail));
            }
            Access::Tail => {
                must(locked, "locks", "without the consumer lock");
                tails = tails.or(result.map(|tail| (tail, tail)));
            }
            Access::Size => {
                must(locked, "locks", "without the consumer lock");
                size = result.unwrap_or(0);
            }
            Access::Batch | Access::Head | Access::SetHead(_) => {
                must(locked, "locks", "without the consumer lock");
            }
            Access::Checkpoints => checkpoints = result.unwrap_or(1),
            Access::WakeAfter | Access::MostSuppressed => {}
            Access::Backpressure | Access::Running | Access::Owns | Access::Queue => {
                must(rcu, "locks", "outside of the RCU section");
            }
        }
        // A ring without slots is empty, and has no slot to read.
        if matches!(access, Access::Size) && result == Some(0) {
            empty = true;
        }
    }
    breach
}

/// Checks a call against all its accesses.
fn audit_return(script: &Script, n: usize, returned: &Returned) -> Option<Breach> {
    let count = |wanted: fn(&Access) -> bool| {
        script
            .accesses
            .iter()
            .filter(|access| wanted(access))
            .count()
    };
    let freed = count(|access| matches!(access, Access::Free(_)));
    let wakes = count(|access| matches!(access, Access::Wake(_)));
    let locks = count(|access| matches!(access, Access::Lock))
        == count(|access| matches!(access, Access::Unlock));
    let size = script
        .accesses
        .iter()
        .zip(&script.results)
        .find(|(access, _)| matches!(access, Access::Size))
        .map_or(0, |(_, &size)| usize::from(size));
    // The addresses are the positions of the entries in the order of production, from 1.
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
    } else if (returned.wake == Wake::Done) != (wakes == 1) || wakes > 1 {
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

/// The progress of the consumer in a call, which determines its next access.
pub(crate) type Place = u32;

struct Node {
    next: Next,
    n: u8,
    /// The node before this one, and the result that leads here.
    from: Option<(Place, u8)>,
    edges: Vec<(u8, Place)>,
}

/// The seen runs of the code under test, by the results of its accesses.
pub(crate) struct Tree<'a> {
    adapter: Adapter,
    /// The only property that is checked; all properties if `None`.
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

    /// Returns the start of a call for `n` entries.
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

    /// Returns the number of entries that the call requests.
    pub(crate) fn requested(&self, place: Place) -> u8 {
        self.nodes[place as usize].n
    }

    /// Returns the place after the access at `place` with this result.
    pub(crate) fn follow(&mut self, place: Place, result: u8) -> Place {
        let edges = &self.nodes[place as usize].edges;
        if let Some(&(_, next)) = edges.iter().find(|edge| edge.0 == result) {
            return next;
        }
        let next = self.grow(self.requested(place), Some((place, result)));
        self.nodes[place as usize].edges.push((result, next));
        next
    }

    fn grow(&mut self, n: u8, from: Option<(Place, u8)>) -> Place {
        let mut results = Vec::new();
        let mut at = from;
        while let Some((place, result)) = at {
            results.push(result);
            at = self.nodes[place as usize].from;
        }
        results.reverse();
        let next = run(self.adapter, self.wanted, usize::from(n), results);
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
