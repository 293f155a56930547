use serde_json::json;

use super::*;

fn answer(body: &Value) -> Answer {
    Answer { body: body.to_string().into_bytes() }
}

#[test]
fn a_machine_is_a_table() {
    let body = json!({
        "state": "Running",
        "memory_actual_size": 512 << 20,
        "config": {
            "cpus": { "boot_vcpus": 2 },
            "payload": { "kernel": "/boot/vmlinux", "cmdline": "console=ttyS0", "initramfs": null },
            "serial": { "mode": "Pty", "file": "/dev/pts/3" },
            "devices": [{ "id": "nvme", "path": "/sys/bus/pci/devices/0000:01:00.0" }],
        },
        "device_tree": { "nvme": { "pci_bdf": "0000:00:01.0" } },
    });
    assert_eq!(
        info(&answer(&body)),
        "state    Running\n\
         vCPUs    2\n\
         memory   512 MiB\n\
         kernel   /boot/vmlinux\n\
         cmdline  console=ttyS0\n\
         serial   Pty /dev/pts/3\n\
         device   nvme: 0000:01:00.0, 0000:00:01.0 in the guest\n"
    );
}

#[test]
fn a_balloon_shows_what_the_guest_gave_and_has() {
    let body = json!({ "balloon": { "actual": 64 << 20, "target": 96 << 20, "statistics": null } });
    assert_eq!(balloon(&body), "64 MiB of 96 MiB");
    let guest = json!({ "available_bytes": 40 << 20, "total_bytes": 480 << 20 });
    let body =
        json!({ "balloon": { "actual": 0, "target": 0, "statistics": { "age_ms": 3, "guest": guest } } });
    assert_eq!(balloon(&body), "0 bytes of 0 bytes; the guest has 40 MiB available of 480 MiB");
    assert_eq!(balloon(&json!({})), "");
}

#[test]
fn counters_have_a_row_for_each_part() {
    let body = json!({
        "vcpu0": { "mmio_exits": 7, "port_exits": 1234567 },
        "gpu": { "interrupts": 9 },
        "vcpu1": { "mmio_exits": 0, "port_exits": 1 },
    });
    assert_eq!(
        counters(&answer(&body)),
        "       mmio_exits  port_exits\nvcpu0  7           1234567\nvcpu1  0           1\n\n     interrupts\ngpu  9\n"
    );
}

#[test]
fn phases_have_rates() {
    let body = json!([{ "phase": "pin", "ms": 500.0, "bytes": 1_u64 << 30 }, { "phase": "load kernel", "ms": 1.5, "bytes": null }]);
    assert_eq!(
        phases(&answer(&body)),
        "phase        ms      GiB/s\npin          500.00  2.00\nload kernel  1.50\n"
    );
}

#[test]
fn what_is_not_as_expected_is_no_harm() {
    for body in [json!(null), json!([]), json!({ "vcpu0": 3, "config": [] }), json!("text"), json!([1, [2]])]
    {
        for show in [info, counters, phases, pin_report, ping, state, added] {
            show(&answer(&body));
        }
    }
    assert_eq!(text(&Answer { body: b"x".to_vec() }), "x\n");
    assert_eq!(text(&Answer::default()), "");
}

#[test]
fn a_preflight_lists_what_is_in_the_way() {
    let answer = |body: &str| Answer { body: body.into() };
    assert_eq!(preflight(&answer(r#"{"ready":true,"problems":[]}"#)), "ready\n");
    let problems = r#"{"ready":false,"problems":[["no kernel","it is gone","help: find it"],["no memory"]]}"#;
    let expected = "problem: no kernel\n   it is gone\n   help: find it\nproblem: no memory\n";
    assert_eq!(preflight(&answer(problems)), expected);
}
