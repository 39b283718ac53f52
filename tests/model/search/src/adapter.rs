// SPDX-License-Identifier: GPL-2.0

//! The traits of `consume.rs`, each method an access of the script.

use crate::script::Returned;

/// A copy of the code under test: runs a call for that many entries.
pub(crate) type Adapter = fn(usize) -> Returned;

/// A slot is known by its index.
pub(crate) struct Slot(pub(crate) u8);

const MOST: usize = 16;

/// As many slots as a ring here can have.
pub(crate) static SLOTS: [Slot; MOST] = {
    let mut slots = [const { Slot(0) }; MOST];
    let mut index = 0;
    while index < MOST {
        slots[index] = Slot(index as u8);
        index += 1;
    }
    slots
};

/// Indices and counts that do not fit are wrong in any case.
pub(crate) fn small(number: usize) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

/// Implements the traits of the module `consume` beside it. There is one such module for each copy
/// of the code under test, with traits of its own.
#[macro_export]
macro_rules! adapter {
    () => {
        use core::{ffi::c_void, mem::MaybeUninit, ptr, ptr::NonNull};
        use $crate::{
            adapter::{SLOTS, Slot, small},
            script::{Access, Returned, Said, ask},
        };

        impl consume::Slot for Slot {
            fn read(&self) -> Option<NonNull<c_void>> {
                NonNull::new(ptr::without_provenance_mut(usize::from(ask(Access::Read(
                    self.0,
                )))))
            }

            fn free(&self) {
                ask(Access::Free(self.0));
            }
        }

        struct Ring;

        impl Drop for Ring {
            fn drop(&mut self) {
                ask(Access::Unlock);
            }
        }

        impl consume::Ring for Ring {
            type Slot = Slot;
            type Producer<'a> = Producer;

            fn slots(&self) -> &[Slot] {
                &SLOTS[..usize::from(ask(Access::Size))]
            }

            fn batch(&self) -> usize {
                usize::from(ask(Access::Batch))
            }

            fn head(&self) -> usize {
                usize::from(ask(Access::Head))
            }

            fn set_head(&self, head: usize) {
                ask(Access::SetHead(small(head)));
            }

            fn tail(&self) -> usize {
                usize::from(ask(Access::Tail))
            }

            fn set_tail(&self, tail: usize) {
                ask(Access::SetTail(small(tail)));
            }

            fn release(self, _taken: usize) {}

            fn lock_producer(&self) -> Producer {
                ask(Access::LockProducer);
                Producer
            }
        }

        struct Producer;

        impl Drop for Producer {
            fn drop(&mut self) {
                ask(Access::UnlockProducer);
            }
        }

        impl consume::Producer for Producer {
            fn has_room(&self) -> bool {
                ask(Access::HasRoom) != 0
            }
        }

        struct Queue(u8);

        impl consume::Queue for Queue {
            fn is_stopped(&self) -> bool {
                ask(Access::IsStopped(self.0)) != 0
            }

            fn wake(&self) {
                ask(Access::Wake(self.0));
            }
        }

        struct Device;

        impl consume::Device for Device {
            type Queue = Queue;

            fn has_backpressure(&self) -> bool {
                ask(Access::Backpressure) != 0
            }

            fn is_running(&self) -> bool {
                ask(Access::Running) != 0
            }

            fn owns_queue(&self) -> bool {
                ask(Access::Owns) != 0
            }

            fn queue(&self) -> Option<Queue> {
                Some(Queue(ask(Access::Queue)))
            }

            fn add_freed(&self, slots: usize) -> usize {
                usize::from(ask(Access::AddFreed(small(slots))))
            }

            fn reset_freed(&self) {
                ask(Access::ResetFreed);
            }
        }

        struct BottomHalvesOff;

        impl Drop for BottomHalvesOff {
            fn drop(&mut self) {
                ask(Access::BottomHalvesOn);
            }
        }

        #[derive(Clone, Copy)]
        struct Endpoint;

        impl consume::Endpoint for Endpoint {
            type Ring<'a> = Ring;
            type Device<'a> = Device;
            type BottomHalvesOff = BottomHalvesOff;

            fn lock(&self) -> Ring {
                ask(Access::Lock);
                Ring
            }

            fn bottom_halves_off(&self) -> BottomHalvesOff {
                ask(Access::BottomHalvesOff);
                BottomHalvesOff
            }

            fn wake_after(&self) -> usize {
                usize::from(ask(Access::WakeAfter))
            }

            fn most_suppressed(&self) -> usize {
                usize::from(ask(Access::MostSuppressed))
            }

            fn checkpoints(&self) -> usize {
                usize::from(ask(Access::Checkpoints))
            }

            fn with_device(
                &self,
                _ring: &Ring,
                check: impl FnOnce(Device) -> bool,
            ) -> Option<bool> {
                let result = (ask(Access::Enter) != 0).then(|| check(Device));
                ask(Access::Leave);
                result
            }

            fn check_layout(&self, _ring: &Ring) {
                ask(Access::CheckLayout);
            }
        }

        fn call(n: usize) -> Returned {
            let mut out = vec![MaybeUninit::new(ptr::null_mut()); n];
            let outcome = consume::consume_batched(Endpoint, &mut out);
            Returned {
                taken: outcome.taken,
                freed: outcome.freed,
                wake: match outcome.wake {
                    consume::Wake::NotNeeded => Said::NotNeeded,
                    consume::Wake::Done => Said::Done,
                    consume::Wake::Suppressed => Said::Suppressed,
                },
                out: variants::addresses(&out, outcome.taken),
            }
        }

        pub(crate) const ADAPTER: $crate::Adapter = call;
    };
}
