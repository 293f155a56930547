use super::*;

#[test]
fn an_option_that_did_not_survive_is_named() {
    let fragment = "# a remark\nCONFIG_A=y\nCONFIG_B=y\nCONFIG_N=8\nCONFIG_OFF=n\nCONFIG_ON=n\nCONFIG_B=y\nCONFIG_C=y\nCONFIG_C=n\n";
    let config = "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_N=8\nCONFIG_ON=y\nCONFIG_AB=y\n";
    assert_eq!(dropped(fragment, config), ["CONFIG_B", "CONFIG_ON"]);
}

#[test]
fn hosts_have_what_the_lab_is_about_and_guests_do_not_pay_for_it() {
    let (hosts, guests) = (Of::Hosts.options(), Of::Guests.options());
    let has = |options: &str, option: &str| options.lines().any(|line| line == option);
    for option in ["CONFIG_KVM_AMD=y", "CONFIG_VFIO_PCI=y", "CONFIG_IOMMUFD=y", "CONFIG_CMA=y"] {
        assert!(has(&hosts, option) && !has(&guests, option), "{option}");
    }
    assert!(has(&hosts, "CONFIG_PVH=y") && has(&guests, "CONFIG_PVH=y"));
    assert_ne!(Of::Hosts.key(), Of::Guests.key());
}
