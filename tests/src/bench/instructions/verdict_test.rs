use super::*;

fn row(name: &'static str, seconds: &[f64]) -> Row {
    Row::new(name, Monitor::Vmm, Ok(seconds.to_vec()))
}

#[test]
fn each_guest_is_held_to_its_bar() {
    assert!(complaints(&[row("plain", &[0.29]), row("an NVMe, 8 MiB read", &[0.8, 0.9])]).is_empty());
    assert_eq!(complaints(&[row("plain", &[0.3])]), ["plain: 0.300 s, not 0.297"]);
    assert_eq!(complaints(&[row("an NVMe, 8 MiB read", &[])]).len(), 1);
    assert_eq!(complaints(&[]).len(), 1);
}

#[test]
fn peers_have_no_bar_but_are_to_be_measured() {
    let peer = |measured| Row::new("plain", Monitor::Q35, measured);
    assert!(complaints(&[peer(Ok(vec![9.0]))]).is_empty());
    assert_eq!(complaints(&[peer(Err("it failed".to_owned()))]), ["plain, QEMU q35: was not measured"]);
}
