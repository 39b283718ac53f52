// SPDX-License-Identifier: GPL-2.0

//! An exhaustive, sequentially consistent search through all interleavings of `src/consume.rs` and its
//! surroundings. See `../README.rst`.
//!
//! ```text
//! search list                           prints the names of the groups, one per line
//! search check GROUP                    searches a group; exits with 0 if all properties hold
//! search mutant NAME GROUP PROPERTY     searches a group with a mutant; exits with 0 if it violates this
//!                                       property, and prints the shortest trace
//!
//! JOBS=   number of runs that are searched at once (default: the number of CPUs)
//! ```

mod actors;
mod adapter;
mod explore;
mod groups;
mod script;
#[allow(dead_code, reason = "only a part of it is used here")]
#[path = "../../../../src/size.rs"]
mod size;
mod sync;
mod world;

// Not all of the code under test is used here, and warnings about its copies belong to the module.
#[allow(dead_code, unused, clippy::all, missing_docs, reason = "generated")]
mod sources {
    include!(concat!(env!("OUT_DIR"), "/sources.rs"));
}

use adapter::Adapter;
use explore::{Config, Report, explore};
use groups::{GROUPS, Group};
use std::{
    collections::BTreeSet,
    env,
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

fn source(name: &str) -> Result<Adapter, String> {
    variants::find(sources::SOURCES, name)
}

fn group(name: &str) -> Result<&'static Group, String> {
    GROUPS
        .iter()
        .find(|group| group.name == name)
        .ok_or_else(|| format!("{name}: no such group"))
}

/// The total of a group's runs.
#[derive(Default)]
struct Sum {
    runs: usize,
    states: u64,
    transitions: u64,
    prefixes: u64,
    depth: u64,
    wakes: u64,
    suppressed: u64,
    largest: u64,
    /// The wanted breach, in the first run that has one.
    breach: Option<(usize, Report)>,
    /// Other properties that were violated.
    others: BTreeSet<&'static str>,
}

/// Returns the number of runs that are searched at once.
fn jobs() -> usize {
    env::var("JOBS")
        .ok()
        .and_then(|jobs| jobs.parse().ok())
        .unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from))
}

/// Explores the runs up to the first breach of any property, or of the wanted one.
fn explore_all(configs: &[Config], adapter: Adapter, wanted: Option<&str>) -> Sum {
    let next = AtomicUsize::new(0);
    let sum = Mutex::new(Sum::default());
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(config) = configs.get(index) else {
                return;
            };
            let report = explore(config, adapter, wanted);
            let mut sum = sum.lock().expect("no other thread panics");
            sum.runs += 1;
            sum.states += report.states;
            sum.transitions += report.transitions;
            sum.prefixes += report.prefixes;
            sum.depth = sum.depth.max(report.depth);
            sum.wakes += report.wakes;
            sum.suppressed += report.suppressed;
            sum.largest = sum.largest.max(report.states);
            if let Some((breach, _)) = &report.breach {
                if wanted.is_some_and(|wanted| wanted != breach.property) {
                    sum.others.insert(breach.property);
                    continue;
                }
                next.store(configs.len(), Ordering::Relaxed);
                if sum.breach.as_ref().is_none_or(|&(first, _)| index < first) {
                    sum.breach = Some((index, report));
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..jobs() {
            scope.spawn(work);
        }
    });
    sum.into_inner().expect("no thread panicked")
}

/// Searches a group, and prints bounds and totals.
fn search(group: &Group, adapter: Adapter, wanted: Option<&str>) -> Sum {
    let start = Instant::now();
    let configs = group.configs();
    let sum = explore_all(&configs, adapter, wanted);
    println!("{}", group.about);
    println!(
        "rings of {} to {}, batches of {:?}, every offset, calls for {}",
        group.sizes.start(),
        group.sizes.end(),
        group.batches,
        group.requests()
    );
    println!(
        "{} of {} runs, {} states (at most {} in one run), {} transitions, up to {} steps deep",
        sum.runs,
        configs.len(),
        sum.states,
        sum.largest,
        sum.transitions,
        sum.depth
    );
    println!(
        "{} paths through a call, {} wakes, {} suppressed, {:.1} s",
        sum.prefixes,
        sum.wakes,
        sum.suppressed,
        start.elapsed().as_secs_f32()
    );
    if let Some((index, report)) = &sum.breach {
        let config = &configs[*index];
        if let Some((breach, trace)) = &report.breach {
            println!(
                "{} is broken, ring of {}, batch of {}: {}",
                breach.property, config.size, config.batch, breach.text
            );
            for line in trace {
                println!("  {line}");
            }
        }
    }
    sum
}

fn check(name: &str) -> Result<(), String> {
    let group = group(name)?;
    let sum = search(group, source("shipped")?, None);
    match (sum.breach, group.violates) {
        (None, None) => {
            println!("all properties hold");
            Ok(())
        }
        (
            Some((
                _,
                Report {
                    breach: Some((breach, _)),
                    ..
                },
            )),
            Some(property),
        ) if breach.property == property => {
            println!("as expected, {property} is broken");
            Ok(())
        }
        (Some(_), _) => Err(format!("{name}: a property is broken")),
        (None, Some(property)) => Err(format!("{name}: {property} should be broken")),
    }
}

fn mutant(name: &str, in_group: &str, wanted: &str) -> Result<(), String> {
    let sum = search(group(in_group)?, source(name)?, Some(wanted));
    match sum.breach {
        Some(_) => Ok(()),
        None if sum.others.is_empty() => {
            Err(format!("{name}: survived; it should have broken {wanted}"))
        }
        None => Err(format!("{name}: broke {:?}, not {wanted}", sum.others)),
    }
}

fn main() -> ExitCode {
    script::quiet();
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        ["list"] => {
            GROUPS.iter().for_each(|group| println!("{}", group.name));
            Ok(())
        }
        ["check", name] => check(name),
        ["mutant", name, group, property] => mutant(name, group, property),
        _ => Err("usage: search list | check GROUP | mutant NAME GROUP PROPERTY".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}
