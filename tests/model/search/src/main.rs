// SPDX-License-Identifier: GPL-2.0

//! An exhaustive, sequentially consistent search through all that can become of `src/consume.rs`
//! among its surroundings. See `../README.rst`.
//!
//! ```text
//! search list            the groups, one a line
//! search teeth           the mistakes and the groups that have to find them, one pair a line
//! search check GROUP     searches a group; exits with 0 if all properties hold
//! search tooth NAME GROUP    exits with 0 if the mistake is found as what it is
//! ```

mod actors;
mod adapter;
mod explore;
mod groups;
mod script;
mod sync;
mod world;

// The code under test is not all used here, and its copies are not this crate's to tidy.
#[allow(dead_code, unused, clippy::all, missing_docs, reason = "generated")]
mod sources {
    include!(concat!(env!("OUT_DIR"), "/sources.rs"));
}

use adapter::Adapter;
use explore::{Config, Report, explore};
use groups::{GROUPS, Group};
use std::{
    env,
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};
use variants::{Checker, TEETH};

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

/// What a group's runs came to together.
#[derive(Default)]
struct Sum {
    runs: usize,
    states: u64,
    transitions: u64,
    prefixes: u64,
    depth: u64,
    wakes: u64,
    withheld: u64,
    largest: u64,
    /// The breach in the first run that has one.
    breach: Option<(usize, Report)>,
}

/// Explores the runs on all processors, up to the first breach.
fn explore_all(configs: &[Config], adapter: Adapter) -> Sum {
    let next = AtomicUsize::new(0);
    let sum = Mutex::new(Sum::default());
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(config) = configs.get(index) else {
                return;
            };
            let report = explore(config, adapter);
            let mut sum = sum.lock().expect("no other thread panics");
            sum.runs += 1;
            sum.states += report.states;
            sum.transitions += report.transitions;
            sum.prefixes += report.prefixes;
            sum.depth = sum.depth.max(report.depth);
            sum.wakes += report.wakes;
            sum.withheld += report.withheld;
            sum.largest = sum.largest.max(report.states);
            if report.breach.is_some() {
                next.store(configs.len(), Ordering::Relaxed);
                if sum.breach.as_ref().is_none_or(|&(first, _)| index < first) {
                    sum.breach = Some((index, report));
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    sum.into_inner().expect("no thread panicked")
}

/// Searches a group, and prints what it did.
fn search(group: &Group, adapter: Adapter) -> Sum {
    let start = Instant::now();
    let configs = group.configs();
    let sum = explore_all(&configs, adapter);
    println!("{}", group.about);
    println!(
        "rings of {} to {}, batches of {} to {}, every offset, calls for {}",
        group.sizes.start(),
        group.sizes.end(),
        group.batches.start(),
        group.batches.end(),
        group.asks()
    );
    println!(
        "{} of {} runs, {} states (at most {} in one run), {} transitions, {} steps deep, {} call prefixes, \
         {} wakes, {} withheld, {:.1} s",
        sum.runs,
        configs.len(),
        sum.states,
        sum.largest,
        sum.transitions,
        sum.depth,
        sum.prefixes,
        sum.wakes,
        sum.withheld,
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
    let sum = search(group(name)?, source("shipped")?);
    match sum.breach {
        Some(_) => Err(format!("{name}: a property is broken")),
        None => Ok(()),
    }
}

fn tooth(name: &str, in_group: &str) -> Result<(), String> {
    let sum = search(group(in_group)?, source(name)?);
    let expected = TEETH
        .iter()
        .filter(|tooth| tooth.name == name)
        .flat_map(|tooth| tooth.found)
        .find(|&&(checker, group, _)| checker == Checker::Search && group == in_group)
        .ok_or_else(|| format!("{name}: not expected to be found in {in_group}"))?
        .2;
    match sum.breach.and_then(|(_, report)| report.breach) {
        Some((breach, _)) if breach.property == expected => Ok(()),
        Some((breach, _)) => Err(format!("{name}: broke {}, not {expected}", breach.property)),
        None => Err(format!("{name}: survived; {expected} should have been found broken")),
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
        ["teeth"] => {
            for tooth in TEETH {
                for (checker, group, property) in tooth.found {
                    if *checker == Checker::Search {
                        println!("{} {group} {property}", tooth.name);
                    }
                }
            }
            Ok(())
        }
        ["check", name] => check(name),
        ["tooth", name, group] => tooth(name, group),
        _ => Err("usage: search list | teeth | check GROUP | tooth NAME GROUP".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}
