//! Doorbells as ioeventfds: KVM signals the eventfd and the vCPU goes on, without an exit to this process.
//!
//! Each change waits for a grace period in kernels before 6.18, so they come when a driver is ready, for the queues that it
//! uses.

use std::io;
use std::sync::Arc;

use devices::doorbell::{Doorbell, Doorbells};
use kvm_ioctls::{IoEventAddress, NoDatamatch, VmFd};
use vmm_sys_util::eventfd::EventFd;

/// The doorbells of one machine.
pub struct KvmDoorbells {
    vm: Arc<VmFd>,
}

impl KvmDoorbells {
    pub(super) fn new(vm: Arc<VmFd>) -> Self {
        Self { vm }
    }
}

impl Doorbells for KvmDoorbells {
    fn hang(&self, gpa: u64, eventfd: &EventFd) -> io::Result<Box<dyn Doorbell>> {
        let eventfd = eventfd.try_clone()?;
        let address = IoEventAddress::Mmio(gpa);
        self.vm.register_ioevent(&eventfd, &address, NoDatamatch).map_err(os_error)?;
        Ok(Box::new(IoEventFd { vm: self.vm.clone(), gpa, eventfd }))
    }
}

struct IoEventFd {
    vm: Arc<VmFd>,
    gpa: u64,
    eventfd: EventFd,
}

impl Doorbell for IoEventFd {}

impl Drop for IoEventFd {
    fn drop(&mut self) {
        let address = IoEventAddress::Mmio(self.gpa);
        if let Err(error) = self.vm.unregister_ioevent(&self.eventfd, &address, NoDatamatch) {
            tracing::warn!(gpa = self.gpa, %error, "ioeventfd not given back");
        }
    }
}

fn os_error(error: kvm_ioctls::Error) -> io::Error {
    io::Error::from_raw_os_error(error.errno())
}
