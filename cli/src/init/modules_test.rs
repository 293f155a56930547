use super::*;

#[test]
fn compressed_files_are_told_by_their_names() {
    for (file, expected) in
        [("nvme.ko", false), ("nvme.ko.xz", true), ("nvme.ko.zst", true), ("nvme.ko.gz", true)]
    {
        assert_eq!(is_compressed(Path::new(file)), expected, "{file}");
    }
}

#[test]
fn a_kernel_that_cannot_decompress_is_explained() {
    assert!(explain("nvme.ko.xz", Errno::OPNOTSUPP).contains("CONFIG_MODULE_DECOMPRESS"));
    assert!(explain("nvme.ko.xz", Errno::INVAL).contains("CONFIG_MODULE_DECOMPRESS"));
    assert!(!explain("nvme.ko", Errno::INVAL).contains("CONFIG_MODULE_DECOMPRESS"));
    assert_eq!(explain("nvme.ko", Errno::NOSYS), "this kernel loads no modules");
}
