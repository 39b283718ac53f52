// SPDX-License-Identifier: GPL-2.0

//! The search: breadth first over all reachable states, so the first breach found has the shortest
//! trace.

use crate::{
    Adapter,
    actors::{self, Kind, Rules, Step},
    script::{Access, Breach, Next, Tree, Wake},
    world::{FREE, Holder, IDLE, State, after},
};
use std::{
    collections::{HashSet, VecDeque},
    hash::{BuildHasherDefault, Hash, Hasher},
};

/// The number of ring-fulls that may be freed while wakes are suppressed. It is smaller than in the module, to
/// have fewer states. A sender that obeys the stop fills the ring again at most once.
const MOST_SUPPRESSED: u8 = 2;

/// One run of the search: its start and its actors.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) size: u8,
    pub(crate) batch: u8,
    /// The numbers of entries that the consumer requests.
    pub(crate) requests: Vec<u8>,
    /// The consumer may unconsume any number of the entries of its last call.
    pub(crate) unconsume: bool,
    pub(crate) actors: Vec<Kind>,
    /// A sender may find the ring full though the queue was running.
    pub(crate) drops_allowed: bool,
    /// `IFF_BACKPRESSURE` is set.
    pub(crate) backpressure: bool,
    /// The percentage of the ring that is freed before a wake.
    pub(crate) wake_after: u8,
    /// The least number of checkpoints in a ring.
    pub(crate) checkpoints: u8,
}

impl Config {
    /// Returns the number of slots that are freed before a wake, in a ring of this size.
    fn enough(&self, size: u8) -> u8 {
        (u16::from(size) * u16::from(self.wake_after) / 100) as u8
    }

    /// Returns whether the device may be released.
    fn releases(&self) -> bool {
        self.actors
            .iter()
            .any(|kind| matches!(kind, Kind::Release(_)))
    }

    fn rules(&self) -> Rules {
        let has = |kind| self.actors.contains(&kind);
        let largest = self.actors.iter().map(|kind| match *kind {
            Kind::Resize(most) | Kind::Fit(most, _) => most,
            _ => self.size,
        });
        Rules {
            drops_allowed: self.drops_allowed,
            owner_changes: [Kind::TakeOver, Kind::Detach, Kind::Attach, Kind::Remove]
                .into_iter()
                .any(has),
            running_changes: has(Kind::Link),
            device_changes: has(Kind::Attach) || has(Kind::Remove),
            flag_changes: self.releases(),
            // One more than the largest threshold.
            most_count: {
                let largest = largest.max().unwrap_or(self.size).max(self.size);
                self.enough(largest).max(largest * MOST_SUPPRESSED) + 1
            },
        }
    }

    /// Returns the start states: an empty ring, with its indices at every offset. Before an attach, the
    /// layout of the driver is known or unknown.
    fn starts(&self) -> impl Iterator<Item = State> {
        let attaches = self.actors.contains(&Kind::Attach);
        let known: &[bool] = if attaches { &[true, false] } else { &[true] };
        (0..self.size.max(1)).flat_map(move |offset| {
            known.iter().map(move |&layout_known| {
                let mut state = State::new(self.size, self.batch, offset);
                if self.actors.contains(&Kind::TakeOver) {
                    state.queue_index = 1;
                    state.owned = [false, true];
                }
                if attaches {
                    state.attached = false;
                    state.owned = [false; 2];
                }
                state.layout_known = layout_known;
                state.flag = self.backpressure;
                state
            })
        })
    }
}

/// The result of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) states: u64,
    pub(crate) transitions: u64,
    /// The number of distinct prefixes of the code under test that were run.
    pub(crate) prefixes: u64,
    /// The largest distance of a state from the start, in steps.
    pub(crate) depth: u64,
    /// The number of wakes by the consumer.
    pub(crate) wakes: u64,
    /// The number of transitions in which a call returns a suppressed wake.
    pub(crate) suppressed: u64,
    /// The violated property, and the steps that lead there.
    pub(crate) breach: Option<(Breach, Vec<String>)>,
}

/// Two 64-bit hashes of a state, with different keys. They represent the state in the set of seen
/// states: for 10^7 states in a run, the probability that two of them have the same hashes is about 10^-25.
#[derive(Default)]
struct Fingerprint {
    hashes: [u64; 2],
    word: u64,
    bytes: u32,
}

impl Fingerprint {
    fn fold(&mut self) {
        const KEYS: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xe703_7ed1_a0b4_28db];
        for (hash, key) in self.hashes.iter_mut().zip(KEYS) {
            let product = u128::from(*hash ^ self.word ^ key) * u128::from(key.rotate_left(17));
            *hash = ((product >> 64) as u64 ^ product as u64).wrapping_add(hash.rotate_left(29));
        }
        (self.word, self.bytes) = (0, 0);
    }

    /// Hashes a state. If the first two actors are of one kind, exchanging them does not change the hash.
    fn of(state: &State, alike: bool) -> u128 {
        let mut state = *state;
        let [first, second, ..] = state.actors;
        if alike && (first.step, first.note) > (second.step, second.note) {
            state.actors.swap(0, 1);
            for lock in [&mut state.consumer_lock, &mut state.producer_lock] {
                *lock = match *lock {
                    Holder::Actor(0) => Holder::Actor(1),
                    Holder::Actor(1) => Holder::Actor(0),
                    other => other,
                };
            }
        }
        let mut fingerprint = Self::default();
        state.hash(&mut fingerprint);
        fingerprint.fold();
        fingerprint.fold();
        let [high, low] = fingerprint.hashes.map(u128::from);
        (high << 64) | low
    }
}

impl Hasher for Fingerprint {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u8(byte));
    }

    fn write_u8(&mut self, byte: u8) {
        self.word |= u64::from(byte) << (8 * self.bytes);
        self.bytes += 1;
        if self.bytes == 8 {
            self.fold();
        }
    }

    fn finish(&self) -> u64 {
        self.hashes[0]
    }
}

/// Hashes fingerprints, which are hashes already.
#[derive(Clone, Copy, Default)]
struct Same(u64);

impl Hasher for Same {
    fn write(&mut self, _: &[u8]) {}

    fn write_u128(&mut self, number: u128) {
        self.0 = number as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// One possible step from a state: the actor, and its choice.
#[derive(Clone, Copy)]
struct Choice {
    /// 0 is the consumer.
    actor: u8,
    choice: u8,
}

struct Search<'a> {
    config: &'a Config,
    /// The only property that a wake is checked for; all properties if `None`.
    wanted: Option<&'a str>,
    rules: Rules,
    tree: Tree<'a>,
    report: Report,
}

/// Explores all states up to the first breach. With a wanted property, wakes may violate other
/// properties before.
pub(crate) fn explore(config: &Config, adapter: Adapter, wanted: Option<&str>) -> Report {
    let mut search = Search {
        config,
        wanted,
        rules: config.rules(),
        tree: Tree::new(adapter, wanted),
        report: Report::default(),
    };
    let mut seen = HashSet::<u128, BuildHasherDefault<Same>>::default();
    // For each state, in the order of discovery: the state before it, and the choice that led to it.
    let mut ways: Vec<(u32, Choice)> = Vec::new();
    let mut queue = VecDeque::new();
    let alike = matches!(config.actors[..], [first, second, ..] if first == second);
    let none = Choice {
        actor: 0,
        choice: 0,
    };
    for start in config.starts() {
        if seen.insert(Fingerprint::of(&start, alike)) {
            queue.push_back((start, ways.len(), 0));
            ways.push((u32::MAX, none));
        }
    }
    let starts: Vec<State> = queue.iter().map(|&(state, ..)| state).collect();

    while let Some((state, index, depth)) = queue.pop_front() {
        search.report.depth = depth;
        let mut moved = false;
        let mut breach = search.liveness(&state).err();
        for actor in 0..=config.actors.len() as u8 {
            let choices = match actor {
                0 => search.choices(&state),
                _ => config.actors[usize::from(actor) - 1].choices(),
            };
            for choice in 0..choices {
                if breach.is_some() {
                    break;
                }
                let choice = Choice { actor, choice };
                let mut next = state;
                match search.step(&mut next, choice, None) {
                    Step::Blocked => continue,
                    Step::Broken(found) => {
                        breach = Some(found);
                        ways.push((index as u32, choice));
                    }
                    Step::Done(_) => {
                        moved = true;
                        search.report.transitions += 1;
                        if seen.insert(Fingerprint::of(&next, alike)) {
                            queue.push_back((next, ways.len(), depth + 1));
                            ways.push((index as u32, choice));
                        }
                    }
                }
            }
        }
        if breach.is_none() && !moved {
            breach = Some(Breach::new("locks", "no actor can continue"));
        }
        if let Some(breach) = breach {
            // Includes the last step only if that step violated the property.
            let last = match search.liveness(&state) {
                Err(_) => index,
                Ok(()) if !moved => index,
                Ok(()) => ways.len() - 1,
            };
            let trace = search.trace(&starts, &ways, last);
            search.report.breach = Some((breach, trace));
            break;
        }
    }
    search.report.states = seen.len() as u64;
    search.report.prefixes = search.tree.len() as u64;
    search.report
}

impl Search<'_> {
    /// Checks that the queue is not stopped at rest if the ring is empty and this file may wake the
    /// queue.
    fn liveness(&self, s: &State) -> Result<(), Breach> {
        let queue = usize::from(s.queue_index);
        let stalled = actors::at_rest(s, &self.config.actors)
            && s.is_empty()
            && s.stopped[queue]
            && s.size > 0
            && s.owned[queue]
            && s.running
            && s.attached
            && s.flag;
        // However long the consumer rests, and with any contents of the ring.
        let blocked = self.config.releases()
            && actors::at_rest(s, &self.config.actors)
            && !s.flag
            && s.stopped[queue];
        if blocked {
            return Err(Breach::new(
                "release",
                "the device was released, and the queue stays stopped",
            ));
        }
        if stalled {
            return Err(Breach::new(
                "liveness",
                "the ring is empty, and the queue stays stopped",
            ));
        }
        Ok(())
    }

    /// Returns the number of choices of the consumer.
    fn choices(&self, s: &State) -> u8 {
        if s.consumer.place == IDLE {
            self.config.requests.len() as u8 + s.consumer.unconsumable
        } else {
            1
        }
    }

    /// Makes one step, and adds its accesses to `trace`.
    fn step(&mut self, s: &mut State, choice: Choice, trace: Option<&mut Vec<String>>) -> Step {
        let step = match choice.actor {
            0 => self.consumer(s, choice.choice, trace),
            actor => {
                let kind = self.config.actors[usize::from(actor) - 1];
                kind.step(s, actor - 1, choice.choice, self.rules)
            }
        };
        if let Step::Done(_) = step {
            if let Err(breach) = s.check() {
                return Step::Broken(breach);
            }
            s.renumber();
        }
        step
    }

    /// Makes the consumer's next access that other actors can see or influence, and the accesses after it
    /// that they cannot.
    fn consumer(&mut self, s: &mut State, choice: u8, mut trace: Option<&mut Vec<String>>) -> Step {
        let requests = self.config.requests.len() as u8;
        if s.consumer.place == IDLE && choice >= requests {
            return unconsume(s, choice - requests + 1);
        }
        let mut place = match s.consumer.place {
            IDLE => self.tree.start(self.config.requests[usize::from(choice)]),
            place => place,
        };
        // Whether an access was made that other actors can see, or a lock was dropped.
        let mut seen = false;
        let mut moved = false;
        loop {
            match self.tree.next(place) {
                Next::Broken(breach) => return Step::Broken(breach.clone()),
                Next::Returned(returned) => {
                    self.report.suppressed += u64::from(returned.wake == Wake::Suppressed);
                    let taken = returned.taken as u8;
                    if taken != s.consumer.passed {
                        let passed = s.consumer.passed;
                        let text = format!("{taken} taken, the head moved by {passed}");
                        return Step::Broken(Breach::new("conservation", text));
                    }
                    if let Some(trace) = &mut trace {
                        trace.push(format!("    returns {returned:?}"));
                    }
                    s.consumer.place = IDLE;
                    s.consumer.passed = 0;
                    s.consumer.unconsumable = if self.config.unconsume { taken } else { 0 };
                    break;
                }
                &Next::Access(access) => {
                    let visible = self.can_be_seen(s, access);
                    // Taking a lock belongs to the step of the access that follows it, not to the step of
                    // the access before it.
                    let takes = matches!(access, Access::Lock | Access::LockProducer);
                    if (visible || takes) && seen {
                        s.consumer.place = place;
                        break;
                    }
                    match self.access(s, access) {
                        Ok(Some(result)) => {
                            if let Some(trace) = &mut trace {
                                trace.push(format!("    {access:?} gives {result}   {s}"));
                            }
                            place = self.tree.follow(place, result);
                        }
                        // The consumer has the consumer lock, and waits for the producer lock.
                        Ok(None) if moved => {
                            s.consumer.place = place;
                            break;
                        }
                        Ok(None) => return Step::Blocked,
                        Err(breach) => return Step::Broken(breach),
                    }
                    if let Err(breach) = s.check().and_then(|()| self.must_wake(s, access)) {
                        return Step::Broken(breach);
                    }
                    seen |= visible || matches!(access, Access::Unlock | Access::UnlockProducer);
                    moved = true;
                }
            }
        }
        Step::Done(String::new())
    }

    /// Returns whether other actors can see or influence when, relative to their steps, an access is made.
    /// They cannot for state that a held lock protects, nor for reading an occupied slot, which does not
    /// change while the consumer lock is held. A lock is taken right before a visible access, and dropped
    /// right after one.
    fn can_be_seen(&self, s: &State, access: Access) -> bool {
        match access {
            Access::Read(index) => s.slot(index).is_none_or(|entry| entry == FREE),
            Access::Free(_)
            | Access::SetHead(_)
            | Access::HasRoom
            | Access::IsStopped(_)
            | Access::Wake(_) => true,
            Access::Enter | Access::CheckLayout => self.rules.device_changes,
            Access::Running => self.rules.running_changes,
            Access::Owns => self.rules.owner_changes,
            _ => false,
        }
    }

    /// Makes an access, and returns its result, or `None` if the access has to wait.
    fn access(&mut self, s: &mut State, access: Access) -> Result<Option<u8>, Breach> {
        let has_lock = |lock, what: &str| match lock {
            Holder::Consumer => Ok(()),
            _ => Err(Breach::new(
                "locks",
                format!("{access:?} without the {what} lock"),
            )),
        };
        if s.gone
            && matches!(
                access,
                Access::Backpressure
                    | Access::Running
                    | Access::Owns
                    | Access::Queue
                    | Access::IsStopped(_)
                    | Access::Wake(_)
            )
        {
            return Err(Breach::new(
                "locks",
                format!("{access:?} of a freed device"),
            ));
        }
        let result = match access {
            Access::Lock => {
                if s.consumer_lock != Holder::Free {
                    return Ok(None);
                }
                s.consumer_lock = Holder::Consumer;
                s.consumer.unconsumable = 0;
                0
            }
            Access::LockProducer => {
                if s.producer_lock != Holder::Free {
                    return Ok(None);
                }
                s.producer_lock = Holder::Consumer;
                0
            }
            Access::Unlock => {
                s.consumer_lock = Holder::Free;
                0
            }
            Access::UnlockProducer => {
                s.producer_lock = Holder::Free;
                0
            }
            Access::BottomHalvesOff | Access::BottomHalvesOn => 0,
            Access::WakeAfter => self.config.wake_after,
            Access::MostSuppressed => MOST_SUPPRESSED,
            Access::Checkpoints => self.config.checkpoints,
            Access::Size => s.size,
            Access::Batch => s.batch,
            Access::Head => s.head,
            Access::Tail => s.tail,
            Access::SetHead(head) => {
                if head >= s.size {
                    return Err(Breach::new("geometry", format!("head {head}")));
                }
                let passed = match (head + s.size - s.head) % s.size {
                    0 => s.size,
                    passed => passed,
                };
                s.next_out = after(s.next_out + passed, 0);
                s.consumer.passed += passed;
                s.head = head;
                0
            }
            Access::SetTail(tail) => {
                let consumed = if s.head == 0 { s.size } else { s.head };
                let due = consumed.saturating_sub(s.tail) >= s.batch || s.head == 0;
                // At the end of the array all slots are free; elsewhere a batch or more, up to the head.
                let fits = match s.head {
                    0 => tail == 0,
                    head => s.tail < tail && tail <= head,
                };
                if tail >= s.size || !due || !fits {
                    return Err(Breach::new(
                        "geometry",
                        format!("tail {tail}, head {}", s.head),
                    ));
                }
                s.tail = tail;
                0
            }
            Access::Read(index) => match s.slot(index) {
                None => return Err(Breach::new("geometry", format!("{access:?}"))),
                Some(FREE) => 0,
                // Entries are numbered from the first entry of this call, which is 1.
                Some(entry) => after(entry.wrapping_sub(s.next_out) + s.consumer.passed, 0) + 1,
            },
            Access::Free(index) => {
                if s.slot(index).is_none() {
                    return Err(Breach::new("geometry", format!("{access:?}")));
                }
                s.slots[usize::from(index)] = FREE;
                0
            }
            Access::HasRoom => {
                has_lock(s.producer_lock, "producer")?;
                u8::from(s.has_room() == Some(true))
            }
            Access::Enter => {
                s.consumer.rcu = true;
                u8::from(s.attached && s.layout_known)
            }
            Access::Leave => {
                s.consumer.rcu = false;
                0
            }
            // The layout is checked only for a file that owns its queue.
            Access::CheckLayout => {
                s.layout_known |= s.attached && s.owned[usize::from(s.queue_index)];
                0
            }
            Access::Backpressure => u8::from(s.flag),
            Access::Running => u8::from(s.running),
            Access::Owns => u8::from(s.owned[usize::from(s.queue_index)]),
            Access::Queue => s.queue_index,
            Access::IsStopped(queue) => u8::from(s.stopped[usize::from(queue)]),
            Access::Wake(queue) => {
                self.may_wake(s, usize::from(queue))?;
                self.report.wakes += 1;
                s.stopped[usize::from(queue)] = false;
                0
            }
            Access::AddFreed(slots) => {
                s.count = s.count.saturating_add(slots).min(self.rules.most_count);
                s.count
            }
            Access::ResetFreed => {
                s.count = 0;
                0
            }
        };
        Ok(Some(result))
    }

    /// Checks the properties at the instant of a wake by the consumer.
    fn may_wake(&self, s: &State, queue: usize) -> Result<(), Breach> {
        let holds = [
            (
                s.has_room() == Some(true) || s.count >= s.size * MOST_SUPPRESSED,
                "no-wake-while-full",
            ),
            (self.config.backpressure, "backpressure"),
            (!s.closed, "running"),
            (s.owned[queue], "ownership"),
            (
                s.count >= self.config.enough(s.size) || s.is_empty(),
                "threshold",
            ),
        ];
        let counts = |property| self.wanted.is_none_or(|wanted| wanted == property);
        match holds
            .into_iter()
            .find(|&(holds, property)| !holds && counts(property))
        {
            Some((_, property)) => Err(Breach::new(property, "a wake that is not allowed")),
            None => Ok(()),
        }
    }

    /// Checks, when the consumer drops the producer lock, that a wake is not suppressed forever.
    fn must_wake(&self, s: &State, access: Access) -> Result<(), Breach> {
        let queue = usize::from(s.queue_index);
        let overdue = access == Access::UnlockProducer
            && self.config.backpressure
            && s.size > 0
            && s.running
            && s.owned[queue]
            && s.stopped[queue]
            && s.count >= s.size * MOST_SUPPRESSED;
        if overdue
            && self
                .wanted
                .is_none_or(|wanted| wanted == "bounded-suppression")
        {
            let text = format!("{} freed, and the queue stays stopped", s.count);
            return Err(Breach::new("bounded-suppression", text));
        }
        Ok(())
    }

    /// Returns the steps that lead to a state, each with the state after it.
    fn trace(&mut self, starts: &[State], ways: &[(u32, Choice)], last: usize) -> Vec<String> {
        let mut choices = Vec::new();
        let mut at = last;
        while ways[at].0 != u32::MAX {
            choices.push(ways[at].1);
            at = ways[at].0 as usize;
        }
        let mut state = starts[at];
        let mut trace = vec![format!("starts with {state}")];
        for choice in choices.into_iter().rev() {
            if choice.actor == 0 && state.consumer.place == IDLE {
                if let Some(n) = self.config.requests.get(usize::from(choice.choice)) {
                    trace.push(format!("consumer: requests {n}"));
                }
            }
            let mut seen = Vec::new();
            match self.step(&mut state, choice, Some(&mut seen)) {
                Step::Done(text) if text.is_empty() => trace.append(&mut seen),
                Step::Done(text) => trace.push(format!("{text}   {state}")),
                Step::Broken(_) => trace.append(&mut seen),
                Step::Blocked => {}
            }
        }
        trace
    }
}

/// Unconsumes entries of the last call.
fn unconsume(s: &mut State, count: u8) -> Step {
    if s.consumer_lock != Holder::Free || s.producer_lock != Holder::Free {
        return Step::Blocked;
    }
    s.consumer.unconsumable = 0;
    actors::unconsume(s, count);
    Step::Done(format!("unconsume: returns {count}"))
}
