use super::*;

#[test]
fn the_generator_is_the_published_one() {
    let mut random = SplitMix(1_234_567);
    assert_eq!(random.next(), 6_457_827_717_110_365_317);
    assert_eq!(random.next(), 3_203_168_211_198_807_973);
}
