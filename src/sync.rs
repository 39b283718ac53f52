// SPDX-License-Identifier: GPL-2.0

//! The barrier of the protocol, by the name that the kernel has for it.
//!
//! `consume.rs` uses no other; the model checkers replace this module with their own.

#[cfg(CONFIG_KCSAN)]
use crate::bindings;
#[cfg(not(any(target_arch = "x86_64", CONFIG_KCSAN)))]
use kernel::sync::barrier::{
    self,
    Full, //
};

// The barrier of the kernel crate is a call out of line, unless the kernel inlines its helpers into Rust
// (CONFIG_RUST_INLINE_HELPERS, clang only). So where this module runs it is written as the C headers
// have it. KCSAN has to see it; there it is C's.

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
