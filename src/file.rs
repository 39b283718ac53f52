// SPDX-License-Identifier: GPL-2.0

//! What the files of tun and tap have in common: a `struct file` whose private data begins with a
//! socket and holds a ring.

use crate::{
    access, bindings,
    consume::Outcome,
    layout::{
        Agreement,
        Verdict, //
    },
    ptr_ring::{
        Locked,
        PtrRing, //
    },
};
use core::{
    ffi::c_void,
    mem::MaybeUninit,
    ptr::{
        addr_of,
        NonNull, //
    },
};
use kernel::{
    error::from_err_ptr,
    prelude::*, //
};

/// A file of a driver, whose private data has a ring in it.
pub(crate) trait File<'a>: Copy {
    /// The file's private data.
    type Private;

    /// Where the ring is in it, in bytes.
    const RING: usize;

    /// The driver's own way from a file to its ring. It tells files apart by their operations.
    const GETTER: unsafe extern "C" fn(*mut bindings::file) -> *mut bindings::ptr_ring;

    /// Whether the driver has the layout that we have of it.
    fn agreement() -> &'static Agreement;

    /// The file, by its private data.
    ///
    /// # Safety
    ///
    /// `file` must be a file of this driver that stays open for `'a`, and `private` its private data.
    /// The layout must be known to match before anything is done with the result but [`File::compare`].
    unsafe fn new(file: NonNull<bindings::file>, private: NonNull<Self::Private>) -> Self;

    /// Compares the layout that this module was built for with what the driver's own functions and its
    /// devices report. `_ring` shows that the consumer lock is held, which protects the file's queue.
    fn compare(&self, _ring: &Locked<'_>) -> Verdict;

    /// Takes up to `out.len()` entries off the ring; the first [`Outcome::taken`] elements of `out` are
    /// initialised then.
    fn consume_batched(self, out: &mut [MaybeUninit<*mut c_void>]) -> Outcome;

    /// Reports a call for `asked` entries to the trace point `consume_batched`.
    fn trace(self, asked: usize, outcome: &Outcome);

    /// Finds what lies behind a `struct file`.
    ///
    /// Errors: [`EBADF`] for NULL, those of the driver's getter ([`EINVAL`] for another driver's file),
    /// [`ENOEXEC`] if the running driver does not have the layout that we were built for.
    ///
    /// # Safety
    ///
    /// `file` must be NULL or point to a file that stays open for `'a`.
    #[inline(always)]
    unsafe fn from_raw(file: *mut bindings::file) -> Result<Self> {
        let file = NonNull::new(file).ok_or(EBADF)?;
        // SAFETY: The file is open; neither changes until it is closed.
        let (operations, private) = unsafe {
            (
                access::read(addr_of!((*file.as_ptr()).f_op)),
                access::read(addr_of!((*file.as_ptr()).private_data)),
            )
        };
        if !Self::agreement().covers(operations) || private.is_null() {
            // SAFETY: By the safety contract.
            unsafe { Self::ask(file, private) }?;
        }
        // SAFETY: The private data of an open file of this driver.
        Ok(unsafe { Self::new(file, NonNull::new_unchecked(private.cast())) })
    }

    /// Asks the driver whether a file is its own, and compares layouts: for the files of others, and
    /// while it is not known whether the layout fits.
    ///
    /// # Safety
    ///
    /// `file` must be open for `'a`, and have this private data.
    #[cold]
    unsafe fn ask(file: NonNull<bindings::file>, private: *mut c_void) -> Result {
        // SAFETY: By the safety contract.
        let ring = from_err_ptr(unsafe { Self::GETTER(file.as_ptr()) })?;
        let ring = NonNull::new(ring).ok_or(EBADF)?;
        // A member of the private data, at that offset if the layout matches; until that is known it is
        // only compared.
        let owner = NonNull::new(ring.as_ptr().wrapping_byte_sub(Self::RING)).ok_or(EBADF)?;
        // SAFETY: The getter took it for a file of this driver.
        let result = unsafe { Self::new(file, owner.cast()) };
        Self::agreement().decide(file, || {
            // SAFETY: The driver's own getter returned the ring of an open file.
            let ring = unsafe { PtrRing::from_raw(ring) };
            result.compare(&ring.lock())
        })?;
        if owner.as_ptr().cast() != private {
            return Err(ENOEXEC);
        }
        Ok(())
    }
}

/// Whether a driver's own word agrees with our idea of what lies behind its file: that it is the
/// file's private data, that the socket is where we think, and that all of it is as large as we
/// think.
///
/// # Safety
///
/// `file` must be an open file of the driver that returned `socket` for it. `private` and
/// `socket` are compared as addresses; only `socket` is followed.
#[cold]
pub(crate) unsafe fn agrees(
    file: *mut bindings::file,
    private: NonNull<u8>,
    socket: *mut bindings::socket,
    socket_offset: usize,
    size: usize,
) -> bool {
    // SAFETY: The file is open.
    let private_data = unsafe { access::read(addr_of!((*file).private_data)) };
    if private_data.cast() != private.as_ptr()
        || socket.cast() != private.as_ptr().wrapping_add(socket_offset)
    {
        return false;
    }
    // SAFETY: The getter's result is the socket of the open file; it has a `struct sock` whose
    // protocol says how large the whole is.
    let object_size = unsafe {
        // Its first member, by the C header's own promise.
        let sock = access::read(addr_of!((*socket).sk)).cast::<bindings::sock_common>();
        let proto = access::read(addr_of!((*sock).skc_prot));
        access::read(addr_of!((*proto).obj_size))
    };
    object_size as usize == size
}

/// The length of an array behind a raw pointer, which is not followed.
#[inline(always)]
pub(crate) const fn array_len<T, const N: usize>(_array: *const [T; N]) -> usize {
    N
}
