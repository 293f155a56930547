use super::*;

#[test]
fn a_card_has_an_address_a_link_and_the_mtu_it_was_given() {
    let mac = MacAddress([2, 0, 0x5e, 0x10, 0, 1]);
    let card = wanted("/run/switch.sock".into(), mac, Some(9000));
    let Config::Ours(config) = card.config else { panic!("the daemon's") };
    assert_eq!(config, [2, 0, 0x5e, 0x10, 0, 1, 1, 0, 1, 0, 0x28, 0x23]);
    assert_eq!(card.name, "network card at switch.sock");
    assert_eq!(card.ours, 1 << 3 | 1 << 5 | 1 << 16);
    assert_eq!(wanted("/s".into(), mac, None).ours, 1 << 5 | 1 << 16);
    // Nothing that needs a control queue, which there is not.
    assert_eq!(card.features & (1 << VIRTIO_NET_F_CTRL_VQ | 1 << VIRTIO_NET_F_MQ), 0);
}
