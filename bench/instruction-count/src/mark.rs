// SPDX-License-Identifier: GPL-2.0

//! Executes the mark once: under QEMU with the plugin, this adds a line to its file.

fn main() {
    instruction_count::mark();
}
