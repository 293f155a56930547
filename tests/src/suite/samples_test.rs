use super::*;

const SYMBOLS: &str = "ffffffff8113a400 t irq_wait_on_inprogress\nffffffff818e47b0 T queued_spin_lock_slowpath\n\
                       ffffffff818e5000 T copy_page\nffffffffc0000000 t x\t[kvm]\n";

fn registers(at: &str, flags: &str, halted: u8) -> String {
    format!(
        "\nCPU#0\nRAX=1 RBX=2\nRIP={at} RFL={flags} [-------] CPL=0 II=0 A20=1 SMM=0 HLT={halted}\nES =0000\n"
    )
}

fn spins(at: &str, flags: &str, times: usize) -> bool {
    let mut samples = Samples::new(&["", SYMBOLS]);
    (0..times).for_each(|_| samples.add(&registers(at, flags, 0)));
    samples.show_spinning()
}

#[test]
fn a_cpu_that_spins_with_interrupts_off_is_seen() {
    assert!(spins("ffffffff818e47d5", "00000002", 10));
    assert!(!spins("ffffffff818e47d5", "00000002", 9), "any CPU waits for a moment");
    assert!(!spins("ffffffff818e47d5", "00000202", 40), "interrupts are on");
    assert!(!spins("ffffffff818e5005", "00000002", 40), "it works");
    let mut none = Samples::new(&[]);
    (0..40).for_each(|_| none.add(&registers("ffffffff818e47d5", "00000002", 0)));
    none.add("(qemu) unknown command");
    assert!(!none.show_spinning());
}

#[test]
fn symbols_of_one_kernel_hide_none_of_another() {
    let others = "ffffffff818e47c0 T of_another_kernel\n--\n";
    let at = registers("ffffffff818e47d5", "00000002", 0);
    for tables in [[others, SYMBOLS], [SYMBOLS, others]] {
        let mut samples = Samples::new(&tables);
        (0..10).for_each(|_| samples.add(&at));
        assert!(samples.show_spinning(), "{samples}");
    }
}

#[test]
fn where_cpus_were_is_told() {
    let mut samples = Samples::new(&[SYMBOLS]);
    samples.add(&registers("ffffffff818e5005", "00000246", 0));
    samples.add(&registers("ffffffff818e5005", "00000246", 1));
    samples.add(&registers("ffffffff818e47d5", "00000002", 0));
    samples.add(&registers("ffffffff818e47d6", "00000002", 0));
    samples.add(&registers("1000", "00000202", 0));
    let told = "[in 40 looks CPUs were at, 2 times queued_spin_lock_slowpath with interrupts off, 1 times 0x1000, 1 times copy_page]\n";
    assert_eq!(samples.to_string(), told);
}
