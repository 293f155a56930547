//! What established monitors do, for comparison: memory is populated wherever the kernel puts it, then mapped for the
//! device with one DMA map per region. The first refusal is the last.
//!
//! `populate_and_map MIB BDF FILE`: writes to FILE what came of it, in the words of docs/pinning-report.md, and fails if
//! the memory could not be mapped.
//!
//! # Unsafe
//! madvise of guest memory.
#![expect(unsafe_code, reason = "madvise")]
#![expect(clippy::print_stderr, clippy::unwrap_used, reason = "a test program")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use memory::bytes::{GIB, MIB};
use memory::pin::{Chunk, DmaMapper};
use memory::residency::{Census, Surveyor};
use memory::{AddressLimits, GuestRam, Layout};
use vfio::{Backend, Passthrough, Request, preflight};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [mib, address, report] = &arguments[..] else {
        eprintln!("populate_and_map MIB BDF FILE");
        return ExitCode::from(2);
    };
    let layout = Layout::new(mib.parse::<u64>().unwrap() * MIB, &AddressLimits::cpu_only(40)).unwrap();
    let ram = GuestRam::new(&layout).unwrap();
    let surveyor = Surveyor::new();
    let regions = ram.chunks(1024 * GIB);
    let populating = Instant::now();
    regions.iter().for_each(populate);
    let populated = populating.elapsed();
    let mut request = Request::at(&[address.parse().unwrap()]);
    request.devices.iter_mut().for_each(|device| device.backend = Some(Backend::Container));
    let passthrough = Passthrough::open(preflight::check(request).unwrap(), None).unwrap();
    let mapping = Instant::now();
    let result = regions.iter().try_for_each(|region| passthrough.space().map(region, None));
    let mapped = mapping.elapsed();
    let text = match &result {
        Ok(()) => pinned(populated, mapped, &surveyor.census(&regions).unwrap()),
        Err(error) => failed(populated + mapped, &format!("{error}: {}", error.source)),
    };
    std::fs::write(report, text).unwrap();
    ExitCode::from(u8::from(result.is_err()))
}

fn populate(region: &Chunk) {
    let size = region.guest.size as usize;
    // SAFETY: all of a region of guest memory, which stays mapped; the advice only faults its pages in.
    let done = unsafe { libc::madvise(region.hva as *mut _, size, libc::MADV_POPULATE_WRITE) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

fn pinned(populated: Duration, mapped: Duration, census: &Census) -> String {
    format!(
        "{{\"outcome\": \"pinned\", \"pinned\": {{\"retries\": 0, \"culprits\": 0, \"replaced\": 0, \
         \"populating_ms\": {}, \"pinning_ms\": {}, \"now\": {{\"cma\": {}, \"movable\": {}}}}}}}\n",
        populated.as_millis(),
        mapped.as_millis(),
        census.in_cma(),
        census.movable,
    )
}

fn failed(elapsed: Duration, message: &str) -> String {
    format!(
        "{{\"outcome\": \"failed\", \"failed\": {{\"message\": {message:?}, \"causes\": [], \"kind\": \"refused\", \
         \"elapsed_ms\": {}}}}}\n",
        elapsed.as_millis(),
    )
}
