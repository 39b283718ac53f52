// SPDX-License-Identifier: GPL-2.0

//! The search: breadth first over all states that can be reached, so that the first breach found
//! is the shortest.

use crate::{
    Adapter,
    actors::{self, Kind, Rules, Step},
    script::{Access, Breach, Next, Tree},
    world::{FREE, Holder, IDLE, State, after},
};
use std::{
    collections::{HashSet, VecDeque},
    hash::{BuildHasherDefault, Hash, Hasher},
};

/// How many ring-fulls may be freed while wakes are suppressed: fewer than in the module, for there to be fewer
/// states. A sender that heeds the stop has the ring full again once at most.
const MOST_SUPPRESSED: u8 = 2;

/// One run of the search: where it starts and who takes part.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) size: u8,
    pub(crate) batch: u8,
    /// For how many entries the consumer calls.
    pub(crate) asks: Vec<u8>,
    /// The consumer hands any number of the entries of its last call back.
    pub(crate) hand_back: bool,
    pub(crate) actors: Vec<Kind>,
    /// A sender may find the ring full though the queue was running.
    pub(crate) drops_allowed: bool,
    /// `IFF_BACKPRESSURE` is set.
    pub(crate) backpressure: bool,
    /// How much is freed before a wake, in percent of the ring.
    pub(crate) wake_after: u8,
    /// How often the queue is looked at in a ring-full.
    pub(crate) checkpoints: u8,
}

impl Config {
    /// How many slots are freed before a wake, in a ring of that size.
    fn enough(&self, size: u8) -> u8 {
        (u16::from(size) * u16::from(self.wake_after) / 100) as u8
    }

    /// Whether the device may be released.
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
            // One more than any threshold.
            most_count: {
                let largest = largest.max().unwrap_or(self.size).max(self.size);
                self.enough(largest).max(largest * MOST_SUPPRESSED) + 1
            },
        }
    }

    /// The states to start from: an empty ring, its indices at every offset. Before an
    /// attach, the layout of the driver is known or unknown.
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

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) states: u64,
    pub(crate) transitions: u64,
    /// Distinct prefixes of the code under test that were run.
    pub(crate) prefixes: u64,
    /// The longest of the shortest ways to a state, in steps.
    pub(crate) depth: u64,
    /// How often the consumer woke the queue.
    pub(crate) wakes: u64,
    /// A wake was due, and then was not: transitions into such a return.
    pub(crate) withheld: u64,
    /// What was broken, and the steps that lead there.
    pub(crate) breach: Option<(Breach, Vec<String>)>,
}

/// Two 64-bit hashes of a state, each by a key of its own. They stand for it among the states that
/// were seen: for 10^7 of them in a run the odds that any two are taken for one are about 10^-25.
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

    /// Where the first two actors are alike it does not matter which is which.
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

/// For fingerprints, which are hashes already.
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

/// One way on from a state: who, and which of the actor's choices.
#[derive(Clone, Copy)]
struct Choice {
    /// 0 is the consumer.
    actor: u8,
    choice: u8,
}

struct Search<'a> {
    config: &'a Config,
    /// The property that counts where a wake breaks one: any, if there is none.
    wanted: Option<&'a str>,
    rules: Rules,
    tree: Tree<'a>,
    report: Report,
}

/// Explores all of it, up to the first breach. With a property that is wanted, a wake may break
/// others before.
pub(crate) fn explore(config: &Config, adapter: Adapter, wanted: Option<&str>) -> Report {
    let mut search = Search {
        config,
        wanted,
        rules: config.rules(),
        tree: Tree::new(adapter, wanted),
        report: Report::default(),
    };
    let mut seen = HashSet::<u128, BuildHasherDefault<Same>>::default();
    // For each state in the order of discovery: the one before, and the choice that led here.
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
            breach = Some(Breach::new("locks", "nobody can go on"));
        }
        if let Some(breach) = breach {
            // The last step only if it was what broke.
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
    /// The queue is not left stopped: nothing goes on by itself, the ring is dry, and a stop that
    /// is this file's to undo stands.
    fn liveness(&self, s: &State) -> Result<(), Breach> {
        let queue = usize::from(s.queue_index);
        let stalled = actors::at_rest(s, &self.config.actors)
            && s.is_dry()
            && s.stopped[queue]
            && s.size > 0
            && s.owned[queue]
            && s.running
            && s.attached
            && s.flag;
        // However long the consumer rests, and whatever is in the ring.
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
                "the ring is dry, and the queue stays stopped",
            ));
        }
        Ok(())
    }

    /// How many ways the consumer has to go on.
    fn choices(&self, s: &State) -> u8 {
        if s.consumer.place == IDLE {
            self.config.asks.len() as u8 + s.consumer.hand
        } else {
            1
        }
    }

    /// Makes one step; what is seen on the way goes to `trace`.
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

    /// The consumer's next access that others can see or influence, with all that follows it and
    /// that they cannot.
    fn consumer(&mut self, s: &mut State, choice: u8, mut trace: Option<&mut Vec<String>>) -> Step {
        let asks = self.config.asks.len() as u8;
        if s.consumer.place == IDLE && choice >= asks {
            return unconsume(s, choice - asks + 1);
        }
        let mut place = match s.consumer.place {
            IDLE => self.tree.start(self.config.asks[usize::from(choice)]),
            place => place,
        };
        // Whether an access was made that others could see, or a lock was dropped.
        let mut seen = false;
        let mut moved = false;
        loop {
            match self.tree.next(place) {
                Next::Broken(breach) => return Step::Broken(breach.clone()),
                Next::Returned(returned) => {
                    self.report.withheld +=
                        u64::from(returned.wake == crate::script::Said::Suppressed);
                    let taken = returned.taken as u8;
                    if taken != s.consumer.passed {
                        let passed = s.consumer.passed;
                        let text = format!("{taken} handed out, the head moved by {passed}");
                        return Step::Broken(Breach::new("conservation", text));
                    }
                    if let Some(trace) = &mut trace {
                        trace.push(format!("    returns {returned:?}"));
                    }
                    s.consumer.place = IDLE;
                    s.consumer.passed = 0;
                    s.consumer.hand = if self.config.hand_back { taken } else { 0 };
                    break;
                }
                &Next::Access(access) => {
                    let visible = self.can_be_seen(s, access);
                    // A lock may be taken as late as what follows it, but not as early as what
                    // comes before.
                    let takes = matches!(access, Access::Lock | Access::LockProducer);
                    if (visible || takes) && seen {
                        s.consumer.place = place;
                        break;
                    }
                    match self.access(s, access) {
                        Ok(Some(answer)) => {
                            if let Some(trace) = &mut trace {
                                trace.push(format!("    {access:?} gives {answer}   {s}"));
                            }
                            place = self.tree.follow(place, answer);
                        }
                        // It holds the consumer lock, and waits for the producer's.
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

    /// Whether others could tell when, relative to their steps, an access is made. They cannot for
    /// what the lock that is held keeps still, nor for reading an occupied slot, which stays as it
    /// is as long as the consumer lock is held. Locks are taken and dropped with such an access:
    /// taken right before one, dropped right after one.
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

    /// Makes an access: its answer, or `None` if it has to wait.
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
                format!("{access:?} of a device that was freed"),
            ));
        }
        let answer = match access {
            Access::Lock => {
                if s.consumer_lock != Holder::Nobody {
                    return Ok(None);
                }
                s.consumer_lock = Holder::Consumer;
                s.consumer.hand = 0;
                0
            }
            Access::LockProducer => {
                if s.producer_lock != Holder::Nobody {
                    return Ok(None);
                }
                s.producer_lock = Holder::Consumer;
                0
            }
            Access::Unlock => {
                s.consumer_lock = Holder::Nobody;
                0
            }
            Access::UnlockProducer => {
                s.producer_lock = Holder::Nobody;
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
                // Behind the last slot all are free; else a batch or more, up to the head.
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
                // Numbered from the first entry of this call, from 1.
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
            // A file without a queue of its own is not compared.
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
        Ok(Some(answer))
    }

    /// What must hold at the instant of a wake by the consumer.
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
                s.count >= self.config.enough(s.size) || s.is_dry(),
                "threshold",
            ),
        ];
        let counts = |property| self.wanted.is_none_or(|wanted| wanted == property);
        match holds
            .into_iter()
            .find(|&(holds, property)| !holds && counts(property))
        {
            Some((_, property)) => Err(Breach::new(property, "a wake that must not be")),
            None => Ok(()),
        }
    }

    /// What must hold as the consumer drops the producer lock: a wake is not suppressed for ever.
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

    /// The steps that lead to a state, and what it looked like on the way.
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
                if let Some(n) = self.config.asks.get(usize::from(choice.choice)) {
                    trace.push(format!("consumer: called for {n}"));
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

/// Hands entries of the last call back.
fn unconsume(s: &mut State, count: u8) -> Step {
    if s.consumer_lock != Holder::Nobody || s.producer_lock != Holder::Nobody {
        return Step::Blocked;
    }
    s.consumer.hand = 0;
    actors::unconsume(s, count);
    Step::Done(format!("unconsume: hands {count} back"))
}
