// SPDX-License-Identifier: GPL-2.0

//! Checks that the running drivers are the ones that this module was built for.
//!
//! Structures such as `struct tun_file` are private to their drivers. Their layout was read from the
//! target's BTF when this module was built, and the kernel does not check at load that the running
//! driver has the same layout: without `CONFIG_MODVERSIONS` it does not distinguish a rebuilt driver
//! from the original. So this module checks twice: at load the build ID of the loaded driver
//! ([`is_same_build`]), and at first use the layout, against the results of the driver's exported
//! functions ([`LayoutCheck`]).

use crate::{
    access,
    bindings, //
};
use core::{
    cell::UnsafeCell,
    mem::{
        self,
        MaybeUninit, //
    },
    ptr::{
        self,
        addr_of,
        NonNull, //
    },
};
use kernel::{
    error::{
        from_err_ptr,
        to_result, //
    },
    prelude::*,
    str::CString, //
};

/// Returns whether `note` is the build ID note of the loaded module of that name.
///
/// Errors: [`ENOENT`] if no such module is loaded or the caller sees no sysfs, [`ENOMEM`].
///
/// Context: may sleep. Reads `/sys/module/*/notes`, as the kernel keeps a module's notes nowhere
/// else; the notes of a driver that is built in are in `/sys/kernel/notes`.
pub(crate) fn is_same_build(name: &CStr, note: &[u8]) -> Result<bool> {
    let path = CString::try_from_fmt(fmt!(
        "/sys/module/{}/notes/.note.gnu.build-id",
        name.to_str()?
    ))?;
    match read_file(&path, |running| running == note) {
        Err(e) if e == ENOENT => read_file(c"/sys/kernel/notes", |running| {
            !note.is_empty() && running.windows(note.len()).any(|window| window == note)
        }),
        result => result,
    }
}

/// Reads a small file as a whole, and returns what `check` returns for its content.
fn read_file<T>(path: &CStr, check: impl FnOnce(&[u8]) -> T) -> Result<T> {
    let mut buffer = KVVec::from_elem(0u8, MOST_NOTES, GFP_KERNEL)?;
    // SAFETY: `path` is a C string; without O_CREAT the mode is not used.
    let file = from_err_ptr(unsafe {
        bindings::filp_open(path.as_char_ptr(), bindings::O_RDONLY as i32, 0)
    })?;
    let mut position = 0;
    // SAFETY: The file is open, and the buffer has the given length.
    let length = unsafe {
        bindings::kernel_read(
            file,
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            &mut position,
        )
    };
    // SAFETY: Opened above, and not used after this.
    unsafe { bindings::filp_close(file, ptr::null_mut()) };
    to_result(length.try_into().unwrap_or(0))?;
    match buffer.get(..length.unsigned_abs()) {
        Some(content) if content.len() < MOST_NOTES => Ok(check(content)),
        _ => Err(EFBIG),
    }
}

/// A size in bytes that exceeds the notes of any kernel or module.
const MOST_NOTES: usize = 4096;

/// Reads through a pointer that is not yet trusted; returns `None` if it does not point to memory.
pub(crate) fn read_untrusted<T: Copy>(from: *const T) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: `value` has room for a `T`, and the function accepts any source address.
    let err = unsafe {
        bindings::copy_from_kernel_nofault(
            value.as_mut_ptr().cast(),
            from.cast(),
            mem::size_of::<T>(),
        )
    };
    // SAFETY: All of `value` was written; the callers read integers and raw pointers only.
    (err == 0).then(|| unsafe { value.assume_init() })
}

/// The result of the layout check of a driver.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Some parts could not be compared yet.
    Unknown,
    /// All compared parts are equal.
    Match,
    /// One part differs.
    Mismatch,
}

/// The check that one driver has the layout that this module was built for. Its result is kept.
///
/// If the layout matches, this keeps the address of the driver's file operations. The driver's
/// getters check nothing else of a file, so later calls compare only this address.
pub(crate) struct LayoutCheck {
    driver: &'static str,
    /// [`UNKNOWN`], [`MISMATCH`], or the address of the file operations. Each call reads it, so it is not
    /// an `Atomic`; `access` has the reason.
    state: UnsafeCell<usize>,
}

/// The state of [`Layout::Unknown`], which is not a valid address.
const UNKNOWN: usize = 1;
/// The state of [`Layout::Mismatch`], which is not a valid address either.
const MISMATCH: usize = 2;

// SAFETY: The state is one word, and is read and written by volatile accesses only. If two CPUs check
// at the same time, those that get a result get the same one, and one that gets none writes nothing.
unsafe impl Sync for LayoutCheck {}

impl LayoutCheck {
    pub(crate) const fn new(driver: &'static str) -> Self {
        Self {
            driver,
            state: UnsafeCell::new(UNKNOWN),
        }
    }

    #[inline(always)]
    fn state(&self) -> usize {
        // SAFETY: Always initialised; see `Sync` above.
        unsafe { self.state.get().read_volatile() }
    }

    /// Returns the result so far.
    #[inline(always)]
    pub(crate) fn result(&self) -> Layout {
        match self.state() {
            UNKNOWN => Layout::Unknown,
            MISMATCH => Layout::Mismatch,
            _ => Layout::Match,
        }
    }

    /// Returns whether a file with these operations belongs to this driver, and the layout is known to match.
    #[inline(always)]
    pub(crate) fn covers(&self, operations: *const bindings::file_operations) -> bool {
        self.state() == operations as usize
    }

    /// Fails with [`ENOEXEC`] if the layout does not match. While the result is unknown, `compare` compares
    /// the layout with `file`, which must be open.
    #[cold]
    pub(crate) fn check(
        &self,
        file: NonNull<bindings::file>,
        compare: impl FnOnce() -> Layout,
    ) -> Result {
        if self.result() == Layout::Unknown {
            let state = match compare() {
                // Does not overwrite the result of another CPU.
                Layout::Unknown => return Ok(()),
                Layout::Match => {
                    // SAFETY: An open file has its operations until it is closed.
                    let operations = unsafe { access::read(addr_of!((*file.as_ptr()).f_op)) };
                    operations as usize
                }
                Layout::Mismatch => {
                    pr_err!(
                        "{}: structure layout mismatch, ignoring its files; rebuild tuntap_ring for this kernel\n",
                        self.driver
                    );
                    MISMATCH
                }
            };
            // SAFETY: See `Sync` above.
            unsafe { self.state.get().write_volatile(state) };
        }
        match self.result() {
            Layout::Mismatch => Err(ENOEXEC),
            _ => Ok(()),
        }
    }
}
