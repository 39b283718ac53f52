// SPDX-License-Identifier: GPL-2.0

//! Writes the modules of the code under test and of its mutants, which `main.rs` includes.

fn main() {
    variants::write();
}
