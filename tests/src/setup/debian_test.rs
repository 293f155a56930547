use super::*;

#[test]
fn a_module_comes_with_what_it_depends_on() {
    let dependencies = "kernel/kvm/kvm-amd.ko.xz: kernel/kvm/kvm.ko.xz kernel/virt/irqbypass.ko.xz\n\
                        kernel/kvm/kvm.ko.xz: kernel/virt/irqbypass.ko.xz\n\
                        kernel/virt/irqbypass.ko.xz:\n\
                        kernel/other.ko.xz:\n";
    let found: Vec<String> = closure(dependencies, &["kvm_amd", "built-in"]).into_iter().collect();
    assert_eq!(found, ["kernel/kvm/kvm-amd.ko.xz", "kernel/kvm/kvm.ko.xz", "kernel/virt/irqbypass.ko.xz"]);
}
