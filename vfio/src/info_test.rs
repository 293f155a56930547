use proptest::prelude::*;

use super::*;

fn iommu_info(flags: u32, page_sizes: u64, capabilities: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let argsz = 24 + capabilities.len() as u32;
    for value in [argsz, flags] {
        bytes.extend(value.to_ne_bytes());
    }
    bytes.extend(page_sizes.to_ne_bytes());
    for value in [if capabilities.is_empty() { 0u32 } else { 24 }, 0] {
        bytes.extend(value.to_ne_bytes());
    }
    bytes.extend(capabilities);
    bytes
}

fn header(id: u16, next: u32) -> Vec<u8> {
    [&id.to_ne_bytes()[..], &1u16.to_ne_bytes(), &next.to_ne_bytes()].concat()
}

fn array(count: u32, pairs: &[(u64, u64)]) -> Vec<u8> {
    let mut bytes = [count.to_ne_bytes(), [0; 4]].concat();
    for (first, second) in pairs {
        bytes.extend(first.to_ne_bytes());
        bytes.extend(second.to_ne_bytes());
    }
    bytes
}

const VTD_39: [(u64, u64); 2] = [(0, 0xfedf_ffff), (0xfef0_0000, 0x7f_ffff_ffff)];

#[test]
fn reads_what_an_intel_iommu_with_39_bits_says() {
    // migration (40 bytes), then IOVA ranges, then dma_avail.
    let mut capabilities = header(2, 24 + 32);
    capabilities.extend([0; 24]);
    capabilities.extend(header(1, 24 + 32 + 48));
    capabilities.extend(array(2, &VTD_39));
    capabilities.extend(header(3, 0));
    capabilities.extend(65535u32.to_ne_bytes());
    let aperture = Aperture::parse(&iommu_info(3, 0x4020_1000, &capabilities));
    assert_eq!(
        aperture,
        Aperture {
            ranges: vec![0..=0xfedf_ffff, 0xfef0_0000..=0x7f_ffff_ffff],
            page_sizes: 0x4020_1000,
            dma_avail: Some(65535),
        }
    );
}

#[test]
fn says_nothing_where_the_kernel_says_nothing() {
    assert_eq!(Aperture::parse(&iommu_info(0, 0x1000, &[])), Aperture::default());
    assert_eq!(Aperture::parse(&[]), Aperture::default());
}

#[test]
fn survives_broken_chains() {
    let to_itself = header(3, 24);
    assert_eq!(Aperture::parse(&iommu_info(3, 0, &to_itself)).dma_avail, None);

    let more_than_there_is = [header(1, 0), array(u32::MAX, &VTD_39)].concat();
    assert_eq!(Aperture::parse(&iommu_info(3, 0, &more_than_there_is)).ranges.len(), 2);

    let unsorted = [header(1, 0), array(3, &[(0x8000, 0x9000), (0, 0x8000), (9, 8)])].concat();
    assert_eq!(Aperture::parse(&iommu_info(3, 0, &unsorted)).ranges, vec![0..=0x8000]);
}

fn region_info(flags: u32, size: u64, capabilities: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for value in [32 + capabilities.len() as u32, flags, 0, 32] {
        bytes.extend(value.to_ne_bytes());
    }
    bytes.extend(size.to_ne_bytes());
    bytes.extend((1u64 << 40).to_ne_bytes());
    bytes.extend(capabilities);
    bytes
}

#[test]
fn reads_a_region_and_its_sparse_areas() {
    let capabilities = [header(3, 40), header(1, 0), array(2, &[(0, 0x2000), (0x3000, 0x1000)])].concat();
    let region = RegionInfo::parse(&region_info(0xf, 0x4000, &capabilities)).unwrap();
    assert_eq!(region.sparse, Some(vec![0..0x2000, 0x3000..0x4000]));
    assert_eq!((region.size, region.offset), (0x4000, 1 << 40));
    assert!(region.readable && region.writable && region.mappable);

    let plain = RegionInfo::parse(&region_info(0x1, 0x100, &[])).unwrap();
    assert!(plain.readable && !plain.writable && !plain.mappable && plain.sparse.is_none());
    assert_eq!(RegionInfo::parse(&[0; 31]), None);
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256), flags in 0u32..16) {
        let mut bytes = bytes;
        if let Some(field) = bytes.get_mut(4..8) {
            field.copy_from_slice(&flags.to_ne_bytes());
        }
        if let Some(field) = bytes.get_mut(16..20) {
            field.copy_from_slice(&24u32.to_ne_bytes());
        }
        let aperture = Aperture::parse(&bytes);
        for pair in aperture.ranges.windows(2) {
            prop_assert!(pair[0].end() < pair[1].start());
        }
        let _ = RegionInfo::parse(&bytes);
    }
}
