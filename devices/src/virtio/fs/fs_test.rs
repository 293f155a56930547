use super::*;

#[test]
fn a_tag_is_padded_and_may_fill_its_field() {
    let config = |tag: &str| {
        let Config::Ours(config) = wanted("/s".into(), tag, 3, 256).config else { panic!("not ours") };
        config
    };
    assert_eq!(config("home"), [b"home".as_slice(), &[0; 32], &[3, 0, 0, 0]].concat());
    assert_eq!(config(&"t".repeat(36)), [&[b't'; 36][..], &[3, 0, 0, 0]].concat());
    assert_eq!(wanted("/s".into(), "home", 3, 256).queue_sizes, [256; 4]);
}
