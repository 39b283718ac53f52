// SPDX-License-Identifier: GPL-2.0

//! The barriers of the protocol, by the names that the kernel has for them.
//!
//! `consume.rs` knows no others; the model checkers replace this module by their own.

use kernel::sync::barrier::{
    self,
    Full, //
};

/// A full barrier between CPUs.
#[inline(always)]
pub(crate) fn smp_mb() {
    barrier::smp_mb(Full);
}

/// A barrier between CPUs for stores.
///
/// Where stores are seen in program order anyway it is a compiler barrier, as in the C header;
/// the kernel crate's would be a call out of line on a kernel built with gcc.
#[inline(always)]
pub(crate) fn smp_wmb() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: Empty; that it may be taken to touch all memory is what makes it a barrier.
    unsafe {
        core::arch::asm!("", options(nostack, preserves_flags))
    };
    #[cfg(not(target_arch = "x86_64"))]
    barrier::smp_mb(barrier::Write);
}
