// SPDX-License-Identifier: GPL-2.0

//! The barriers of the protocol, by the names that the kernel has for them.
//!
//! `consume.rs` knows no others; the model checkers replace this module by their own.

#[cfg(CONFIG_KCSAN)]
use crate::bindings;
#[cfg(not(any(target_arch = "x86_64", CONFIG_KCSAN)))]
use kernel::sync::barrier::{
    self,
    Full,
    Write, //
};

// The kernel crate's barriers are calls out of line, unless the kernel inlines its helpers into Rust
// (CONFIG_RUST_INLINE_HELPERS, clang only). So where this module runs they are written as the C headers
// have them. KCSAN wants to be told of each; there they are C's.

/// A full barrier between CPUs.
#[inline(always)]
pub(crate) fn smp_mb() {
    #[cfg(all(target_arch = "x86_64", not(CONFIG_KCSAN)))]
    // SAFETY: Adds nothing to a word below the stack pointer, as `__smp_mb()` does; what a locked
    // instruction orders is all memory, and that is what the block may be taken to touch.
    unsafe {
        core::arch::asm!("lock addl $0, -4(%rsp)", options(att_syntax))
    };
    #[cfg(CONFIG_KCSAN)]
    // SAFETY: May be called in any context.
    unsafe {
        bindings::tuntap_ring_helper_smp_mb()
    };
    #[cfg(not(any(target_arch = "x86_64", CONFIG_KCSAN)))]
    barrier::smp_mb(Full);
}

/// A barrier between CPUs for stores.
///
/// Where stores are seen in program order anyway it is a compiler barrier.
#[inline(always)]
pub(crate) fn smp_wmb() {
    #[cfg(all(target_arch = "x86_64", not(CONFIG_KCSAN)))]
    // SAFETY: Empty; that it may be taken to touch all memory is what makes it a barrier.
    unsafe {
        core::arch::asm!("", options(nostack, preserves_flags))
    };
    #[cfg(CONFIG_KCSAN)]
    // SAFETY: May be called in any context.
    unsafe {
        bindings::tuntap_ring_helper_smp_wmb()
    };
    #[cfg(not(any(target_arch = "x86_64", CONFIG_KCSAN)))]
    barrier::smp_mb(Write);
}
