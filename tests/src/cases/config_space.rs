//! Configuration space as guests see it beside the host's: what differs is meant to (docs/operating.md, What a guest sees
//! of a device).

use super::extra::{self, E1000, EDU, IGB, XHCI};
use crate::host::{NIC, NVME};
use crate::suite::{Case, Ctx, TestResult, case, ensure};

pub(super) fn all() -> Vec<Case> {
    vec![case("config space/differs from the host's only where it is meant to", extra::host(), differences)]
}

/// Registers of the header that are the guest's own: command and status; cache line size, latency timer and self test;
/// the BARs; the ROM; the interrupt line.
const HEADER: [usize; 10] = [0x04, 0x0c, 0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x30, 0x3c];
const POWER: u16 = 0x01;
const MSI: u16 = 0x05;
const MSIX: u16 = 0x11;
/// Extended capabilities that guests do not see, of those that these devices have.
const ARI: u16 = 0x0e;
const SR_IOV: u16 = 0x10;

/// A device's registers, dword by dword.
struct Space(Vec<u32>);

struct Capability {
    id: u16,
    /// In dwords.
    at: usize,
    extended: bool,
}

impl Space {
    /// Finds what [`dump`] has printed.
    fn of(output: &str, device: &str) -> TestResult<Space> {
        let begin = format!("config of {device}: ");
        let mut lines = output.lines().map(str::trim).skip_while(|line| !line.starts_with(&begin));
        let bytes: usize = lines.next().unwrap_or_default().trim_start_matches(&begin).parse()?;
        ensure!(bytes >= 256, "{device} shows {bytes} bytes");
        let mut space = vec![0; bytes / 4];
        for line in lines.take_while(|line| *line != "end") {
            let (number, words) = line.split_once(':').unwrap_or_default();
            let first = number.parse::<usize>()?.saturating_sub(1) * LINE;
            let words = words.split_whitespace().map(|word| u32::from_str_radix(word, 16));
            for (register, word) in space.iter_mut().skip(first).zip(words) {
                *register = word?;
            }
        }
        Ok(Space(space))
    }

    fn dword(&self, at: usize) -> u32 {
        self.0.get(at).copied().unwrap_or(0)
    }

    fn capabilities(&self) -> Vec<Capability> {
        let mut all = Vec::new();
        let mut at = (self.dword(0x34 / 4) & 0xfc) as usize / 4;
        while at != 0 && all.len() < 48 {
            let head = self.dword(at);
            all.push(Capability { id: (head & 0xff) as u16, at, extended: false });
            at = (head >> 8 & 0xfc) as usize / 4;
        }
        at = 0x100 / 4;
        while at != 0 && self.dword(at) != 0 && all.len() < 100 {
            let head = self.dword(at);
            all.push(Capability { id: (head & 0xffff) as u16, at, extended: true });
            at = (head >> 20 & 0xffc) as usize / 4;
        }
        all
    }
}

impl Capability {
    fn is_hidden(&self) -> bool {
        self.extended && matches!(self.id, ARI | SR_IOV)
    }
}

/// Registers that a line of a dump has.
const LINE: usize = 8;

/// Prints how many bytes there are, and of the lines those that are not zero: each byte on a guest's console takes emulation long.
fn dump(device: &str) -> String {
    let file = format!("/sys/bus/pci/devices/{device}/config");
    format!(
        "echo config of {device}: $(wc -c < {file}); \
         hexdump -v -e '{LINE}/4 \" %08x\" \"\\n\"' {file} | grep -nv '^\\( 00000000\\)*$'; echo end"
    )
}

/// What of a register may differ, as a mask.
fn may_differ(at: usize, capabilities: &[Capability]) -> u32 {
    if at < 0x40 / 4 {
        return if HEADER.contains(&(at * 4)) { u32::MAX } else { 0 };
    }
    let Some(capability) = capabilities.iter().filter(|it| it.at <= at).max_by_key(|it| it.at) else {
        return 0;
    };
    match (capability.id, at - capability.at) {
        _ if capability.is_hidden() => u32::MAX,
        // The next one may be hidden.
        (_, 0) if capability.extended => 0xfff0_0000,
        // Enabled, masked, and how many vectors are.
        (MSI, 0) => 0x0071_0000,
        (MSI, 1..=5) if !capability.extended => u32::MAX,
        (MSIX, 0) if !capability.extended => 0xc000_0000,
        // In which state it is: with nobody using it on the host it sleeps.
        (POWER, 1) if !capability.extended => 0x8003,
        _ => 0,
    }
}

fn differences(ctx: &Ctx) -> TestResult {
    let devices = [NVME, NIC, EDU, E1000, XHCI, IGB];
    extra::bind(ctx, &devices)?;
    let dumps = |names: &[String]| names.iter().map(|name| dump(name)).collect::<Vec<_>>().join("\n");
    let on_host = ctx.run(&dumps(&devices.map(str::to_owned))).expect_success()?;
    let places: Vec<String> = (1..=devices.len()).map(|slot| format!("0000:00:{slot:02x}.0")).collect();
    let in_guest = extra::guest(ctx, &devices, "", &dumps(&places))?;
    let mut hidden = 0;
    for (device, place) in devices.iter().zip(&places) {
        let (host, guest) = (Space::of(&on_host.stdout, device)?, Space::of(&in_guest.stdout, place)?);
        ensure!(host.0.len() == guest.0.len(), "{device} has {} registers, {}", host.0.len(), guest.0.len());
        let capabilities = host.capabilities();
        for (at, (on_host, in_guest)) in host.0.iter().zip(&guest.0).enumerate() {
            let wrong = (on_host ^ in_guest) & !may_differ(at, &capabilities);
            ensure!(
                wrong == 0,
                "{device} {:#x}: {on_host:08x} on the host, {in_guest:08x} in the guest",
                at * 4
            );
        }
        let ids = |all: &[Capability], shown: bool| -> Vec<(bool, u16)> {
            all.iter().filter(|it| shown != it.is_hidden()).map(|it| (it.extended, it.id)).collect()
        };
        let seen = guest.capabilities();
        ensure!(ids(&seen, true) == ids(&capabilities, true), "{device} has other capabilities in the guest");
        ensure!(ids(&seen, false).is_empty(), "{device} shows what should be hidden");
        hidden += ids(&capabilities, false).len();
    }
    ensure!(hidden == 2, "{hidden} capabilities to be hidden, where the igb has ARI and SR-IOV");
    Ok(())
}
