// SPDX-License-Identifier: GPL-2.0

//! The guest's memory: one region from guest address 0, shared with every vhost device.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result};
use vhost::VhostUserMemoryRegionInfo;
use vm_memory::bitmap::BS;
use vm_memory::{
    AtomicAccess, ByteValued, Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap,
    GuestMemoryRegion, GuestRegionMmap, VolatileSlice,
};

/// Alignment of buffers.
pub const PAGE: u64 = 4096;

/// Size of a buffer for a frame of usual size.
pub const BUFFER_LEN: u32 = 2048;

/// Size of a buffer for the largest packet with offloads, and its headers.
pub const LARGE_BUFFER_LEN: u32 = 0x11000;

/// Returns the memory of that many buffers, with their alignment.
pub const fn buffers_memory(count: u16, len: u32) -> u64 {
    PAGE + count as u64 * len as u64
}

/// Guest memory with an allocator that only ever grows.
///
/// # Invariants
///
/// There is exactly one region, and it starts at guest address 0, so that a guest address is an
/// offset into it.
pub struct GuestRam {
    mmap: Rc<GuestMemoryMmap>,
    used: Cell<u64>,
}

impl GuestRam {
    /// Maps `size` bytes.
    pub fn new(size: usize) -> Result<Self> {
        let mmap = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), size)])
            .with_context(|| format!("cannot map {size} bytes of guest memory"))?;
        // INVARIANT: One range, from address 0.
        Ok(Self {
            mmap: Rc::new(mmap),
            used: Cell::new(0),
        })
    }

    fn region(&self) -> &GuestRegionMmap {
        // The type's invariant: there is a region.
        self.mmap.iter().next().expect("guest memory has a region")
    }

    /// Maps as many bytes as that much memory to hand out takes.
    ///
    /// The last byte is never handed out: vhost's checks want the end of a ring in memory, too.
    pub fn with_room(size: u64) -> Result<Self> {
        Self::new((size + PAGE).next_multiple_of(PAGE) as usize)
    }

    /// Takes `size` bytes, aligned to `align` (a power of two).
    pub fn allocate(&self, size: u64, align: u64) -> Result<GuestAddress> {
        let start = self.used.get().next_multiple_of(align);
        let end = start + size;
        anyhow::ensure!(
            end <= self.region().len(),
            "guest memory is too small: {end} bytes are needed"
        );
        self.used.set(end);
        Ok(GuestAddress(start))
    }

    /// The memory, for the vhost crate.
    pub fn mmap(&self) -> Rc<GuestMemoryMmap> {
        Rc::clone(&self.mmap)
    }

    /// The regions, for vhost's memory table.
    pub fn table(&self) -> Vec<VhostUserMemoryRegionInfo> {
        self.mmap
            .iter()
            .map(|region| VhostUserMemoryRegionInfo {
                guest_phys_addr: region.start_addr().0,
                memory_size: region.len(),
                userspace_addr: region.as_ptr() as u64,
                mmap_handle: -1,
                ..Default::default()
            })
            .collect()
    }

    fn slice(&self) -> Result<VolatileSlice<'_, BS<'_, ()>>> {
        Ok(self.region().as_volatile_slice()?)
    }

    /// Loads an integer that vhost may write at the same time.
    pub fn load<T: AtomicAccess>(&self, at: u64, order: Ordering) -> Result<T> {
        Ok(self.slice()?.load(at as usize, order)?)
    }

    /// Stores an integer that vhost may read at the same time.
    pub fn store<T: AtomicAccess>(&self, at: u64, value: T, order: Ordering) -> Result<()> {
        Ok(self.slice()?.store(value, at as usize, order)?)
    }

    /// Reads back an object.
    #[cfg(test)]
    pub fn read<T: ByteValued>(&self, at: u64) -> Result<T> {
        Ok(self.slice()?.read_obj(at as usize)?)
    }

    /// Writes an object that vhost does not read yet.
    pub fn write<T: ByteValued>(&self, at: u64, value: T) -> Result<()> {
        Ok(self.slice()?.write_obj(value, at as usize)?)
    }

    /// Reads bytes that vhost is done with.
    pub fn read_bytes(&self, at: u64, buffer: &mut [u8]) -> Result<()> {
        Ok(self.slice()?.read_slice(buffer, at as usize)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocations_are_aligned_and_bounded() {
        let ram = GuestRam::new(0x3000).unwrap();
        assert_eq!(ram.allocate(10, 16).unwrap(), GuestAddress(0));
        assert_eq!(ram.allocate(10, 16).unwrap(), GuestAddress(16));
        assert_eq!(ram.allocate(0x1000, 0x1000).unwrap(), GuestAddress(0x1000));
        assert!(ram.allocate(0x1001, 0x1000).is_err());
        assert_eq!(ram.allocate(0x1000, 0x1000).unwrap(), GuestAddress(0x2000));
        assert!(ram.allocate(1, 1).is_err());
    }

    #[test]
    fn memory_table_covers_all_memory() {
        let ram = GuestRam::new(0x3000).unwrap();
        let table = ram.table();
        assert_eq!(table.len(), 1);
        assert_eq!(
            (table[0].guest_phys_addr, table[0].memory_size),
            (0, 0x3000)
        );
        assert_ne!(table[0].userspace_addr, 0);
    }
}
