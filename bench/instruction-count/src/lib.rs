// SPDX-License-Identifier: GPL-2.0

//! A plugin for QEMU's TCG that counts the instructions of a VM, and a mark with which a program in the VM
//! triggers a reading.
//!
//! With `-plugin libinstruction_count.so,out=FILE`, each execution of [`mark`] in the VM adds a line to FILE: the
//! instructions of all CPUs so far, at addresses of the kernel and of user space, and the instructions of the marking
//! CPU in the kernel. A halted CPU executes none. Blocks with `pause` or `yield`, in loops that wait for another CPU, do
//! not count: the number of iterations depends on the host. The VM is x86-64 or arm64.

mod qemu;

use std::arch::asm;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::fs::File;
use std::io::Write;
use std::ptr::null_mut;
use std::slice;
use std::sync::{Mutex, OnceLock};

use qemu::{CallbackFlags, Id, Info, InlineOperation, Instruction, TranslationBlock, U64};

/// The marks of x86-64 and arm64: a `nopl` with a displacement, and a `hint` with a number, that no compiler and no
/// assembler generates. Each does nothing on any CPU. It is one instruction, so the end of a block cannot split it. No
/// instruction of the other architecture has these bytes.
const MARKS: [&[u8]; 2] = [
    &[0x0f, 0x1f, 0x84, 0x00, 0x4d, 0x41, 0x52, 0x4b],
    &[0xbf, 0x29, 0x03, 0xd5],
];

/// `pause` of x86-64 and `yield` of arm64.
const PAUSES: [&[u8]; 2] = [&[0xf3, 0x90], &[0x3f, 0x20, 0x03, 0xd5]];

/// Executes the mark.
pub fn mark() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: It is a no-op.
    unsafe {
        asm!(".byte 0x0f, 0x1f, 0x84, 0x00, 0x4d, 0x41, 0x52, 0x4b");
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: It is a no-op.
    unsafe {
        asm!("hint #77");
    }
}

/// The version of the plugin interface: that of QEMU 9.2 and 10.0.
#[unsafe(no_mangle)]
pub static qemu_plugin_version: c_int = 4;

struct Counter {
    kernel: U64,
    user: U64,
    out: Mutex<File>,
}

static COUNTER: OnceLock<Counter> = OnceLock::new();

/// The upper half of the address space is the kernel's.
fn is_kernel(address: u64) -> bool {
    address >> 63 == 1
}

extern "C" fn marked(cpu: c_uint, _data: *mut c_void) {
    let Some(counter) = COUNTER.get() else { return };
    // SAFETY: `counter_per_cpu()` created both counters, and they are never freed.
    let kernel = unsafe { qemu::qemu_plugin_u64_sum(counter.kernel) };
    // SAFETY: As above.
    let user = unsafe { qemu::qemu_plugin_u64_sum(counter.user) };
    // SAFETY: As above, and QEMU gave the number of the CPU.
    let own = unsafe { qemu::qemu_plugin_u64_get(counter.kernel, cpu) };
    // The reader of the file notices missing lines.
    if let Ok(mut out) = counter.out.lock() {
        let _ = out.write_all(format!("{kernel} {user} {own}\n").as_bytes());
    }
}

extern "C" fn translated(_id: Id, block: *mut TranslationBlock) {
    let Some(counter) = COUNTER.get() else { return };
    // SAFETY: QEMU passes a block that is valid until this callback returns; the same holds below.
    let count = unsafe { qemu::qemu_plugin_tb_n_insns(block) };
    // SAFETY: As above.
    let kernel = is_kernel(unsafe { qemu::qemu_plugin_tb_vaddr(block) });
    let mut waits = false;
    for index in 0..count {
        // SAFETY: The block has `count` instructions.
        let instruction = unsafe { qemu::qemu_plugin_tb_get_insn(block, index) };
        let bytes = bytes_of(instruction);
        waits |= PAUSES.contains(&bytes.as_slice());
        if MARKS.contains(&bytes.as_slice()) {
            // SAFETY: The instruction belongs to this block, and the callback needs no data.
            unsafe {
                qemu::qemu_plugin_register_vcpu_insn_exec_cb(
                    instruction,
                    marked,
                    CallbackFlags::NoRegisters,
                    null_mut(),
                );
            }
        }
    }
    if !waits {
        let entry = if kernel { counter.kernel } else { counter.user };
        // SAFETY: The block is valid, and the counter is never freed.
        unsafe {
            qemu::qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(
                block,
                InlineOperation::Add,
                entry,
                count as u64,
            );
        }
    }
}

/// Returns the bytes of an instruction in the block that is being translated.
fn bytes_of(instruction: *mut Instruction) -> Vec<u8> {
    // The longest instruction of x86 has 15 bytes.
    let mut bytes = [0; 16];
    // SAFETY: QEMU passed the instruction, and writes at most the length of the buffer.
    let len =
        unsafe { qemu::qemu_plugin_insn_data(instruction, bytes.as_mut_ptr().cast(), bytes.len()) };
    bytes[..len.min(bytes.len())].to_vec()
}

fn counter_per_cpu() -> U64 {
    U64 {
        // SAFETY: The function requires only a size. QEMU creates an element for each CPU.
        score: unsafe { qemu::qemu_plugin_scoreboard_new(size_of::<u64>()) },
        offset: 0,
    }
}

/// Loads the plugin.
///
/// # Safety
///
/// `argv` must have `argc` strings. Only QEMU calls this function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qemu_plugin_install(
    id: Id,
    _info: *const Info,
    argc: c_int,
    argv: *const *const c_char,
) -> c_int {
    let arguments = match usize::try_from(argc) {
        Ok(count) if count > 0 => {
            // SAFETY: `argv` has `argc` elements.
            unsafe { slice::from_raw_parts(argv, count) }
        }
        _ => &[],
    };
    let path = arguments.iter().find_map(|argument| {
        // SAFETY: Each element is a string.
        let argument = unsafe { CStr::from_ptr(*argument) };
        argument.to_str().ok()?.strip_prefix("out=")
    });
    let Some(path) = path else {
        eprintln!("instruction-count: no output file; add out=FILE");
        return 1;
    };
    let out = match File::create(path) {
        Ok(file) => Mutex::new(file),
        Err(err) => {
            eprintln!("instruction-count: cannot create {path}: {err}");
            return 1;
        }
    };
    let (kernel, user) = (counter_per_cpu(), counter_per_cpu());
    let _ = COUNTER.set(Counter { kernel, user, out });
    // SAFETY: The callback has the required type, and is not unloaded.
    unsafe { qemu::qemu_plugin_register_vcpu_tb_trans_cb(id, translated) };
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_kernel_addresses_from_user_addresses() {
        assert!(is_kernel(0xffff_ffff_8100_0000));
        assert!(is_kernel(0xffff_8880_0000_0000));
        assert!(!is_kernel(0x7fff_ffff_f000));
        assert!(!is_kernel(0x40_1000));
    }

    #[test]
    fn mark_executes_the_bytes_that_the_plugin_finds() {
        let code = mark as fn() as *const u8;
        // SAFETY: The code of this program continues for more than 64 bytes after the start of `mark()`.
        let bytes = unsafe { slice::from_raw_parts(code, 64) };
        let wanted = MARKS[usize::from(cfg!(target_arch = "aarch64"))];
        assert!(bytes.windows(wanted.len()).any(|bytes| bytes == wanted));
        mark();
    }
}
