use super::*;

fn taken(gsis: impl IntoIterator<Item = u32>) -> Routes {
    let irqfd = || Irqfd { eventfd: Arc::new(EventFd::new(EFD_NONBLOCK).unwrap()), live: false };
    Routes { vectors: gsis.into_iter().map(|gsi| (gsi, irqfd())).collect(), ..Default::default() }
}

#[test]
fn vectors_take_the_lowest_free_gsi() {
    assert_eq!(taken([]).free_gsi(), 24);
    assert_eq!(taken([24, 25, 27]).free_gsi(), 26);
    assert_eq!(taken([25]).free_gsi(), 24);
    assert_eq!(taken(24..280).free_gsi(), 280);
}

#[test]
fn a_message_set_tells_the_one_before() {
    let mut routes = Routes::default();
    let message = |data| Some(MsiMessage { address: 0xfee0_0000, data });
    assert_eq!(routes.set(24, message(1)), None);
    assert_eq!(routes.set(24, message(2)), message(1));
    assert_eq!(routes.set(24, None), message(2));
    assert!(routes.messages.is_empty());
}
