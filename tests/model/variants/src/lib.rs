// SPDX-License-Identifier: GPL-2.0

//! The code under test, `src/consume.rs`, as it is, and with one mistake at a time.
//!
//! A checker that finds nothing may be blind. So each property has at least one *tooth*: a copy of
//! the source with a mistake in it, in which the checker has to find the breach of that property
//! and of no other. [`write`] makes those copies in a build script's output directory, where each
//! becomes a module of its own beside the unchanged source.

use std::{
    env,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

/// Which of the two checkers has to find a mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checker {
    /// The explicit-state search.
    Search,
    /// Loom.
    Weak,
}

/// A mistake, and what has to come of it.
pub struct Tooth {
    /// Its name, also that of its module.
    pub name: &'static str,
    /// Text of the source, each of which has to be there exactly once, and what takes its place.
    pub edits: &'static [(&'static str, &'static str)],
    /// Who has to find it: the checker, in which of its groups, as a breach of which property.
    pub found: &'static [(Checker, &'static str, &'static str)],
}

use Checker::{Search, Weak};

/// The mistakes.
pub const TEETH: &[Tooth] = &[
    Tooth {
        name: "no_dry_look",
        edits: &[("let look = taken.freed > 0 || is_dry(&ring);", "let look = taken.freed > 0;")],
        found: &[
            (Search, "hand-back", "liveness"),
            (Search, "take-over", "liveness"),
        ],
    },
    Tooth {
        name: "no_wake_when_dry",
        edits: &[("freed >= ring.slots().len() / 2 || is_dry(ring)", "freed >= ring.slots().len() / 2")],
        found: &[(Search, "take-over", "liveness")],
    },
    Tooth {
        name: "look_then_free",
        edits: &[(
            "        let taken = take(&ring, out);\n",
            "        let seen = endpoint.with_device(&ring, |device| {
            own_queue(&device).is_some_and(|queue| queue.is_stopped())
        });
        let taken = take(&ring, out);
        if !seen {
            return Outcome { taken: taken.entries, freed: taken.freed, wake: Wake::NotNeeded };
        }
",
        )],
        found: &[
            (Search, "one-sender-size-1", "liveness"),
            (Weak, "one-sender", "liveness"),
        ],
    },
    Tooth {
        name: "no_full_barrier",
        edits: &[("    smp_mb();\n", "")],
        found: &[(Weak, "one-sender", "liveness")],
    },
    Tooth {
        name: "no_store_barrier",
        edits: &[("            smp_wmb();\n", "")],
        found: &[(Weak, "head", "head")],
    },
    Tooth {
        name: "wake_while_full",
        edits: &[(" && producer.has_room()", "")],
        found: &[
            (Search, "two-senders", "no-wake-while-full"),
            (Weak, "two-senders", "no-wake-while-full"),
        ],
    },
    Tooth {
        name: "wake_unsettled",
        edits: &[(
            "look && endpoint.with_device(&ring, |device| wants_wake(&ring, &device, taken.freed));",
            "look && endpoint.with_device(&ring, |device| {
                let due = wants_wake(&ring, &device, taken.freed);
                if due {
                    if let Some(queue) = device.queue() {
                        queue.wake();
                        device.reset_freed();
                    }
                }
                false
            });",
        )],
        found: &[(Search, "two-senders", "no-wake-while-full")],
    },
    Tooth {
        name: "head_after_free",
        edits: &[
            ("            ring.publish_head(next);\n", ""),
            ("            ring.set_tail(tail);\n", "            ring.set_tail(tail);\n            ring.publish_head(next);\n"),
        ],
        found: &[
            (Search, "one-sender", "head"),
            (Weak, "head", "head"),
        ],
    },
    Tooth {
        name: "no_owner_check",
        edits: &[(" && device.owns_queue()", "")],
        found: &[
            (Search, "detach", "ownership"),
            (Weak, "detach", "ownership"),
        ],
    },
    Tooth {
        name: "no_running_check",
        edits: &[(" && device.is_running()", "")],
        found: &[
            (Search, "link", "running"),
            (Weak, "link", "running"),
        ],
    },
    Tooth {
        name: "no_backpressure_check",
        edits: &[("device.has_backpressure() && ", "")],
        found: &[(Search, "foreign", "backpressure")],
    },
    Tooth {
        name: "unsettled_running",
        edits: &[(
            "        let Some(queue) = own_queue(&device) else {
            return false;
        };
        let producer",
            "        let Some(queue) = device.queue() else {
            return false;
        };
        let producer",
        )],
        found: &[
            (Search, "link", "running"),
            (Search, "detach", "ownership"),
        ],
    },
    Tooth {
        name: "count_not_reset",
        edits: &[("            device.reset_freed();\n", "")],
        found: &[(Search, "one-sender", "count")],
    },
    Tooth {
        name: "count_twice",
        edits: &[("is_enough(&ring, device.add_freed(0))", "is_enough(&ring, device.add_freed(1))")],
        found: &[(Search, "one-sender", "count")],
    },
    Tooth {
        name: "wake_too_early",
        edits: &[("freed >= ring.slots().len() / 2", "freed >= ring.slots().len() / 4")],
        found: &[(Search, "one-sender", "threshold")],
    },
    Tooth {
        name: "look_for_nothing",
        edits: &[("taken.freed > 0 || is_dry(&ring)", "taken.freed > 0 || taken.entries < 99")],
        found: &[(Search, "one-sender", "nothing-for-nothing")],
    },
    Tooth {
        name: "wrong_slot_first",
        edits: &[(".iter().zip(out.iter_mut())", ".iter().rev().zip(out.iter_mut())")],
        found: &[(Search, "one-sender", "conservation")],
    },
    Tooth {
        name: "count_off_by_one",
        edits: &[("        entries = length.wrapping_add(entries);\n", "        entries = length;\n")],
        found: &[(Search, "one-sender", "conservation")],
    },
    Tooth {
        name: "batch_off_by_one",
        edits: &[("            .wrapping_add(batch)\n", "            .wrapping_add(batch + 1)\n")],
        found: &[(Search, "one-sender", "geometry")],
    },
    Tooth {
        name: "no_wrap",
        edits: &[("if head == slots.len() { 0 } else { head }", "head")],
        found: &[(Search, "one-sender", "geometry")],
    },
    Tooth {
        name: "tail_not_moved",
        edits: &[("            ring.set_tail(tail);\n", "")],
        found: &[(Search, "one-sender", "geometry")],
    },
    Tooth {
        name: "bottom_halves_on",
        edits: &[("let _bottom_halves_off = endpoint", "let _ = endpoint")],
        found: &[(Search, "one-sender", "locks")],
    },
    Tooth {
        name: "bottom_halves_on_too_early",
        edits: &[(
            "    let _bottom_halves_off = endpoint.bottom_halves_off();\n    let ring = endpoint.lock();\n",
            "    let ring = endpoint.lock();\n    let _bottom_halves_off = endpoint.bottom_halves_off();\n",
        )],
        found: &[(Search, "one-sender", "locks")],
    },
];

/// Where the source is unless `CONSUME_RS` names another.
fn default_source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../src/consume.rs")
}

/// Applies a tooth's edits, each of which must fit in exactly one place.
fn bite(source: &str, tooth: &Tooth) -> Result<String, String> {
    let mut text = source.to_owned();
    for (from, to) in tooth.edits {
        let places = text.matches(from).count();
        if places != 1 {
            return Err(format!("{places} places for the edit of `{}`", from.trim()));
        }
        text = text.replacen(from, to, 1);
    }
    Ok(text)
}

/// For a build script: writes `sources.rs`, which has one module for each copy of the source and
/// a table of them, and has cargo build again when one of them changes.
///
/// Each module takes the source as its module `consume`, then calls the crate's macro `adapter`,
/// which has to define `pub(crate) const ADAPTER: crate::Adapter`.
///
/// With `CONSUME_RS` set, that file is the source, and there are no copies of it.
///
/// # Panics
///
/// If a file cannot be read or written: there is no building without.
pub fn write() {
    println!("cargo:rerun-if-env-changed=CONSUME_RS");
    let output = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let other = env::var_os("CONSUME_RS").filter(|path| !path.is_empty()).map(PathBuf::from);
    let path = other.clone().unwrap_or_else(default_source);
    println!("cargo:rerun-if-changed={}", path.display());
    let path = path.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let source = fs::read_to_string(&path).expect("the source can be read");

    let mut modules = String::new();
    let mut table = String::new();
    let mut add = |name: &str, path: &Path| {
        let path = path.display();
        writeln!(
            modules,
            "mod {name} {{ #[path = {:?}] mod consume; crate::adapter!(); }}",
            path.to_string()
        )
        .expect("a string can be written to");
        writeln!(table, "    ({name:?}, Ok({name}::ADAPTER)),").expect("as above");
    };
    add("shipped", &path);
    let mut misfits = Vec::new();
    if other.is_none() {
        for tooth in TEETH {
            match bite(&source, tooth) {
                Ok(text) => {
                    let path = output.join(tooth.name).with_extension("rs");
                    fs::write(&path, text).expect("the output directory can be written");
                    add(tooth.name, &path);
                }
                Err(error) => misfits.push((tooth.name, error)),
            }
        }
    }
    for (name, error) in misfits {
        writeln!(table, "    ({name:?}, Err({error:?})),").expect("as above");
    }
    let text = format!(
        "{modules}\n/// Each copy of the source, by name, or why there is none.\n\
         pub(crate) const SOURCES: &[(&str, Result<crate::Adapter, &str>)] = &[\n{table}];\n"
    );
    fs::write(output.join("sources.rs"), text).expect("the output directory can be written");
}
