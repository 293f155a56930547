//! What KVM knows of a machine's VFIO files (Documentation/virt/kvm/devices/vfio.rst).

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use kvm_bindings::{KVM_DEV_VFIO_FILE, KVM_DEV_VFIO_FILE_ADD, KVM_DEV_VFIO_FILE_DEL, kvm_device_attr};
use kvm_ioctls::DeviceFd;
use tracing::warn;

/// A VFIO group or device that KVM counts to the machine, until this is dropped. KVM holds on to the file meanwhile.
pub(crate) struct KvmMember {
    kvm: Arc<DeviceFd>,
    file: Arc<File>,
}

impl KvmMember {
    /// Tells `kvm`, a `KVM_DEV_TYPE_VFIO` device. Comes before devices are opened.
    pub(crate) fn add(kvm: &Arc<DeviceFd>, file: &Arc<File>) -> io::Result<Self> {
        tell(kvm, file, KVM_DEV_VFIO_FILE_ADD)?;
        Ok(Self { kvm: Arc::clone(kvm), file: Arc::clone(file) })
    }
}

impl Drop for KvmMember {
    fn drop(&mut self) {
        if let Err(error) = tell(&self.kvm, &self.file, KVM_DEV_VFIO_FILE_DEL) {
            warn!(%error, "KVM keeps a VFIO file");
        }
    }
}

fn tell(kvm: &DeviceFd, file: &File, attribute: u32) -> io::Result<()> {
    let fd = file.as_raw_fd();
    let attribute = kvm_device_attr {
        flags: 0,
        group: KVM_DEV_VFIO_FILE,
        attr: attribute.into(),
        addr: &raw const fd as u64,
    };
    kvm.set_device_attr(&attribute).map_err(|error| io::Error::from_raw_os_error(error.errno()))
}
