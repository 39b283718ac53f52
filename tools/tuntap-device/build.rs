// SPDX-License-Identifier: GPL-2.0

//! Passes on the version of the module, which is also that of the tools.

use std::fs;

/// Where it is.
const HOME: &str = "../../Kbuild";

fn main() {
    let kbuild = fs::read_to_string(HOME).expect("tools are built within the tree of the module");
    let version = kbuild
        .lines()
        .find_map(|line| line.strip_prefix("TUNTAP_RING_VERSION := "))
        .expect("Kbuild has the version");
    println!("cargo::rerun-if-changed={HOME}");
    println!("cargo::rustc-env=TUNTAP_RING_VERSION={version}");
}
