// SPDX-License-Identifier: GPL-2.0

//! The parameters that `module!` declares.
//!
//! The macro generates `module_parameters` in the crate root; no other file reads it. The parameters of
//! `src/exports.c` are stored in `backpressure`.

use crate::module_parameters;
use kernel::prelude::*;

/// Checks the parameters at load, and logs one that is invalid.
///
/// Errors: [`EINVAL`].
pub(crate) fn check() -> Result {
    if !(1..=100).contains(&wake_after()) {
        pr_err!(
            "wake_after={}: not a percentage ({}); use 1 to 100\n",
            wake_after(),
            EINVAL.to_errno()
        );
        return Err(EINVAL);
    }
    Ok(())
}

/// Returns the percentage of a ring that must be freed before its stopped queue is woken.
pub(crate) fn wake_after() -> usize {
    usize::from(module_parameters::wake_after.value())
}
