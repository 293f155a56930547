use super::*;

const RAW: &str = "# event histogram\n#\n# trigger info: hist:keys=common_comm,id:vals=hitcount:sort=hitcount:size=8192 [active]\n#\n\n\
    { common_comm: vcpu0           , id:         16 } hitcount:       4711\n\
    { common_comm: virtio-blk      , id:         74 } hitcount:          1\n\
    { common_comm: sh              , id:         59 } hitcount:          1\n\n\
    Totals:\n    Hits: 4713\n    Entries: 3\n    Dropped: 0\n";
const IOCTL: &str = "{ common_comm: vcpu0           , cmd:      44672 } hitcount:       4711\n";

fn rule(name: &str, which: impl Fn(&Rule) -> bool) -> &'static Rule {
    let all = TABLE.iter().flat_map(|row| row.rules);
    all.filter(|rule| names::name(rule.call as usize) == name).find(|rule| which(rule)).unwrap()
}

#[test]
fn a_rule_is_used_by_whom_it_is_for_with_its_arguments() {
    let mut made = read(RAW, "id", None);
    assert_eq!(made.len(), 2);
    made.extend(read(IOCTL, "cmd", Some(("ioctl", 1))));
    let by = |roles: &[Role], rule: &Rule| {
        made.iter().any(|made| is_by(made.thread, roles) && made.is_under(rule))
    };
    let kvm = rule("ioctl", |rule| rule.when == When::Bits(1, 0xff00, 0xae00));
    assert!(by(&[Role::Vcpu], kvm) && by(&[Role::Main], kvm));
    assert!(!by(&[Role::Device], kvm) && !by(&[Role::Api], kvm));
    let vfio = rule("ioctl", |rule| rule.when == When::Bits(1, 0xff00, u64::from(b';') << 8));
    assert!(!by(&[Role::Main], vfio));
    // Of what a vCPU starts, the vCPU is the user as well.
    assert!(by(&[Role::Device], rule("fsync", |_| true)) && by(&[Role::Vcpu], rule("fsync", |_| true)));
}

#[test]
fn every_rule_is_unused_where_nothing_ran() {
    let lines = Calls::default().unused();
    let rules = TABLE.iter().flat_map(|row| row.rules).filter(|rule| rule.rarely.is_none());
    assert_eq!(lines.len(), rules.count());
}

#[test]
fn all_arguments_that_rules_look_at_are_counted() {
    for rule in TABLE.iter().flat_map(|row| row.rules) {
        let (When::Is(place, _) | When::Bits(place, ..)) = rule.when else { continue };
        let name = names::name(rule.call as usize);
        assert!(
            ARGUMENTS.iter().any(|(call, it, _)| (*call, *it) == (name, place)),
            "{name}, argument {place}"
        );
    }
}
