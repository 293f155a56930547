use miette::Diagnostic;
use proptest::prelude::*;

use super::*;

const HYPER_TRANSPORT: GuestRange = GuestRange::new(0xfd_0000_0000, 0x3_0000_0000);

fn vtd(bits: u8) -> AddressLimits {
    AddressLimits { phys_bits: 46, iova: Some(vec![0..=0xfedf_ffff, 0xfef0_0000..=(1 << bits) - 1]) }
}

fn amd() -> AddressLimits {
    let iova = vec![0..=0xfedf_ffff, 0xfef0_0000..=0xfc_ffff_ffff, 0x100_0000_0000..=u64::MAX];
    AddressLimits { phys_bits: 48, iova: Some(iova) }
}

#[test]
fn small_guest_lies_below_the_pci_hole() {
    let layout = Layout::new(512 * MIB, &vtd(48)).unwrap();
    assert_eq!(layout.ram, [GuestRange::new(0, 512 * MIB)]);
    assert_eq!(layout.mmio64.start, HIGH_RAM_START);
    assert_eq!(layout.mmio64.end(), 1 << 46);
}

#[test]
fn large_guest_goes_on_at_4_gib() {
    let layout = Layout::new(5 * GIB, &AddressLimits::cpu_only(40)).unwrap();
    assert_eq!(layout.ram, [GuestRange::new(0, 3 * GIB), GuestRange::new(4 * GIB, 2 * GIB)]);
    assert_eq!(layout.mmio64, GuestRange::new(6 * GIB, (1 << 40) - 6 * GIB));
}

#[test]
fn thirty_nine_bit_iommu_bounds_everything() {
    let limits = vtd(39);
    let layout = Layout::new(8 * GIB, &limits).unwrap();
    assert_eq!(layout.mmio64.end(), 1 << 39);
    assert!(limits.reachable(&layout.mmio64));
    assert!(limits.reachable(&MMIO32));
    let error = Layout::new(600 * GIB, &limits).unwrap_err();
    let end = 1 << 39;
    assert_eq!(
        error,
        LayoutError::TooLarge { asked: 600 * GIB, largest: 511 * GIB, limit: Limit::Aperture { end } }
    );
    // A guest that takes all of the aperture has its 64-bit BARs beyond it.
    let layout = Layout::new(511 * GIB, &limits).unwrap();
    assert_eq!(layout.mmio64.start, 1 << 39);
}

#[test]
fn ram_skips_the_hyper_transport_hole() {
    let layout = Layout::new(2 * TIB, &amd()).unwrap();
    assert_eq!(layout.ram[1].end(), HYPER_TRANSPORT.start);
    assert_eq!(layout.ram[2].start, HYPER_TRANSPORT.end());
    assert_eq!(layout.ram_bytes(), 2 * TIB);
}

#[test]
fn ram_skips_a_reserved_region_below_4_gib() {
    let iova = vec![0..=0x7aff_ffff, 0x7f80_0000..=0xfedf_ffff, 0xfef0_0000..=(1 << 39) - 1];
    let layout = Layout::new(2 * GIB, &AddressLimits { phys_bits: 39, iova: Some(iova) }).unwrap();
    let second = GuestRange::new(0x8000_0000, 2 * GIB - 0x7b00_0000);
    assert_eq!(layout.ram, [GuestRange::new(0, 0x7b00_0000), second]);
}

#[test]
fn odd_sizes_are_refused() {
    let limits = AddressLimits::cpu_only(46);
    assert_eq!(Layout::new(0, &limits), Err(LayoutError::TooSmall { asked: 0 }));
    assert_eq!(Layout::new(MIN_RAM - 4096, &limits), Err(LayoutError::TooSmall { asked: MIN_RAM - 4096 }));
    assert_eq!(Layout::new(MIN_RAM + 1, &limits), Err(LayoutError::NotPageAligned { asked: MIN_RAM + 1 }));
    let too_large = Layout::new(MAX_RAM + 4096, &limits).unwrap_err();
    assert_eq!(
        too_large,
        LayoutError::TooLarge { asked: MAX_RAM + 4096, largest: MAX_RAM, limit: Limit::Supported }
    );
}

#[test]
fn refusals_name_the_limit_and_the_flag() {
    let error = Layout::new(100 * GIB, &AddressLimits::cpu_only(36)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "guest memory of 100 GiB does not fit: the CPU has 36 physical address bits, which leaves room for 62 GiB"
    );
    assert_eq!(error.help().unwrap().to_string(), "lower --memory to 62G or less");
    let error = Layout::new(0, &AddressLimits::cpu_only(36)).unwrap_err();
    assert_eq!(error.to_string(), "guest memory of 0 bytes is less than 16 MiB");
    assert_eq!(error.help().unwrap().to_string(), "raise --memory to 16M or more");
}

#[test]
fn hostile_limits_are_refused() {
    let with = |phys_bits, iova: Vec<RangeInclusive<u64>>| {
        Layout::new(MIN_RAM, &AddressLimits { phys_bits, iova: Some(iova) })
    };
    assert_eq!(with(46, vec![]), Err(LayoutError::NoLowMemory));
    assert_eq!(with(46, vec![1..=u64::MAX]), Err(LayoutError::NoLowMemory));
    assert_eq!(with(46, vec![0..=0x9_ffff]), Err(LayoutError::NoLowMemory));
    assert_eq!(with(32, vec![0..=u64::MAX]), Err(LayoutError::NoMmio64 { phys_bits: 32 }));
    assert_eq!(with(0, vec![0..=u64::MAX]), Err(LayoutError::NoMmio64 { phys_bits: 0 }));
    assert!(with(255, vec![u64::MAX..=u64::MAX, 0..=u64::MAX]).is_ok());
}

fn limits() -> impl Strategy<Value = AddressLimits> {
    let ranges = proptest::collection::vec((0..1u64 << 53, 1..1u64 << 42), 0..6);
    let aperture = (32u32..=64, ranges).prop_map(|(bits, holes)| {
        let last = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
        let mut usable = Vec::new();
        let mut start = 0;
        let mut holes: Vec<_> = holes.into_iter().map(|(at, size)| (at, at + size)).collect();
        holes.sort_unstable();
        for (from, to) in holes {
            if from > start && from <= last {
                usable.push(start..=from - 1);
            }
            start = start.max(to);
        }
        if start <= last {
            usable.push(start..=last);
        }
        usable
    });
    (36u8..=52, proptest::option::of(aperture))
        .prop_map(|(phys_bits, iova)| AddressLimits { phys_bits, iova })
}

proptest! {
    #[test]
    fn nothing_overlaps_and_all_is_inside_the_limits(
        pages in MIN_RAM / PAGE_SIZE..=MAX_RAM / PAGE_SIZE,
        shift in 0u32..20,
        limits in limits(),
    ) {
        let bytes = ((pages >> shift) * PAGE_SIZE).max(MIN_RAM);
        match Layout::new(bytes, &limits) {
            Ok(layout) => check(&layout, bytes, &limits)?,
            Err(LayoutError::TooLarge { asked, largest, .. }) => {
                prop_assert_eq!(asked, bytes);
                prop_assert!(largest < bytes);
                check(&Layout::new(largest, &limits).unwrap(), largest, &limits)?;
                prop_assert!(Layout::new(largest + PAGE_SIZE, &limits).is_err());
            }
            Err(LayoutError::NoLowMemory) => {
                prop_assert!(!limits.reachable(&GuestRange::new(0, MIN_RAM)));
            }
            Err(error) => prop_assert!(false, "{error}"),
        }
    }
}

fn check(layout: &Layout, bytes: u64, limits: &AddressLimits) -> Result<(), TestCaseError> {
    prop_assert_eq!(layout.ram_bytes(), bytes);
    prop_assert_eq!(layout.ram[0].start, 0);
    let fixed = [IOAPIC, LAPIC, KVM_IDENTITY_MAP, KVM_TSS];
    let mut all = layout.ram.clone();
    all.extend(fixed);
    all.extend([layout.ecam, layout.mmio32, layout.mmio64]);
    for (i, a) in all.iter().enumerate() {
        prop_assert!(!a.is_empty());
        prop_assert!(a.end() <= 1 << limits.phys_bits);
        prop_assert!(all[i + 1..].iter().all(|b| !a.overlaps(b)), "{:?} overlaps in {:?}", a, all);
    }
    for region in &layout.ram {
        prop_assert!(limits.reachable(region));
        prop_assert_eq!(region.start % GIB, 0);
        prop_assert!(region.end() <= layout.mmio64.start);
    }
    prop_assert_eq!((layout.mmio64.start % GIB, layout.mmio64.size % GIB), (0, 0));
    // Outside the aperture only if no whole GiB inside it is left above RAM.
    if !limits.reachable(&layout.mmio64) {
        let floor = layout.ram.last().unwrap().end().max(HIGH_RAM_START);
        let left = limits.permitted().iter().filter_map(|r| clip(r, floor, limits.end(), GIB)).count();
        prop_assert_eq!(left, 0);
    }
    Ok(())
}

#[test]
fn the_window_moves_for_bars_that_do_not_fit_into_the_aperture() {
    let limits = AddressLimits { phys_bits: 46, iova: Some(vec![0..=(1 << 39) - 1]) };
    let layout = Layout::new(4 * GIB, &limits).unwrap();
    let inside = layout.mmio64;
    for bars in
        [&[][..], &[256 * GIB], &[128 * GIB, 128 * GIB, 64 * GIB], &[GIB; 100], &[1 << 50], &[u64::MAX]]
    {
        let mut layout = layout.clone();
        assert!(!layout.make_room(bars, &limits), "{bars:?} fit, or nowhere");
        assert_eq!(layout.mmio64, inside);
    }
    for bars in [&[512 * GIB][..], &[256 * GIB, 256 * GIB]] {
        let mut layout = layout.clone();
        assert!(layout.make_room(bars, &limits));
        assert_eq!((layout.mmio64.start, layout.mmio64.end()), (5 * GIB, 1 << 46));
        assert!(!layout.make_room(bars, &limits), "once is enough");
    }
}

#[test]
fn fixed_pieces_do_not_overlap() {
    let fixed = [GuestRange::new(0, LOW_RAM_END), ECAM, MMIO32, IOAPIC, LAPIC, KVM_IDENTITY_MAP, KVM_TSS];
    for pair in fixed.windows(2) {
        assert!(pair[0].end() <= pair[1].start, "{pair:?}");
    }
    assert!(KVM_TSS.end() <= HIGH_RAM_START);
}

#[test]
fn room_to_plug_memory_in_lies_above_ram_and_within_reach() {
    let limits =
        AddressLimits { phys_bits: 46, iova: Some(vec![0..=0xfedf_ffff, 0xfef0_0000..=(1 << 39) - 1]) };
    let layout = Layout::with_room(GIB, 4 * GIB, &limits).unwrap();
    assert_eq!(layout.pluggable, Some(GuestRange::new(4 * GIB, 4 * GIB)));
    assert_eq!(layout.ram_bytes(), GIB);
    let layout = Layout::with_room(5 * GIB + 4096, 4 * GIB, &limits).unwrap();
    assert_eq!(layout.pluggable, Some(GuestRange::new(7 * GIB, 4 * GIB)));
    assert!(layout.mmio64.start >= 11 * GIB && limits.reachable(&layout.mmio64));
    let refused = Layout::with_room(GIB, 1 << 40, &limits).unwrap_err();
    assert!(matches!(refused, LayoutError::NoRoom { .. }), "{refused}");
    assert_eq!(Layout::new(GIB, &limits).unwrap().pluggable, None);
}

#[test]
fn persistent_memory_lies_above_all_else_within_the_reach_of_the_cpu() {
    let limits = AddressLimits { phys_bits: 40, iova: Some(vec![0..=(1 << 39) - 1]) };
    let mut layout = Layout::with_room(5 * GIB, 4 * GIB, &limits).unwrap();
    layout.add_persistent(&[2 * MIB, 3 * GIB], &limits).unwrap();
    let plugged = layout.pluggable.unwrap();
    let [first, second] = layout.persistent[..] else { panic!("{:?}", layout.persistent) };
    assert_eq!((first.start, first.size, second.size), (plugged.end(), 2 * MIB, 3 * GIB));
    assert_eq!((second.start, second.start % GIB), (first.start + GIB, 0));
    assert!(layout.mmio64.start >= second.end() && limits.reachable(&layout.mmio64));
    assert!(!layout.make_room(&[GIB], &limits));

    // What the IOMMU does not reach will do.
    layout.add_persistent(&[600 * GIB], &limits).unwrap();
    assert!(layout.mmio64.start >= layout.persistent[2].end());
    let refused = layout.add_persistent(&[500 * GIB], &limits).unwrap_err();
    assert!(matches!(refused, LayoutError::NoRoomForFile { .. }), "{refused}");
    let before = layout.clone();
    layout.add_persistent(&[], &limits).unwrap();
    assert_eq!(layout, before);
}
