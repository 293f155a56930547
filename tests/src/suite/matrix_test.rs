use super::*;

fn set(options: &[&str]) -> BTreeSet<String> {
    options.iter().map(|option| (*option).to_owned()).collect()
}

#[test]
fn options_are_read_off_command_lines() {
    let command = "cd /tmp; exec vmm run --memory 128M --disk a.img,direct,rate={bytes=1M,ops=5} --rng \\\n  \
                   --net tap=tap0,rx-rate.ops=5 --vfio 0000:01:00.0 --watchdog reset & wait";
    let expected = [
        "--disk path",
        "--disk direct",
        "--disk rate.bytes",
        "--disk rate.ops",
        "--rng",
        "--net tap",
        "--net rx-rate.ops",
        "--vfio device",
        "--watchdog",
    ];
    assert_eq!(used(command, Some(0)), set(&expected));
    assert_eq!(used(command, None), set(&expected));
    assert_eq!(used("vmm run --disk a.img", Some(2)), set(&[]), "it was refused");
    assert_eq!(used("vmm run --disk a.img --dry-run", Some(0)), set(&[]), "it is no machine");
    assert_eq!(used("exec vmm -v run --rng", Some(0)), set(&["--rng"]));
    assert_eq!(used("vmm check --disk a.img", Some(0)), set(&[]), "it is no machine");
}

#[test]
fn the_matrix_has_a_row_for_each_option_and_the_first_cases() {
    let mut uses = Uses::default();
    for case in ["d/4", "b/2", "c/3", "a/1"] {
        uses.add(case, set(&["--net mtu"]));
    }
    let mut other = Uses::default();
    other.add("a/0", set(&["--net mtu"]));
    uses.merge(other);
    let matrix = uses.matrix();
    assert!(matrix.contains("| `--net mtu` | `a/0`, `a/1`, `b/2` |\n"), "{matrix}");
    assert!(matrix.contains("| `--disk rate.ops-burst` |  |\n"), "{matrix}");
}
