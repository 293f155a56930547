use super::*;

fn request(kind: u8, words: &[u32]) -> Vec<u8> {
    let words = words.iter().flat_map(|word| word.to_le_bytes());
    [kind, 0, 0, 0].into_iter().chain(words).collect()
}

#[test]
fn requests_are_read_as_the_specification_lays_them_out() {
    let read = |kind, words: &[u32]| Request::parse(&request(kind, words)).unwrap();
    assert_eq!(read(1, &[7, 8, 0, 0]), Request::Attach { domain: 7, endpoint: 8 });
    assert_eq!(read(2, &[7, 8, 0, 0]), Request::Detach { domain: 7, endpoint: 8 });
    let map = read(3, &[7, 0x1000, 1, 0x1fff, 1, 0x3000, 2, 3]);
    let (first, last, gpa) = (0x1_0000_1000, 0x1_0000_1fff, 0x2_0000_3000);
    assert_eq!(map, Request::Map { domain: 7, first, last, gpa, read: true, write: true });
    assert_eq!(read(4, &[7, 1, 0, 2, 0, 0]), Request::Unmap { domain: 7, first: 1, last: 2 });
    assert_eq!(read(5, &[9]), Request::Probe { endpoint: 9 });
}

#[test]
fn what_is_too_short_or_unknown_is_refused() {
    assert_eq!(Request::parse(&[]), Err(Refused::Invalid));
    assert_eq!(Request::parse(&[1, 0, 0]), Err(Refused::Invalid));
    assert_eq!(Request::parse(&request(0, &[0; 16])), Err(Refused::Unsupported));
    assert_eq!(Request::parse(&request(6, &[0; 16])), Err(Refused::Unsupported));
    for kind in 1..=5 {
        assert_eq!(Request::parse(&request(kind, &[])), Err(Refused::Invalid), "{kind}");
    }
    let whole = request(3, &[0, 0, 0, 0xfff, 0, 0, 0, 1]);
    assert!(Request::parse(&whole).is_ok());
    assert_eq!(Request::parse(&whole[..whole.len() - 1]), Err(Refused::Invalid));
}

#[test]
fn flags_that_were_not_offered_are_refused() {
    // Bypass, and what is reserved.
    assert_eq!(Request::parse(&request(1, &[1, 1, 1, 0])), Err(Refused::Invalid));
    assert_eq!(Request::parse(&request(1, &[1, 1, 0, 1])), Err(Refused::Invalid));
    // None, device memory, unknown.
    for flags in [0, 4, 5, 8, 1 << 31 | 3] {
        let map = request(3, &[1, 0, 0, 0xfff, 0, 0, 0, flags]);
        assert_eq!(Request::parse(&map), Err(Refused::Invalid), "{flags:#x}");
    }
}
