// SPDX-License-Identifier: GPL-2.0

//! The code under test, `src/consume.rs`, as it is, and with one mistake at a time.
//!
//! A checker that finds nothing may be blind. So it is built with copies of the source beside the
//! source itself, each with a mistake of `tests/mutants` in it, which the checker has to find.

use std::{
    env,
    ffi::c_void,
    fmt::Write as _,
    fs,
    mem::MaybeUninit,
    path::{Path, PathBuf},
};

/// Finds a copy of the source in the table that [`write()`] has made.
///
/// # Errors
///
/// A text for a human, if it is not in there.
pub fn find<T: Copy>(table: &[(&str, T)], name: &str) -> Result<T, String> {
    table
        .iter()
        .find(|source| source.0 == name)
        .map(|source| source.1)
        .ok_or_else(|| format!("{name}: no such copy of the source; was this built with MUTANTS=?"))
}

/// The addresses of the first entries of an array that was all NULL once.
#[expect(
    unsafe_code,
    reason = "`MaybeUninit` is what the code under test takes"
)]
pub fn addresses(out: &[MaybeUninit<*mut c_void>], taken: usize) -> Vec<usize> {
    let taken = out.iter().take(taken);
    // SAFETY: The caller initialised all elements, and what is initialised stays so.
    taken
        .map(|entry| unsafe { entry.assume_init() }.addr())
        .collect()
}

/// From a folder of copies of the source, one for each mistake, those that differ from `shipped`.
fn mutants(folder: &Path, shipped: &str) -> Vec<(String, PathBuf)> {
    println!("cargo:rerun-if-changed={}", folder.display());
    let mut mutants: Vec<_> = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .filter_map(|entry| {
            let path = entry.expect("a folder can be read on").path();
            let name = path.file_stem()?.to_str()?.to_owned();
            let text = fs::read_to_string(&path).ok()?;
            (text != shipped).then_some((name, path))
        })
        .collect();
    mutants.sort();
    mutants
}

/// For a build script: writes `sources.rs`, which has one module for each copy of the source and
/// a table of them, and has cargo build again when one of them changes.
///
/// Each module takes the source as its module `consume`, then calls the crate's macro `adapter`,
/// which has to define `pub(crate) const ADAPTER: crate::Adapter`.
///
/// The source itself is called `shipped`. The environment variable `MUTANTS` names the folder of
/// the others, `NAME.rs` each; there are none if it is not set.
///
/// # Panics
///
/// If a file cannot be read or written: there is no building without.
pub fn write() {
    println!("cargo:rerun-if-env-changed=MUTANTS");
    // Cargo goes by the times of files; that a source is another may show in its text only.
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
