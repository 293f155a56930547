//! The target `virtio_iommu` of this crate, with libFuzzer around it.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::run("virtio_iommu", input));
