// SPDX-License-Identifier: GPL-2.0

//! Whether the running drivers are those that this module was built for.
//!
//! `struct tun_file` and its kin are private to their drivers. Their layout was read from the
//! target's BTF when this module was built, and nothing in the kernel checks at load that the
//! driver that runs has the same one: without `CONFIG_MODVERSIONS` a rebuilt driver passes for the
//! original. So we check, twice: at load that the loaded driver is, by its build ID, the very one
//! ([`is_same_build`]); and at first use that the layout agrees with what the driver's exported
//! functions say ([`Agreement`]).

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

/// Whether the module of that name, as it is loaded now, has `note` as its build ID note.
///
/// Errors: [`ENOENT`] if no such module is loaded or the caller sees no sysfs, [`ENOMEM`].
///
/// Context: may sleep. Reads `/sys/module/*/notes`, as the kernel keeps a module's notes nowhere
/// else; what is built in has its notes in `/sys/kernel/notes`.
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

/// Reads a small file whole and looks at it.
fn read_file<T>(path: &CStr, look: impl FnOnce(&[u8]) -> T) -> Result<T> {
    let mut buffer = KVVec::from_elem(0u8, MOST_NOTES, GFP_KERNEL)?;
    // SAFETY: `path` is a C string; without O_CREAT the mode is not used.
    let file = from_err_ptr(unsafe {
        bindings::filp_open(path.as_char_ptr(), bindings::O_RDONLY as i32, 0)
    })?;
    let mut position = 0;
    // SAFETY: The file is open, and the buffer is as long as is said.
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
        Some(content) if content.len() < MOST_NOTES => Ok(look(content)),
        _ => Err(EFBIG),
    }
}

/// More than the notes of any kernel or module take, in bytes.
const MOST_NOTES: usize = 4096;

/// Reads what a pointer that is not yet trusted points to; `None` where that is no memory.
pub(crate) fn read_untrusted<T: Copy>(from: *const T) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: `value` has room for it, and the function copes with any source.
    let err = unsafe {
        bindings::copy_from_kernel_nofault(
            value.as_mut_ptr().cast(),
            from.cast(),
            mem::size_of::<T>(),
        )
    };
    // SAFETY: It was copied whole; the callers read integers and raw pointers only.
    (err == 0).then(|| unsafe { value.assume_init() })
}

/// What is known of a driver's layout.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Not everything could be compared yet.
    Open,
    /// All comparisons agreed.
    Fits,
    /// One did not.
    Misfit,
}

/// The agreement of one driver with the layout that we have of it, reached once and then kept.
///
/// What is kept is the address of the driver's file operations: that of a file is all that the
/// driver's getters look at, and all that a call has to compare from then on.
pub(crate) struct Agreement {
    driver: &'static str,
    /// [`OPEN`], [`MISFIT`], or the address of the file operations. Each call reads it, so it is no
    /// `Atomic`; `access` has the reason.
    state: UnsafeCell<usize>,
}

/// No address of anything.
const OPEN: usize = 1;
const MISFIT: usize = 2;

// SAFETY: The state is one word, and is read and written by volatile accesses only. Of two CPUs that
// come to it at once, those that decide come to the same one, and one that can't writes nothing.
unsafe impl Sync for Agreement {}

impl Agreement {
    pub(crate) const fn new(driver: &'static str) -> Self {
        Self {
            driver,
            state: UnsafeCell::new(OPEN),
        }
    }

    #[inline(always)]
    fn state(&self) -> usize {
        // SAFETY: Always initialised; see `Sync` above.
        unsafe { self.state.get().read_volatile() }
    }

    /// The verdict so far.
    #[inline(always)]
    pub(crate) fn verdict(&self) -> Verdict {
        match self.state() {
            OPEN => Verdict::Open,
            MISFIT => Verdict::Misfit,
            _ => Verdict::Fits,
        }
    }

    /// Whether a file with these operations is one of this driver's, and the layout known to fit.
    #[inline(always)]
    pub(crate) fn covers(&self, operations: *const bindings::file_operations) -> bool {
        self.state() == operations as usize
    }

    /// Fails with [`ENOEXEC`] if the layout is known not to match. As long as that is not known,
    /// `compare` finds out with `file`, which must be open.
    #[cold]
    pub(crate) fn decide(
        &self,
        file: NonNull<bindings::file>,
        compare: impl FnOnce() -> Verdict,
    ) -> Result {
        if self.verdict() == Verdict::Open {
            let state = match compare() {
                // What another CPU has decided meanwhile is not undone.
                Verdict::Open => return Ok(()),
                Verdict::Fits => {
                    // SAFETY: An open file has its operations until it is closed.
                    let operations = unsafe { access::read(addr_of!((*file.as_ptr()).f_op)) };
                    operations as usize
                }
                Verdict::Misfit => {
                    pr_err!(
                        "the running {} has not the layout that this module was built for: refusing its files; rebuild for this kernel\n",
                        self.driver
                    );
                    MISFIT
                }
            };
            // SAFETY: See `Sync` above.
            unsafe { self.state.get().write_volatile(state) };
        }
        match self.verdict() {
            Verdict::Misfit => Err(ENOEXEC),
            _ => Ok(()),
        }
    }
}
