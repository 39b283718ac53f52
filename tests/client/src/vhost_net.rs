// SPDX-License-Identifier: GPL-2.0

//! A vhost-net device with its pair of virtqueues.

use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use vhost::VhostBackend;
use vhost::net::VhostNet;
use vhost::vhost_kern::VhostKernBackend;
use vhost::vhost_kern::vhost_binding::{
    VHOST, VHOST_NET_SET_BACKEND, vhost_vring_file, vhost_vring_state,
};
use virtio_bindings::bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::bindings::virtio_net::VIRTIO_NET_F_MRG_RXBUF;
use virtio_bindings::bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::ioctl::ioctl_with_ref;
use vmm_sys_util::ioctl_iow_nr;

use crate::cli::DriverArgs;
use crate::memory::GuestRam;
use crate::virtqueue::Virtqueue;

/// The indices of the virtqueues in a vhost-net device.
const RX: usize = 0;
const TX: usize = 1;

// The vhost crate lacks it.
ioctl_iow_nr!(
    VHOST_SET_VRING_BUSYLOOP_TIMEOUT,
    VHOST,
    0x23,
    vhost_vring_state
);

/// An open vhost-net device: the vhost crate's `Net`, which supports one path only, for any
/// path.
struct Device {
    file: File,
    memory: Rc<GuestMemoryMmap>,
}

impl AsRawFd for Device {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl VhostKernBackend for Device {
    type AS = Rc<GuestMemoryMmap>;

    fn mem(&self) -> &Self::AS {
        &self.memory
    }
}

impl VhostNet for Device {
    fn set_backend(&self, queue: usize, file: Option<&File>) -> vhost::Result<()> {
        let backend = vhost_vring_file {
            index: queue as u32,
            fd: file.map_or(-1, AsRawFd::as_raw_fd),
        };
        // SAFETY: The ioctl reads one vhost_vring_file, which is what it is given.
        let ret = unsafe { ioctl_with_ref(self, VHOST_NET_SET_BACKEND(), &backend) };
        crate::sys::result(ret).map_err(vhost::Error::IoctlError)?;
        Ok(())
    }
}

/// A vhost-net device whose virtqueues are set up.
pub struct QueuePair {
    device: Device,
    /// Whether a frame may take several buffers.
    pub mergeable: bool,
    /// Receives, from the driver's point of view.
    pub rx: Virtqueue,
    /// Transmits, from the driver's point of view.
    pub tx: Virtqueue,
}

impl QueuePair {
    /// Opens the vhost device and gives it the memory and two virtqueues, still without a backend.
    pub fn open(args: &DriverArgs, ram: &Rc<GuestRam>) -> Result<Self> {
        let path = &args.vhost;
        let file = tuntap_device::open(path, "modprobe vhost_net")?;
        Self::set_up(file, ram, args.ring_size)
            .and_then(|pair| pair.busy_poll(args.busy_poll).map(|()| pair))
            .with_context(|| format!("cannot set up {}", path.display()))
    }

    /// Lets vhost poll for so many microseconds before it sleeps; 0, the default of vhost, for none.
    fn busy_poll(&self, microseconds: u32) -> Result<()> {
        for index in [RX, TX] {
            let timeout = vhost_vring_state {
                index: index as u32,
                num: microseconds,
            };
            // SAFETY: The ioctl reads one vhost_vring_state, which is what it is given.
            let ret = unsafe {
                ioctl_with_ref(&self.device, VHOST_SET_VRING_BUSYLOOP_TIMEOUT(), &timeout)
            };
            crate::sys::result(ret).context("VHOST_SET_VRING_BUSYLOOP_TIMEOUT")?;
        }
        Ok(())
    }

    fn set_up(file: File, ram: &Rc<GuestRam>, size: u16) -> Result<Self> {
        let device = Device {
            file,
            memory: ram.mmap(),
        };
        device
            .set_owner()
            .context("VHOST_SET_OWNER failed (fix: --vhost must name a vhost-net device)")?;
        let offered = device.get_features().context("VHOST_GET_FEATURES")?;
        let [version_1, mergeable, event_idx] = [
            VIRTIO_F_VERSION_1,
            VIRTIO_NET_F_MRG_RXBUF,
            VIRTIO_RING_F_EVENT_IDX,
        ]
        .map(|bit| offered & (1 << bit));
        if version_1 == 0 {
            bail!("vhost does not offer VIRTIO_F_VERSION_1 (fix: use a newer kernel)");
        }
        device
            .set_features(version_1 | mergeable | event_idx)
            .context("VHOST_SET_FEATURES")?;
        device
            .set_mem_table(&ram.table())
            .context("VHOST_SET_MEM_TABLE")?;

        let rx = Virtqueue::new(ram, size, event_idx != 0)?;
        let tx = Virtqueue::new(ram, size, event_idx != 0)?;
        for (index, queue) in [(RX, &rx), (TX, &tx)] {
            device
                .set_vring_num(index, queue.size())
                .context("VHOST_SET_VRING_NUM")?;
            device
                .set_vring_base(index, 0)
                .context("VHOST_SET_VRING_BASE")?;
            device
                .set_vring_addr(index, &queue.config())
                .context("VHOST_SET_VRING_ADDR")?;
            device
                .set_vring_kick(index, queue.kick())
                .context("VHOST_SET_VRING_KICK")?;
            device
                .set_vring_call(index, queue.call())
                .context("VHOST_SET_VRING_CALL")?;
        }
        Ok(Self {
            device,
            mergeable: mergeable != 0,
            rx,
            tx,
        })
    }

    fn set_backends(&self, backend: Option<&File>) -> Result<()> {
        for index in [RX, TX] {
            self.device
                .set_backend(index, backend)
                .context("VHOST_NET_SET_BACKEND")?;
        }
        Ok(())
    }

    /// Lets vhost move frames between the virtqueues and a queue of the tap.
    pub fn attach(&self, tap: &File) -> Result<()> {
        self.set_backends(Some(tap))
    }

    /// Ends that. When it returns, vhost does not touch the virtqueues any more, and has put the
    /// frames that it took from the tap's ring, but not delivered, back there.
    pub fn detach(&self) -> Result<()> {
        self.set_backends(None)
    }
}
