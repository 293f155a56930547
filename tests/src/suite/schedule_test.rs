use super::*;
use crate::suite::case;

#[test]
fn a_host_is_kept_while_there_are_cases_for_it() {
    let plain = HostSpec::default();
    let narrow = HostSpec::default().aw_bits(39);
    let queue = Queue(Mutex::new(vec![
        case("a", narrow.clone(), |_| Ok(())),
        case("b", plain.clone(), |_| Ok(())),
        case("c", plain.clone(), |_| Ok(())),
        case("d", narrow.clone(), |_| Ok(())),
        case("e", plain.clone(), |_| Ok(())),
    ]));
    let name = |host| queue.next(host).map(|case| case.name);
    assert_eq!(name(None), Some("b"), "most cases want the plain host");
    assert_eq!(name(Some(&narrow)), Some("a"));
    assert_eq!(name(Some(&narrow)), Some("d"));
    assert_eq!(name(Some(&narrow)), Some("c"), "none is left for this host");
    assert_eq!(name(Some(&plain)), Some("e"));
    assert_eq!(name(Some(&plain)), None);
}
