// SPDX-License-Identifier: GPL-2.0

//! Implements the traits of `consume.rs`: each method is an access of the script.

use crate::script::Returned;

/// Runs a call of one copy of the code under test for this number of entries.
pub(crate) type Adapter = fn(usize) -> Returned;

/// A slot, by its index.
pub(crate) struct Slot(pub(crate) u8);

const MOST: usize = 16;

/// The slots of the largest ring.
pub(crate) static SLOTS: [Slot; MOST] = {
    let mut slots = [const { Slot(0) }; MOST];
    let mut index = 0;
    while index < MOST {
        slots[index] = Slot(index as u8);
        index += 1;
    }
    slots
};

/// Converts an index or a count. An index or count that does not fit is wrong in any case.
pub(crate) fn small(number: usize) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

/// Implements the traits of the module `consume` beside it. Each copy of the code under test has such a
/// module, with its own traits.
#[macro_export]
macro_rules! adapter {
    () => {
        use core::{ffi::c_void, mem::MaybeUninit, ptr, ptr::NonNull};
        use $crate::{
            adapter::{SLOTS, Slot, small},
            script::{Access, Returned, Wake, perform},
        };

        impl consume::Slot for Slot {
            fn read(&self) -> Option<NonNull<c_void>> {
                let entry = perform(Access::Read(self.0));
                NonNull::new(ptr::without_provenance_mut(usize::from(entry)))
            }

            fn free(&self) {
                perform(Access::Free(self.0));
            }
        }

        struct Ring;

        impl Drop for Ring {
            fn drop(&mut self) {
                perform(Access::Unlock);
            }
        }

        impl consume::Ring for Ring {
            type Slot = Slot;
            type Producer<'a> = Producer;

            fn slots(&self) -> &[Slot] {
                &SLOTS[..usize::from(perform(Access::Size))]
            }

            fn batch(&self) -> usize {
                usize::from(perform(Access::Batch))
            }

            fn head(&self) -> usize {
                usize::from(perform(Access::Head))
            }

            fn set_head(&self, head: usize) {
                perform(Access::SetHead(small(head)));
            }

            fn tail(&self) -> usize {
                usize::from(perform(Access::Tail))
            }

            fn set_tail(&self, tail: usize) {
                perform(Access::SetTail(small(tail)));
            }

            fn release(self, _taken: usize) {}

            fn lock_producer(&self) -> Producer {
                perform(Access::LockProducer);
                Producer
            }
        }

        struct Producer;

        impl Drop for Producer {
            fn drop(&mut self) {
                perform(Access::UnlockProducer);
            }
        }

        impl consume::Producer for Producer {
            fn has_room(&self) -> bool {
                perform(Access::HasRoom) != 0
            }
        }

        struct Queue(u8);

        impl consume::Queue for Queue {
            fn is_stopped(&self) -> bool {
                perform(Access::IsStopped(self.0)) != 0
            }

            fn wake(&self) {
                perform(Access::Wake(self.0));
            }
        }

        struct Device;

        impl consume::Device for Device {
            type Queue = Queue;

            fn has_backpressure(&self) -> bool {
                perform(Access::Backpressure) != 0
            }

            fn is_running(&self) -> bool {
                perform(Access::Running) != 0
            }

            fn owns_queue(&self) -> bool {
                perform(Access::Owns) != 0
            }

            fn queue(&self) -> Option<Queue> {
                Some(Queue(perform(Access::Queue)))
            }

            fn add_freed(&self, slots: usize) -> usize {
                usize::from(perform(Access::AddFreed(small(slots))))
            }

            fn reset_freed(&self) {
                perform(Access::ResetFreed);
            }
        }

        struct BottomHalvesOff;

        impl Drop for BottomHalvesOff {
            fn drop(&mut self) {
                perform(Access::BottomHalvesOn);
            }
        }

        #[derive(Clone, Copy)]
        struct Endpoint;

        impl consume::Endpoint for Endpoint {
            type Ring<'a> = Ring;
            type Device<'a> = Device;
            type BottomHalvesOff = BottomHalvesOff;

            fn lock(&self) -> Ring {
                perform(Access::Lock);
                Ring
            }

            fn bottom_halves_off(&self) -> BottomHalvesOff {
                perform(Access::BottomHalvesOff);
                BottomHalvesOff
            }

            fn wake_after(&self) -> usize {
                usize::from(perform(Access::WakeAfter))
            }

            fn most_suppressed(&self) -> usize {
                usize::from(perform(Access::MostSuppressed))
            }

            fn checkpoints(&self) -> usize {
                usize::from(perform(Access::Checkpoints))
            }

            fn with_device(
                &self,
                _ring: &Ring,
                check: impl FnOnce(Device) -> bool,
            ) -> Option<bool> {
                let result = (perform(Access::Enter) != 0).then(|| check(Device));
                perform(Access::Leave);
                result
            }

            fn check_layout(&self, _ring: &Ring) {
                perform(Access::CheckLayout);
            }
        }

        fn call(n: usize) -> Returned {
            let mut out = vec![MaybeUninit::new(ptr::null_mut()); n];
            let outcome = consume::consume_batched(Endpoint, &mut out);
            Returned {
                taken: outcome.taken,
                freed: outcome.freed,
                wake: match outcome.wake {
                    consume::Wake::NotNeeded => Wake::NotNeeded,
                    consume::Wake::Done => Wake::Done,
                    consume::Wake::Suppressed => Wake::Suppressed,
                },
                out: variants::addresses(&out, outcome.taken),
            }
        }

        pub(crate) const ADAPTER: $crate::Adapter = call;
    };
}
