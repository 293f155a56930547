//! The machine's own virtio devices, as Linux drives them: over reboots, and with their drivers taken away at any moment.

use crate::host::{HostSpec, NVME};
use crate::suite::{Case, Ctx, Failure, GuestInitrd, TestResult, case, ensure};

pub(super) fn all() -> Vec<Case> {
    vec![case(
        "virtio/an entropy device, its driver gone at any moment, beside a drive",
        HostSpec::default(),
        entropy,
    )]
}

/// Reads go on while the driver is unbound in the middle of them, and while the function is reset under it.
const ENTROPY: &str = r#"
    cat /sys/class/misc/hw_random/rng_current
    for portion in 1 2; do head -c 65536 /dev/hwrng | sha256sum; done
    echo interrupts $(grep virtio0-input /proc/interrupts)
    cd /sys/bus/virtio/drivers/virtio_rng; pci=$(readlink -f virtio0/..)
    (while :; do cat /dev/hwrng; done >/dev/null 2>&1) & reader=$!
    for i in $(seq 20); do
        [ $((i % 5)) != 0 ] || echo 1 > $pci/reset
        echo virtio0 > unbind && echo virtio0 > bind || echo lost it
    done
    kill $reader; wait
    head -c 65536 /dev/hwrng | wc -c | sed 's/^/afterwards /'
    [ ! -b /dev/nvme0n1 ] || dd if=/dev/nvme0n1 bs=64k count=128 iflag=direct 2>/dev/null | sha256sum
    echo done; read what; [ "$what" = reboot ] && reboot -f
    poweroff -f"#;

fn entropy(ctx: &Ctx) -> TestResult {
    ctx.put("/tmp/guest.cpio", &GuestInitrd::with_script(ctx.artefacts, ENTROPY)?.build()?)?;
    let drive = ctx.artefacts.disk.sha256(8 << 20)?;
    for (vfio, ends) in
        [("", &["poweroff\n"][..]), (NVME, &["reboot\n", "reboot\n", "reboot\n", "poweroff\n"])]
    {
        let vfio = if vfio.is_empty() { String::new() } else { format!("--vfio {vfio}") };
        let command = format!("vmm run --rng {vfio} --memory 128M --cpus 2 --initrd /tmp/guest.cpio");
        let mut guest = ctx.run(&command).deadline(300).start()?;
        for end in ends {
            let said = guest.wait_for("\ndone")?;
            ensure!(
                said.contains("virtio_rng.0") && said.contains("afterwards 65536"),
                "not all was read: {said}"
            );
            ensure!(!said.contains("lost it"), "the driver did not come back: {said}");
            let sums: Vec<&str> =
                said.lines().filter_map(|line| line.trim_end().strip_suffix("  -")).collect();
            let [one, other, ..] = sums[..] else {
                return Err(Failure::new(format!("no checksums: {said}")));
            };
            ensure!(one != other, "the same bytes twice: {said}");
            ensure!(
                vfio.is_empty() || sums.get(2) == Some(&drive.as_str()),
                "the drive is not as it should be: {said}"
            );
            let counted = said.lines().find_map(|line| line.split_once("interrupts ")).unwrap_or_default().1;
            let count: u64 = counted.split_whitespace().skip(1).take(2).flat_map(str::parse::<u64>).sum();
            ensure!(count > 100, "few interrupts: {counted}");
            guest.send(end);
        }
        let guest = guest.finish()?;
        ensure!(guest.status == 0, "it ended with status {}", guest.status);
        ensure!(!guest.stderr.contains("virtio device stops"), "{}", guest.stderr);
    }
    ctx.run("rm /tmp/guest.cpio").expect_success()?;
    Ok(())
}
