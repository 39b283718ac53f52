// SPDX-License-Identifier: GPL-2.0

//! What the files of tun and tap have in common: a `struct file` whose private data begins with a
//! socket and holds a ring.

use crate::bindings;
use core::ptr::{
    addr_of,
    NonNull, //
};
use kernel::{
    error::from_err_ptr,
    prelude::*, //
};

/// Asks a driver for the ring of a file.
///
/// Errors: [`EBADF`] for NULL, else the getter's own.
///
/// # Safety
///
/// `file` must be NULL or point to an open file, and `getter` must be one of the kernel's, which
/// tell files apart by their operations.
#[inline(always)]
pub(crate) unsafe fn ring(
    file: *mut bindings::file,
    getter: unsafe extern "C" fn(*mut bindings::file) -> *mut bindings::ptr_ring,
) -> Result<NonNull<bindings::ptr_ring>> {
    if file.is_null() {
        return Err(EBADF);
    }
    // SAFETY: By the safety contract.
    let ring = unsafe { getter(file) };
    if is_error(ring) {
        from_err_ptr(ring)?;
    }
    NonNull::new(ring).ok_or(EBADF)
}

/// Whether a pointer is an error code in disguise, as `IS_ERR()` has it, which for the kernel crate is
/// a call out of line.
#[inline(always)]
fn is_error<T>(pointer: *mut T) -> bool {
    pointer as usize > usize::MAX - bindings::MAX_ERRNO as usize
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
    let private_data = unsafe { addr_of!((*file).private_data).read() };
    if private_data.cast() != private.as_ptr()
        || socket.cast() != private.as_ptr().wrapping_add(socket_offset)
    {
        return false;
    }
    // SAFETY: The getter's result is the socket of the open file; it has a `struct sock` whose
    // protocol says how large the whole is.
    let object_size = unsafe {
        let sock = addr_of!((*socket).sk).read();
        let proto = addr_of!((*sock).__sk_common.skc_prot).read();
        addr_of!((*proto).obj_size).read()
    };
    object_size as usize == size
}

/// The length of an array behind a raw pointer, which is not followed.
#[inline(always)]
pub(crate) const fn array_len<T, const N: usize>(_array: *const [T; N]) -> usize {
    N
}
