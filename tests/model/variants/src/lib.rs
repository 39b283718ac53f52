// SPDX-License-Identifier: GPL-2.0

//! The code under test, `src/consume.rs`, and its mutants.
//!
//! A checker that finds nothing may be blind. So it is also built with copies of the source, each with a
//! mistake from `tests/mutants`, which the checker has to find.

use std::{
    env,
    ffi::c_void,
    fmt::Write as _,
    fs,
    mem::MaybeUninit,
    path::{Path, PathBuf},
};

/// Finds a copy of the source in the table that [`write()`] creates.
///
/// # Errors
///
/// Returns a message if the table has no such copy.
pub fn find<T: Copy>(table: &[(&str, T)], name: &str) -> Result<T, String> {
    table
        .iter()
        .find(|source| source.0 == name)
        .map(|source| source.1)
        .ok_or_else(|| format!("{name}: no such copy of the source; build with MUTANTS="))
}

/// Returns the addresses of the first entries of an array that was initialised with NULL.
#[expect(
    unsafe_code,
    reason = "the code under test takes an array of `MaybeUninit`"
)]
pub fn addresses(out: &[MaybeUninit<*mut c_void>], taken: usize) -> Vec<usize> {
    let taken = out.iter().take(taken);
    // SAFETY: The caller initialised all elements, and an initialised element stays initialised.
    taken
        .map(|entry| unsafe { entry.assume_init() }.addr())
        .collect()
}

/// Returns the copies in a folder of mutants that differ from `shipped`.
fn mutants(folder: &Path, shipped: &str) -> Vec<(String, PathBuf)> {
    println!("cargo:rerun-if-changed={}", folder.display());
    let mut mutants: Vec<_> = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .filter_map(|entry| {
            let path = entry.expect("the folder can be read").path();
            let name = path.file_stem()?.to_str()?.to_owned();
            let text = fs::read_to_string(&path).ok()?;
            (text != shipped).then_some((name, path))
        })
        .collect();
    mutants.sort();
    mutants
}

/// Writes `sources.rs` for a build script, and makes cargo build again when a copy of the source changes.
///
/// `sources.rs` has a module for each copy, and a table of the modules. Each module has the copy as its
/// module `consume`, and calls the crate's macro `adapter`, which must define
/// `pub(crate) const ADAPTER: crate::Adapter`.
///
/// The unmodified source has the name `shipped`. The environment variable `MUTANTS` is the folder of the
/// mutants, with a file `NAME.rs` for each; without it there are no mutants.
///
/// # Panics
///
/// Panics if a file cannot be read or written, as the build then fails.
pub fn write() {
    println!("cargo:rerun-if-env-changed=MUTANTS");
    // Cargo compares times of files, but a changed source may have the same time.
    println!("cargo:rerun-if-env-changed=SOURCE_KEY");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../src/consume.rs");
    let path = path
        .canonicalize()
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    println!("cargo:rerun-if-changed={}", path.display());
    let shipped = fs::read_to_string(&path).expect("the source can be read");

    let mut sources = vec![("shipped".to_owned(), path)];
    if let Some(folder) = env::var_os("MUTANTS").filter(|folder| !folder.is_empty()) {
        sources.extend(mutants(Path::new(&folder), &shipped));
    }
    let mut modules = String::new();
    let mut table = String::new();
    for (name, path) in sources {
        let (module, path) = (name.replace('-', "_"), path.display().to_string());
        writeln!(
            modules,
            "mod {module} {{ #[path = {path:?}] mod consume; crate::adapter!(); }}"
        )
        .expect("a string can be written to");
        writeln!(table, "    ({name:?}, {module}::ADAPTER),").expect("as above");
    }
    let text = format!(
        "{modules}\n/// Each copy of the source, by name.\n\
         pub(crate) const SOURCES: &[(&str, crate::Adapter)] = &[\n{table}];\n"
    );
    let output = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(output.join("sources.rs"), text).expect("the output directory can be written");
}
