use super::*;

#[test]
fn an_option_that_did_not_survive_is_named() {
    let fragment = "# a remark\nCONFIG_A=y\nCONFIG_B=y\nCONFIG_N=8\nCONFIG_OFF=n\nCONFIG_ON=n\nCONFIG_B=y\n";
    let config = "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_N=8\nCONFIG_ON=y\nCONFIG_AB=y\n";
    assert_eq!(dropped(fragment, config), ["CONFIG_B", "CONFIG_ON"]);
}

#[test]
fn the_fragment_asks_for_what_the_lab_is_about() {
    for option in
        ["CONFIG_KVM_AMD=y", "CONFIG_VFIO_PCI=y", "CONFIG_IOMMUFD=y", "CONFIG_CMA=y", "CONFIG_PVH=y"]
    {
        assert!(FRAGMENT.lines().any(|line| line == option), "{option}");
    }
}
