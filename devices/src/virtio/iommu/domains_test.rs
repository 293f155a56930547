use std::sync::{Arc, Mutex};

use super::*;

const RAM: u64 = 64 << 20;

/// What each space reaches: IOVA, GPA, bytes. Refuses what touches `bad`.
#[derive(Clone, Default)]
struct Record(Arc<Mutex<Vec<Maps>>>);

type Maps = BTreeMap<u64, (u64, u64)>;

impl Record {
    fn of(&self, space: usize) -> Vec<(u64, u64, u64)> {
        self.0.lock().unwrap()[space].iter().map(|(iova, (gpa, size))| (*iova, *gpa, *size)).collect()
    }
}

/// Memory that cannot be pinned.
const BAD: u64 = 0x10_0000;

impl Reach for Record {
    fn map(
        &self,
        spaces: &[usize],
        iova: &RangeInclusive<u64>,
        guest: GuestRange,
        _: Access,
    ) -> Result<(), Unreached> {
        assert_eq!(iova.end() - iova.start() + 1, guest.size);
        if guest.start == BAD {
            return Err(Unreached::NoMemory);
        }
        for space in spaces {
            let before = self.0.lock().unwrap()[*space].insert(*iova.start(), (guest.start, guest.size));
            assert_eq!(before, None);
        }
        Ok(())
    }

    fn unmap(&self, spaces: &[usize], iova: &RangeInclusive<u64>) -> Result<(), Unreached> {
        for space in spaces {
            let gone: u64 = self.0.lock().unwrap()[*space]
                .extract_if(iova.clone(), |_, _| true)
                .map(|(_, it)| it.1)
                .sum();
            assert_eq!(gone, iova.end() - iova.start() + 1);
        }
        Ok(())
    }

    fn clear(&self, space: usize) -> Result<(), Unreached> {
        self.0.lock().unwrap()[space].clear();
        Ok(())
    }
}

struct Memory;

impl Ram for Memory {
    fn has(&self, range: GuestRange) -> bool {
        range.end() <= RAM
    }

    fn size(&self) -> u64 {
        RAM
    }
}

/// Endpoints 8 and 9 in space 0, which is narrow, 16 in space 1.
fn bench() -> (Domains, Record) {
    let record = Record(Arc::new(Mutex::new(vec![BTreeMap::new(); 2])));
    let spaces =
        vec![Space::new(&[0x1000..=0xffff_ffff], Some(3)), Space::new(&[0x1000..=0xff_ffff_ffff], None)];
    let endpoints = vec![(8, 0), (9, 0), (16, 1)];
    let input = super::super::space::input(&spaces);
    (Domains::new(endpoints, spaces, input, Box::new(record.clone())), record)
}

fn map(domains: &mut Domains, domain: u32, first: u64, size: u64, gpa: u64) -> Result<(), Refused> {
    domains.map(domain, first..=(first.wrapping_add(size).wrapping_sub(1)), gpa, Access::ALL, &Memory)
}

#[test]
fn an_endpoint_reaches_what_its_domain_maps_and_nothing_else() {
    let (mut domains, record) = bench();
    assert_eq!(map(&mut domains, 1, 0x1000, 0x1000, 0), Err(Refused::Absent), "nobody is attached");
    domains.attach(1, 8).unwrap();
    domains.attach(2, 16).unwrap();
    map(&mut domains, 1, 0x1000, 0x2000, 0x5000).unwrap();
    map(&mut domains, 2, 0x1000, 0x1000, 0x9000).unwrap();
    assert_eq!(record.of(0), [(0x1000, 0x5000, 0x2000)]);
    assert_eq!(record.of(1), [(0x1000, 0x9000, 0x1000)]);
    domains.detach(1, 8).unwrap();
    assert_eq!(record.of(0), []);
    assert_eq!(map(&mut domains, 1, 0x1000, 0x1000, 0), Err(Refused::Absent), "the domain is gone");
    domains.reset();
    assert_eq!(record.of(1), []);
    assert_eq!(domains.unmap(2, 0..=u64::MAX), Err(Refused::Absent));
}

#[test]
fn all_that_are_attached_to_a_domain_reach_the_same() {
    let (mut domains, record) = bench();
    domains.attach(1, 16).unwrap();
    map(&mut domains, 1, 0x1000, 0x1000, 0x5000).unwrap();
    domains.attach(1, 8).unwrap();
    assert_eq!(record.of(0), record.of(1));
    map(&mut domains, 1, 0x2000, 0x1000, 0x6000).unwrap();
    assert_eq!(record.of(0).len(), 2);
    assert_eq!(record.of(0), record.of(1));
    domains.unmap(1, 0x1000..=0x2fff).unwrap();
    assert_eq!((record.of(0), record.of(1)), (vec![], vec![]));
    // The domain stays as long as one is there.
    domains.detach(1, 16).unwrap();
    map(&mut domains, 1, 0x1000, 0x1000, 0x5000).unwrap();
    assert_eq!((record.of(0).len(), record.of(1).len()), (1, 0));
}

#[test]
fn endpoints_that_cannot_be_told_apart_go_together() {
    let (mut domains, record) = bench();
    domains.attach(1, 8).unwrap();
    domains.attach(1, 9).unwrap();
    map(&mut domains, 1, 0x1000, 0x1000, 0x5000).unwrap();
    domains.detach(1, 8).unwrap();
    assert_eq!(record.of(0).len(), 1, "the other one is attached");
    assert_eq!(domains.detach(1, 8), Err(Refused::Invalid));
    domains.attach(3, 8).unwrap();
    assert_eq!(record.of(0), [], "both are where the last one was attached");
    assert_eq!(domains.detach(1, 9), Err(Refused::Invalid));
    domains.detach(3, 8).unwrap();
    domains.detach(3, 9).unwrap();
    assert_eq!(domains.detach(3, 9), Err(Refused::Invalid));
}

#[test]
fn a_domain_that_another_cannot_have_is_refused_wholly() {
    let (mut domains, record) = bench();
    domains.attach(1, 16).unwrap();
    map(&mut domains, 1, 0x1_0000_0000, 0x1000, 0x5000).unwrap();
    assert_eq!(domains.attach(1, 8), Err(Refused::Unsupported), "its addresses are beyond it");
    domains.unmap(1, 0..=u64::MAX).unwrap();
    for page in 1..=4 {
        map(&mut domains, 1, page * 0x1000, 0x1000, 0x5000).unwrap();
    }
    assert_eq!(domains.attach(1, 8), Err(Refused::Unsupported), "it takes three maps");
    assert_eq!(record.of(0), []);
    domains.unmap(1, 0x4000..=0x4fff).unwrap();
    domains.attach(1, 8).unwrap();
    assert_eq!(map(&mut domains, 1, 0x4000, 0x1000, 0), Err(Refused::NoMemory));
}

#[test]
fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let (mut domains, record) = bench();
    assert_eq!(domains.attach(1, 7), Err(Refused::Absent));
    assert_eq!(domains.attach(LAST_DOMAIN + 1, 8), Err(Refused::Range));
    assert_eq!(domains.detach(1, 7), Err(Refused::Absent));
    assert_eq!(domains.detach(1, 8), Err(Refused::Invalid));
    assert_eq!(domains.probe(7), Err(Refused::Absent));
    domains.attach(1, 8).unwrap();
    map(&mut domains, 1, 0x4000, 0x2000, 0x5000).unwrap();
    for (first, size, gpa, refused) in [
        (0x1001, 0x1000, 0, Refused::Range),
        (0x1000, 0xfff, 0, Refused::Range),
        (0x1000, 0x1000, 0x10, Refused::Range),
        (0x2000, 0, 0, Refused::Range),
        (0, 0x1000, 0, Refused::Range),
        (0x100_0000_0000, 0x1000, 0, Refused::Range),
        (u64::MAX - 0xfff, 0x1000, 0, Refused::Range),
        (0x3000, 0x2000, 0, Refused::Invalid),
        (0x5000, 0x1000, 0, Refused::Invalid),
        (0x3000, 0x4000, 0, Refused::Invalid),
        (0xfee0_0000, 0x1000, 0, Refused::Invalid),
        (0x1_0000_0000, 0x1000, 0, Refused::Invalid),
        (0x8000, 0x1000, RAM, Refused::Invalid),
        (0x8000, 0x2000, RAM - 0x1000, Refused::Invalid),
        (0x8000, 0x1000, !0xfff, Refused::Invalid),
        (0x8000, 0x1000, BAD, Refused::NoMemory),
    ] {
        assert_eq!(map(&mut domains, 1, first, size, gpa), Err(refused), "{first:#x} {size:#x} {gpa:#x}");
    }
    assert_eq!(domains.unmap(1, 0x4000..=0x4fff), Err(Refused::Range), "half of a mapping");
    assert_eq!(domains.unmap(1, 0x5000..=0xffff), Err(Refused::Range));
    assert_eq!(domains.unmap(1, 0x4001..=0x5fff), Err(Refused::Range));
    #[expect(clippy::reversed_empty_ranges, reason = "as a driver may give it")]
    let backwards = domains.unmap(1, 0x6000..=0x3000);
    assert_eq!(backwards, Err(Refused::Range));
    assert_eq!(domains.unmap(2, 0..=u64::MAX), Err(Refused::Absent));
    assert_eq!(record.of(0), [(0x4000, 0x5000, 0x2000)]);
    domains.unmap(1, 0x6000..=u64::MAX).unwrap();
    domains.unmap(1, 0..=u64::MAX).unwrap();
    assert_eq!(record.of(0), []);
}

#[test]
fn a_domain_maps_so_much_and_no_more() {
    let (mut domains, record) = bench();
    domains.attach(1, 16).unwrap();
    map(&mut domains, 1, 0x1000, RAM, 0).unwrap();
    map(&mut domains, 1, 0x1000 + RAM, RAM, 0).unwrap();
    assert_eq!(map(&mut domains, 1, 0x1000 + 2 * RAM, 0x1000, 0), Err(Refused::NoMemory));
    domains.unmap(1, 0x1000..=RAM + 0xfff).unwrap();
    map(&mut domains, 1, 0x1000 + 2 * RAM, 0x1000, 0).unwrap();
    domains.unmap(1, 0..=u64::MAX).unwrap();
    for page in 0..MOST_MAPPINGS.min(RAM * 2 / PAGE_SIZE) {
        map(&mut domains, 1, (page + 1) * 0x1000, 0x1000, 0).unwrap();
    }
    assert_eq!(map(&mut domains, 1, 0x8000_0000, 0x1000, 0), Err(Refused::NoMemory));
    domains.reset();
    assert_eq!(record.of(1), []);
}
