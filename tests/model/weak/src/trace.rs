// SPDX-License-Identifier: GPL-2.0

//! The steps of the current execution, in the order in which loom ran them.

use loom::thread;
use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

static WANTED: AtomicBool = AtomicBool::new(false);
static STEPS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Keeps steps from now on, to print them when a thread panics.
pub(crate) fn want() {
    WANTED.store(true, Ordering::Relaxed);
}

/// Returns whether steps are kept.
pub(crate) fn wanted() -> bool {
    WANTED.load(Ordering::Relaxed)
}

/// Starts a new execution, without steps.
pub(crate) fn start() {
    STEPS.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

/// Adds a step of the running thread.
pub(crate) fn add(step: String) {
    let thread = thread::current();
    let name = thread.name().unwrap_or("at the end");
    STEPS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(format!("{name}: {step}"));
}

/// Prints the steps of the current execution.
pub(crate) fn print() {
    for step in STEPS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .drain(..)
    {
        println!("    {step}");
    }
}
