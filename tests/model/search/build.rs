// SPDX-License-Identifier: GPL-2.0

//! Writes the code under test, and its copies with a mistake in each, to where `main.rs` takes
//! them from.

fn main() {
    variants::write();
}
