use super::*;

#[test]
fn the_generator_is_the_published_one() {
    let mut random = SplitMix64::seed_from_u64(1_234_567);
    assert_eq!(random.next_u64(), 6_457_827_717_110_365_317);
    assert_eq!(random.next_u64(), 3_203_168_211_198_807_973);
}
