use super::*;

const SMAPS: &str = "\
7f0000000000-7f0008000000 rw-s 00000000 00:01 2053                       /memfd:guest-ram (deleted)
Size:             131072 kB
Rss:                8192 kB
VmFlags: rd wr sh mr mw me ms
7f0010000000-7f0010003000 r-xp 00000000 fe:00 1234                       /usr/local/bin/vmm
Size:                 12 kB
Rss:                   8 kB
7f0010003000-7f0010004000 rw-p 00003000 fe:00 1234                       /usr/local/bin/vmm
Size:                  4 kB
Rss:                   4 kB
7f0010005000-7f0010007000 rw-p 00000000 00:00 0 
Size:                  8 kB
Rss:                   8 kB
7f0010008000-7f0010009000 rw-p 00000000 00:00 0                          [heap]
Size:                  4 kB
Rss:                   0 kB
";

#[test]
fn resident_memory_is_that_of_all_mappings_but_guest_ram() {
    let expected = BTreeMap::from([("/usr/local/bin/vmm".to_owned(), 12), ("anonymous".to_owned(), 8)]);
    assert_eq!(resident(SMAPS), expected);
}

#[test]
fn a_field_of_a_status_is_found_by_its_whole_name() {
    let status = "Name:\tvcpu0\nnonvoluntary_ctxt_switches:\t7\nvoluntary_ctxt_switches:\t3\n";
    assert_eq!(field(status, "voluntary_ctxt_switches:"), Some("3"));
    assert_eq!(field(status, "Name:"), Some("vcpu0"));
    assert_eq!(field(status, "Uid:"), None);
}
