#![expect(clippy::single_range_in_vec_init, reason = "lists of frame ranges, some with one range")]

use std::collections::VecDeque;

use super::*;
use crate::fuzz::{hostile_text, thoroughly};

const AREA_900M: std::ops::Range<u64> = 0x10_0000..0x10_0000 + 230_400;

#[test]
fn an_area_in_all_forms() {
    let forms = [
        "cma: Reserved 900 MiB at 0x0000000100000000",
        "cma: Reserved 900 MiB at 0x0000000100000000 on node 0",
        "[    0.012345] cma: Reserved 900 MiB at 0x0000000100000000 on node -1",
        "6,123,12345,-;cma: Reserved 900 MiB at 0x0000000100000000",
        "6,123,12345,-,caller=T0;cma: Reserved 900 MiB at 0x0000000100000000",
        "OF: Reserved memory: created CMA memory pool at 0x0000000100000000, size 900 MiB",
        "[    0.000000] Reserved memory: created CMA memory pool at 0x0000000100000000, size 900 MiB",
    ];
    for line in forms {
        let log = Log::parse(line);
        let area = CmaArea { name: "cma@0x100000000".to_owned(), ranges: vec![AREA_900M] };
        assert_eq!(log, Log { areas: vec![area], ..Log::default() }, "{line}");
    }
}

#[test]
fn several_areas_are_named_by_their_place() {
    let log = "6,1,0,-;Linux version 7.3.4\n SUBSYSTEM=pci\n6,2,0,-;cma: Reserved 16 MiB at 0x000000003f000000\n\
               6,3,0,-;cma: Reserved 900 MiB at 0x0000000100000000\n6,4,0,-;cma: Reserved 16 MiB at 0x000000003f000000\n";
    let areas = Log::parse(log).areas;
    assert_eq!(areas.len(), 2);
    assert_eq!((areas[0].name.as_str(), areas[0].pages()), ("cma@0x3f000000", 4096));
    assert_eq!(areas[1].name, "cma@0x100000000");
}

#[test]
fn areas_of_a_device_tree_have_their_own_names() {
    let log = "[    0.000000] OF: reserved mem: 0x0000000010000000..0x0000000010ffffff (16384 KiB) nomap non-reusable secmon\n\
               [    0.000000] Reserved memory: created CMA memory pool at 0x0000000080000000, size 64 MiB\n\
               [    0.000000] OF: reserved mem: initialized node linux,cma, compatible id shared-dma-pool\n\
               [    0.000000] OF: reserved mem: 0x0000000080000000..0x0000000083ffffff (65536 KiB) map reusable linux,cma\n";
    let area = CmaArea { name: "linux,cma".to_owned(), ranges: vec![0x80000..0x84000] };
    assert_eq!(Log::parse(log), Log { areas: vec![area], ..Log::default() });
}

#[test]
fn huge_page_areas_do_not_say_where_they_are() {
    let log = "6,1,0,-;hugetlb_cma: reserve 8192 MiB, up to 4096 MiB per node\n\
               6,2,0,-;cma: Reserved 4096 MiB in 1 range\n6,3,0,-;hugetlb_cma: reserved 4096 MiB on node 0\n\
               6,4,0,-;cma: Reserved 4096 MiB in 3 ranges\n6,5,0,-;hugetlb_cma: reserved 4096 MiB (25%) on node 1\n";
    let gib = crate::bytes::GIB;
    assert_eq!(Log::parse(log), Log { areas: vec![], unplaced: 8 * gib, hugetlb: 8 * gib });
}

#[test]
fn lines_that_tell_nothing() {
    let lines = [
        "hugetlb_cma: reserve 4096 MiB, up to 2048 MiB per node",
        "cma: Reserved 900 MiB at",
        "cma: Reserved 900 MiB on",
        "cma: Reserved MiB at 0x1000",
        "cma: Reserved 99999999999999999999 MiB at 0x1000",
        "cma: Reserved 18446744073709551615 MiB at 0x1000",
        "cma: Reserved 4 MiB at 0xfffffffffffff000",
        "cma: Reserved 0 MiB at 0x1000",
        "cma: Reserved -4 MiB at zz",
        "cma: Failed to reserve 900 MiB",
        // Written by user space: facility 1.
        "14,9,0,-;cma: Reserved 900 MiB at 0x0000000100000000",
        "",
        ";",
    ];
    for line in lines {
        assert_eq!(Log::parse(line), Log::default(), "{line}");
    }
}

/// Gives a record or an error for each read, as `/dev/kmsg` does.
struct Records(VecDeque<Result<&'static str, i32>>);

impl Read for Records {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.pop_front() {
            Some(Ok(record)) => {
                buffer[..record.len()].copy_from_slice(record.as_bytes());
                Ok(record.len())
            }
            Some(Err(errno)) => Err(io::Error::from_raw_os_error(errno)),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

#[test]
fn records_are_read_to_the_last_and_few_are_kept() {
    let records = [
        Err(libc::EPIPE),
        Ok("6,1,0,-;Linux version 7.3.4\n"),
        Ok("6,2,0,-;cma: Reserved 900 MiB at 0x0000000100000000\n"),
        Err(libc::EINTR),
        Ok("6,3,0,-;hugetlb_cma: reserved 4096 MiB on node 0\n"),
        Err(libc::EAGAIN),
        Ok("6,4,0,-;cma: never read\n"),
    ];
    let mut records = Records(records.into());
    let text = relevant(&mut records);
    assert_eq!(text.lines().count(), 2, "{text}");
    assert_eq!(records.0.len(), 1);
    let mut endless =
        Records(std::iter::repeat_n(Ok(": cma: cma: cma: cma: cma: cma: \n"), 300_000).collect());
    assert!(relevant(&mut endless).len() <= MAX_KEPT + RECORD_SIZE);
}

#[test]
fn that_of_this_host_is_read_to_its_end() {
    if let Err(error) = Log::read() {
        assert!(matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES | libc::ENOENT)));
    }
}

proptest::proptest! {
    #![proptest_config(thoroughly())]
    #[test]
    fn takes_any_input(text in hostile_text(include_str!("../../../testdata/kmsg.txt"))) {
        let log = Log::parse(&text);
        let lines = text.lines().count();
        proptest::prop_assert!(log.areas.len() <= lines);
        for range in log.areas.iter().flat_map(|area| &area.ranges) {
            proptest::prop_assert!(range.start < range.end && range.end <= u64::MAX / PAGE_SIZE + 1);
        }
    }
}
