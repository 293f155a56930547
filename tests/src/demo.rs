//! `demo`: the main job from end to end. A guest of a lab host gets the host's NVMe, reads from it and prints
//! a checksum, which is compared with the disk image's.

use std::process::ExitCode;

use crate::Error;
use crate::cli::HostOptions;
use crate::exec::{attached, boot};
use crate::host::NVME;
use crate::setup;
use crate::tool::announce;

/// Bytes that the guest reads and sums.
pub(crate) const SUMMED: u64 = 8 << 20;

pub(crate) fn run(options: &HostOptions) -> Result<ExitCode, Error> {
    let host = boot(options)?;
    let argv = ["vmm", "run", "--memfd", "--vfio", NVME].map(str::to_owned);
    let seconds = host.boot_time().as_secs_f32();
    announce(&format!("a host with Linux {} is up after {seconds:.1} s", host.release()));
    announce(&format!("running there: {}", argv.join(" ")));
    announce("type `poweroff` to end the guest, Ctrl-] to end the host");
    let mut output = Vec::new();
    let status = attached(&host, &argv, None, |bytes| output.extend_from_slice(bytes))?;
    let expected = setup::ensure()?.disk.sha256(SUMMED)?;
    let printed = checksum(&String::from_utf8_lossy(&output));
    let matches = match &printed {
        None => {
            announce("FAILED: the guest printed no checksum");
            false
        }
        Some(printed) if *printed == expected => {
            announce(&format!("the guest's checksum is that of the disk image: {expected}"));
            true
        }
        Some(printed) => {
            announce(&format!("FAILED: the guest's checksum is {printed}, the disk image's is {expected}"));
            false
        }
    };
    if status != 0 {
        announce(&format!("FAILED: vmm ended with status {status}"));
        println!("--- the host's dmesg\n{}", host.dmesg());
    }
    Ok(if matches && status == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The last SHA-256 in `text`: the word after "sha256".
pub(crate) fn checksum(text: &str) -> Option<String> {
    let is_digest = |word: &&str| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    text.split("sha256")
        .skip(1)
        .filter_map(|after| after.split(|c: char| !c.is_ascii_alphanumeric()).find(|word| !word.is_empty()))
        .filter(is_digest)
        .last()
        .map(str::to_owned)
}

#[cfg(test)]
#[path = "demo_test.rs"]
mod tests;
