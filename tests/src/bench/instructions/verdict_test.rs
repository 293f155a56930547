use super::*;

fn row(name: &str, seconds: &[f64]) -> Row {
    Row::new(name.to_owned(), Ok(seconds.to_vec()))
}

#[test]
fn vmm_is_held_to_its_promise_and_others_to_none() {
    let good = [
        row("vmm, plain", &[0.29]),
        row("vmm, an NVMe, 8 MiB read", &[0.8, 0.9]),
        row("QEMU q35, plain", &[9.0]),
    ];
    assert!(complaints(&good).is_empty());
    assert_eq!(complaints(&[row("vmm, plain", &[0.3])]), ["vmm, plain: 0.300 s, not 0.297"]);
    assert_eq!(complaints(&[row("vmm, an NVMe, 8 MiB read", &[])]).len(), 1);
    assert_eq!(complaints(&good[2..]).len(), 1);
}
