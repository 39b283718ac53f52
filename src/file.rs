// SPDX-License-Identifier: GPL-2.0

//! The common part of files of tun and tap: a `struct file` whose private data begins with a
//! socket and contains a ring.

use crate::{
    access, bindings,
    consume::Outcome,
    layout::{
        Layout, //
        LayoutCheck,
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

/// A file of a driver, whose private data contains a ring.
pub(crate) trait File<'a>: Copy {
    /// The file's private data.
    type Private;

    /// The offset of the ring in the private data, in bytes.
    const RING: usize;

    /// The driver's getter of a file's ring. It recognises the driver's files by their operations.
    const GETTER: unsafe extern "C" fn(*mut bindings::file) -> *mut bindings::ptr_ring;

    /// Returns the layout check of the driver.
    fn layout_check() -> &'static LayoutCheck;

    /// Borrows a file with its private data.
    ///
    /// # Safety
    ///
    /// `file` must be a file of this driver that stays open for `'a`, and `private` its private data.
    /// Until the layout is known to match, the result may only be used for [`File::compare_layout`].
    unsafe fn new(file: NonNull<bindings::file>, private: NonNull<Self::Private>) -> Self;

    /// Compares the layout that this module was built for with the results of the driver's functions, and
    /// with its devices. `_ring` shows that the consumer lock is held, which protects the file's queue.
    fn compare_layout(&self, _ring: &Locked<'_>) -> Layout;

    /// Takes up to `out.len()` entries off the ring, and initialises the first [`Outcome::taken`] elements of
    /// `out`.
    fn consume_batched(self, out: &mut [MaybeUninit<*mut c_void>]) -> Outcome;

    /// Reports a call for `requested` entries to the trace point `consume_batched`.
    fn trace(self, requested: usize, outcome: &Outcome);

    /// Borrows a `struct file` of this driver.
    ///
    /// Errors: [`EBADF`] for NULL, those of the driver's getter ([`EINVAL`] for another driver's file),
    /// [`ENOEXEC`] if the running driver does not have the layout that this module was built for.
    ///
    /// # Safety
    ///
    /// `file` must be NULL or point to a file that stays open for `'a`.
    #[inline(always)]
    unsafe fn from_raw(file: *mut bindings::file) -> Result<Self> {
        let file = NonNull::new(file).ok_or(EBADF)?;
        // SAFETY: The file is open; neither member changes until it is closed.
        let (operations, private) = unsafe {
            (
                access::read(addr_of!((*file.as_ptr()).f_op)),
                access::read(addr_of!((*file.as_ptr()).private_data)),
            )
        };
        if !Self::layout_check().covers(operations) || private.is_null() {
            // SAFETY: By the safety contract.
            unsafe { Self::check(file, private) }?;
        }
        // SAFETY: The private data of an open file of this driver.
        Ok(unsafe { Self::new(file, NonNull::new_unchecked(private.cast())) })
    }

    /// Checks with the driver's getter whether a file belongs to the driver, and checks the layout. Runs for
    /// files of other drivers, and while the layout check has no result.
    ///
    /// # Safety
    ///
    /// `file` must be open for `'a`, and have this private data.
    #[cold]
    unsafe fn check(file: NonNull<bindings::file>, private: *mut c_void) -> Result {
        // SAFETY: By the safety contract.
        let ring = from_err_ptr(unsafe { Self::GETTER(file.as_ptr()) })?;
        let ring = NonNull::new(ring).ok_or(EBADF)?;
        // The ring is at that offset of the private data if the layout matches. Until then the address is
        // only compared.
        let owner = NonNull::new(ring.as_ptr().wrapping_byte_sub(Self::RING)).ok_or(EBADF)?;
        // SAFETY: The getter accepted it as a file of this driver.
        let result = unsafe { Self::new(file, owner.cast()) };
        Self::layout_check().check(file, || {
            // SAFETY: The driver's own getter returned the ring of an open file.
            let ring = unsafe { PtrRing::from_raw(ring) };
            result.compare_layout(&ring.lock())
        })?;
        if owner.as_ptr().cast() != private {
            return Err(ENOEXEC);
        }
        Ok(())
    }
}

/// Returns whether a driver's results match the layout of the private data of its file: `private` is
/// the private data, the socket is at the expected offset, and the whole has the expected size.
///
/// # Safety
///
/// `file` must be an open file of the driver that returned `socket` for it. `private` and
/// `socket` are compared as addresses; only `socket` is dereferenced.
#[cold]
pub(crate) unsafe fn matches_layout(
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
    // protocol has the size of the whole.
    let object_size = unsafe {
        // Its first member, as the C header guarantees.
        let sock = access::read(addr_of!((*socket).sk)).cast::<bindings::sock_common>();
        let proto = access::read(addr_of!((*sock).skc_prot));
        access::read(addr_of!((*proto).obj_size))
    };
    object_size as usize == size
}

/// Returns the length of an array behind a raw pointer, which is not dereferenced.
#[inline(always)]
pub(crate) const fn array_len<T, const N: usize>(_array: *const [T; N]) -> usize {
    N
}
