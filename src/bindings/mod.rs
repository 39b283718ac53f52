// SPDX-License-Identifier: GPL-2.0

//! What bindgen made of the C side, and the layout that the target's BTF has of private types.
//!
//! Kbuild says how the generated files come about.

#![expect(
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    clippy::ptr_as_ptr,
    clippy::ref_as_ptr,
    clippy::cast_lossless,
    dead_code,
    improper_ctypes,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    unsafe_op_in_unsafe_fn,
    reason = "generated"
)]

#[cfg(CONFIG_TRACEPOINTS)]
pub(crate) use kernel::bindings::tracepoint;
#[allow(unused_imports)] // the unit tests use no file operations
pub(crate) use kernel::bindings::{
    file,
    file_operations, //
};
use kernel::ffi;
use pin_init::MaybeZeroable;

// Blocked by the kernel's own parameters, and defined by hand in the kernel crate as well.
type __kernel_size_t = usize;

include!(concat!(
    env!("TUNTAP_RING_GENERATED"),
    "/bindings_generated.rs"
));

/// Layouts of structures that are private to their drivers.
pub(crate) mod private {
    use kernel::{
        bindings::{
            kgid_t,
            kuid_t, //
        },
        ffi, //
    };

    include!(concat!(
        env!("TUNTAP_RING_GENERATED"),
        "/private_generated.rs"
    ));
}

/// Checks that the bindings have the layouts that the target's BTF gives.
///
/// bindgen computes wrong layouts for some structures, and the kernel crate has bindings of its own. With a
/// wrong offset the module would overwrite a neighbouring field.
mod layouts {
    use super::{
        private::{
            tun_file,
            tun_struct, //
        },
        *, //
    };
    use core::{
        mem::{
            offset_of,
            size_of,
            MaybeUninit, //
        },
        ptr::addr_of, //
    };

    macro_rules! size {
        ($structure:ident, $size:literal, $message:literal) => {
            const _: () = assert!(size_of::<$structure>() == $size, $message);
        };
    }

    macro_rules! offset {
        ($structure:ident, $($path:ident).+, $offset:literal, $message:literal) => {
            const _: () = assert!(offset_of!($structure, $($path).+) == $offset, $message);
        };
    }

    macro_rules! field_size {
        ($structure:ident, $($path:ident).+, $size:literal, $message:literal) => {
            const _: () = {
                let structure = MaybeUninit::<$structure>::uninit();
                // SAFETY: In bounds of the variable; only the address is taken.
                let field = unsafe { addr_of!((*structure.as_ptr()).$($path).+) };
                assert!(size_behind(field) == $size, $message);
            };
        };
    }

    const fn size_behind<T>(_: *const T) -> usize {
        size_of::<T>()
    }

    // Calls of these macros, by `layouts.awk`.
    include!(concat!(
        env!("TUNTAP_RING_GENERATED"),
        "/layouts_generated.rs"
    ));
}

/// The drivers whose layouts these are, each with the note that holds its build ID.
pub(crate) const BUILT_FOR: &[(&kernel::str::CStr, &[u8])] = &[
    (
        c"tun",
        include_bytes!(concat!(env!("TUNTAP_RING_GENERATED"), "/tun.build-id")),
    ),
    #[cfg(CONFIG_TAP)]
    (
        c"tap",
        include_bytes!(concat!(env!("TUNTAP_RING_GENERATED"), "/tap.build-id")),
    ),
];
