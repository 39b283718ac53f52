// SPDX-License-Identifier: GPL-2.0

//! The barriers of the protocol, by the names that the kernel has for them.
//!
//! `consume.rs` knows no others; the model checkers replace this module by their own.

#[cfg(not(target_arch = "x86_64"))]
use kernel::sync::barrier::{
    self,
    Full,
    Write, //
};

// The kernel crate's barriers are calls out of line, unless the kernel inlines its helpers into Rust
// (CONFIG_RUST_INLINE_HELPERS, clang only). So where this module runs they are written as the C headers
// have them.

/// A full barrier between CPUs.
#[inline(always)]
pub(crate) fn smp_mb() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: Adds nothing to a word below the stack pointer, as `__smp_mb()` does; what a locked
    // instruction orders is all memory, and that is what the block may be taken to touch.
    unsafe {
        core::arch::asm!("lock addl $0, -4(%rsp)", options(att_syntax))
    };
    #[cfg(not(target_arch = "x86_64"))]
    barrier::smp_mb(Full);
}

/// A barrier between CPUs for stores.
///
/// Where stores are seen in program order anyway it is a compiler barrier.
#[inline(always)]
pub(crate) fn smp_wmb() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: Empty; that it may be taken to touch all memory is what makes it a barrier.
    unsafe {
        core::arch::asm!("", options(nostack, preserves_flags))
    };
    #[cfg(not(target_arch = "x86_64"))]
    barrier::smp_mb(Write);
}
