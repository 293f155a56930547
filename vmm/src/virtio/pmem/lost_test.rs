use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use devices::virtio::pmem::PmemOptions;
use memory::Layout;
use memory::bytes::MIB;
use memory::layout::AddressLimits;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::hypervisor::KvmError;
use crate::virtio::pmem::attach;
use crate::virtio::pmem::watch::Watch;

/// A SIGBUS ends the process, so the test runs itself again: in the child this variable is the file.
const FILE: &str = "PMEM_TEST_FILE";

fn guest(path: &Path) -> (GuestRam, Vec<Arc<PmemFile>>) {
    let options = PmemOptions { path: path.to_owned(), read_only: false, size: None, lock: true };
    let files = vec![Arc::new(PmemFile::open(&options).unwrap())];
    let limits = AddressLimits::cpu_only(40);
    let mut layout = Layout::new(16 * MIB, &limits).unwrap();
    layout.add_persistent(&[files[0].size()], &limits).unwrap();
    let mut ram = GuestRam::new(&layout).unwrap();
    attach(&files, &layout, &mut ram).unwrap();
    (ram, files)
}

fn made(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("vmm-lost-{name}-{}", std::process::id()));
    File::create(&path).unwrap().set_len(4 * MIB).unwrap();
    path
}

fn shorten(path: &Path) {
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(2 * MIB).unwrap();
}

#[test]
fn what_the_child_does() {
    let Some(path) = std::env::var_os(FILE).map(PathBuf::from) else { return };
    let (ram, files) = guest(&path);
    explain(&files, &ram);
    let at = ram.persistent()[0].guest();
    ram.buffers().write_obj(1_u8, GuestAddress(at.start + 3 * MIB)).unwrap();
    shorten(&path);
    ram.buffers().write_obj(1_u8, GuestAddress(at.start)).unwrap();
    let _ = ram.buffers().read_obj::<u8>(GuestAddress(at.start + 3 * MIB));
    panic!("what is gone was read");
}

#[test]
fn a_device_that_touches_what_is_gone_ends_with_the_files_name() {
    let path = made("bus");
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "virtio::pmem::lost::tests::what_the_child_does", "--nocapture"]);
    let output = child.env(FILE, &path).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let expected =
        format!("error: the pmem file {} has lost a part that the guest has\r\n   help: ", path.display());
    assert!(said.contains(&expected), "{said}");
    assert_eq!(output.status.code(), Some(3));
    fs::remove_file(path).unwrap();
}

#[test]
fn a_fault_is_blamed_on_a_file_that_was_cut_short() {
    let path = made("fault");
    let (ram, files) = guest(&path);
    let failure = |errno| GuestFailure::Run {
        vcpu: 0,
        source: KvmError { call: "KVM_RUN".to_owned(), source: std::io::Error::from_raw_os_error(errno) },
    };
    assert!(blame(failure(libc::EFAULT), &files, &ram).is_err(), "it is whole");
    shorten(&path);
    assert!(blame(failure(libc::EIO), &files, &ram).is_err(), "it is no fault");
    let lost = blame(failure(libc::EFAULT), &files, &ram).unwrap();
    assert!(lost.to_string().contains(path.to_str().unwrap()) && std::error::Error::source(&lost).is_some());
    fs::remove_file(path).unwrap();
}

#[test]
fn a_file_that_is_cut_short_is_told() {
    let path = made("watch");
    let (ram, files) = guest(&path);
    assert!(Watch::start(&[]).unwrap().is_none());
    let watch = Watch::start(&files).unwrap().unwrap();
    let is_told = || {
        let mut event = [PollFd::from_borrowed_fd(watch.event(), PollFlags::IN)];
        poll(&mut event, Some(&Timespec::default())).unwrap() > 0
    };
    ram.buffers().write_obj(1_u8, GuestAddress(ram.persistent()[0].guest().start)).unwrap();
    assert!(!is_told(), "the guest may write");
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(8 * MIB).unwrap();
    assert!(is_told() && watch.heed(&ram).is_none() && !is_told(), "it has grown");
    shorten(&path);
    assert!(is_told() && watch.heed(&ram).is_some());
    fs::remove_file(path).unwrap();
}
