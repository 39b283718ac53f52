// SPDX-License-Identifier: GPL-2.0

//! The barrier of the protocol, under its name in the kernel.
//!
//! `consume.rs` uses no other barrier; the model checkers replace this module with their own.

#[cfg(CONFIG_KCSAN)]
use crate::bindings;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", CONFIG_KCSAN)))]
use kernel::sync::barrier::{
    self,
    Full, //
};

// The barrier of the kernel crate is a call out of line, unless the kernel inlines its helpers into Rust
// (CONFIG_RUST_INLINE_HELPERS, clang only). So x86-64 and arm64 have the instruction of the C headers here. With
// CONFIG_KCSAN the barrier is C's, which KCSAN instruments.

/// Executes a full barrier between CPUs.
#[inline(always)]
pub(crate) fn smp_mb() {
    #[cfg(all(target_arch = "x86_64", not(CONFIG_KCSAN)))]
    // SAFETY: Adds 0 to a word below the stack pointer, as `__smp_mb()` does. A locked instruction
    // orders all memory accesses, and the compiler assumes that the block accesses all memory.
    unsafe {
        core::arch::asm!("lock addl $0, -4(%rsp)", options(att_syntax))
    };
    #[cfg(all(target_arch = "aarch64", not(CONFIG_KCSAN)))]
    // SAFETY: Accesses no memory and no register, as `__smp_mb()` does; the block may be taken to touch all
    // memory, so the compiler moves no access over it.
    unsafe {
        core::arch::asm!("dmb ish", options(nostack, preserves_flags))
    };
    #[cfg(CONFIG_KCSAN)]
    // SAFETY: May be called in any context.
    unsafe {
        bindings::tuntap_ring_helper_smp_mb()
    };
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", CONFIG_KCSAN)))]
    barrier::smp_mb(Full);
}
