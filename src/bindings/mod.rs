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
