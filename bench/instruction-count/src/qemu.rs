// SPDX-License-Identifier: GPL-2.0

//! The part of QEMU 10.0's plugin interface that the plugin uses. Debian ships no header for it,
//! and the crates for it require a newer compiler than the kernel's.
//!
//! The functions are in QEMU itself, and are resolved when it loads the plugin. Tests and other programs
//! never call them.

use std::ffi::{c_uint, c_void};
use std::marker::{PhantomData, PhantomPinned};

/// `qemu_plugin_id_t`: identifies the plugin.
pub type Id = u64;

macro_rules! opaque {
    ($(#[$doc:meta] $name:ident),* $(,)?) => {$(
        #[$doc]
        #[repr(C)]
        pub struct $name {
            _data: [u8; 0],
            _marker: PhantomData<(*mut u8, PhantomPinned)>,
        }
    )*};
}

opaque! {
    /// `qemu_info_t`: information about the guest.
    Info,
    /// `struct qemu_plugin_tb`: code that is translated as a whole.
    TranslationBlock,
    /// `struct qemu_plugin_insn`: one instruction in a block.
    Instruction,
    /// `struct qemu_plugin_scoreboard`: an element for each CPU.
    Scoreboard,
}

/// `qemu_plugin_u64`: a counter in the elements of a scoreboard.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct U64 {
    pub score: *mut Scoreboard,
    pub offset: usize,
}

// SAFETY: Each CPU's thread has its own element, and QEMU moves elements only while no CPU runs.
unsafe impl Send for U64 {}
// SAFETY: As above.
unsafe impl Sync for U64 {}

/// `enum qemu_plugin_op`.
#[repr(C)]
pub enum InlineOperation {
    Add = 0,
}

/// `enum qemu_plugin_cb_flags`.
#[repr(C)]
pub enum CallbackFlags {
    NoRegisters = 0,
}

type Translated = extern "C" fn(Id, *mut TranslationBlock);
type Executed = extern "C" fn(c_uint, *mut c_void);

unsafe extern "C" {
    pub fn qemu_plugin_register_vcpu_tb_trans_cb(id: Id, callback: Translated);
    pub fn qemu_plugin_tb_n_insns(block: *const TranslationBlock) -> usize;
    pub fn qemu_plugin_tb_vaddr(block: *const TranslationBlock) -> u64;
    pub fn qemu_plugin_tb_get_insn(
        block: *const TranslationBlock,
        index: usize,
    ) -> *mut Instruction;
    pub fn qemu_plugin_insn_data(
        instruction: *const Instruction,
        to: *mut c_void,
        len: usize,
    ) -> usize;
    pub fn qemu_plugin_register_vcpu_insn_exec_cb(
        instruction: *mut Instruction,
        callback: Executed,
        flags: CallbackFlags,
        data: *mut c_void,
    );
    pub fn qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(
        block: *mut TranslationBlock,
        operation: InlineOperation,
        entry: U64,
        operand: u64,
    );
    pub fn qemu_plugin_scoreboard_new(element_size: usize) -> *mut Scoreboard;
    pub fn qemu_plugin_u64_sum(entry: U64) -> u64;
    pub fn qemu_plugin_u64_get(entry: U64, cpu: c_uint) -> u64;
}
