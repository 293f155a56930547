//! A scripted kernel for the tests of the bring-up: it knows its memory by sub-units, and time passes only by waiting.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use std::sync::Mutex;
use std::time::Duration;

use super::bring_up::{PinOptions, run};
use super::crew::Crew;
use super::errors::PinError;
use super::kernel::{Kernel, PinFault, Trial};
use super::mapper::{Chunk, DmaMapper, MapError};
use super::plan::{SUB_UNIT, Span};
use super::privilege::Memlock;
use super::report::PinReport;
use super::trial::{Loss, Pinner, TrialUnavailable};
use crate::GuestRange;
use crate::bytes::MIB;
use crate::residency::{Surveyor, Vmstat};
/// What keeps a sub-unit from being pinned where it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Held {
    #[default]
    Free,
    /// Until so many milliseconds have passed.
    Until(u64),
    Forever,
    /// Whoever pins it does not come back.
    Stalls,
}

/// 2 MiB of a scripted host's memory.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sub {
    pub(super) held: Held,
    /// In memory that can be pinned; else absent or in CMA.
    pub(super) good: bool,
    /// Of a pool: has a page.
    pub(super) present: bool,
    pub(super) trial: u32,
    pub(super) mapped: bool,
    pub(super) contents: u8,
}

/// A kernel that knows its memory by sub-units and behaves as mm/gup.c does: what it can move it moves, what it cannot
/// fails the call. Time passes only by waiting.
#[derive(Default)]
pub(super) struct Scripted {
    pub(super) subs: Mutex<Vec<Sub>>,
    pub(super) pinners: Vec<(Pinner, bool)>,
    /// Calls of a helper after which it dies.
    pub(super) deaths: Mutex<Vec<u64>>,
    /// Errors of the maps at these addresses, one after another.
    pub(super) map_errors: Mutex<BTreeMap<u64, Vec<i32>>>,
    pub(super) memlock: Option<u64>,
    /// Whether that is for trial pins and maps together.
    pub(super) by_user: bool,
    /// What others have locked of it, and until when.
    pub(super) others: (u64, Duration),
    /// How many maps there may be.
    pub(super) room: Option<u64>,
    /// Sub-units that can be made good before memory runs out.
    pub(super) memory: Mutex<Option<u64>>,
    /// How many pages of the pool that memory is from can be pinned, if it is from a pool.
    pub(super) pool: Mutex<Option<u64>>,
    pub(super) sighted: bool,
    pub(super) failed: AtomicU64,
    pub(super) calls: AtomicU64,
    pub(super) clock: AtomicU64,
    pub(super) file: Option<File>,
}

impl Scripted {
    pub(super) fn new(count: usize) -> Self {
        let subs = (0..count).map(|i| Sub { contents: i as u8 + 1, ..Sub::default() }).collect();
        let pinners = vec![(Pinner::HelperIoUring, true), (Pinner::OwnIoUring, true)];
        let file = File::open("/dev/null").ok();
        Self { subs: Mutex::new(subs), pinners, sighted: true, file, ..Self::default() }
    }

    pub(super) fn holding(self, held: &[(usize, Held)]) -> Self {
        for (sub, held) in held {
            self.subs.lock().unwrap()[*sub].held = *held;
        }
        self
    }

    fn range(chunk: &Chunk) -> std::ops::Range<usize> {
        (chunk.offset / SUB_UNIT) as usize..(chunk.offset + chunk.guest.size).div_ceil(SUB_UNIT) as usize
    }

    /// Whether as many bytes more may be locked.
    fn may_lock(&self, bytes: u64) -> bool {
        let count = |sub: &Sub| u64::from(sub.trial) + u64::from(sub.mapped);
        let (others, until) = self.others;
        let others = if self.now() < until { others } else { 0 };
        let locked = self.subs.lock().unwrap().iter().map(count).sum::<u64>() * SUB_UNIT + others;
        self.memlock.is_none_or(|limit| bytes + if self.by_user { locked } else { 0 } <= limit)
    }

    /// get_user_pages with FOLL_LONGTERM.
    fn long_term(&self, chunk: &Chunk) -> Result<(), i32> {
        let now = self.clock.load(Ordering::Relaxed) / 1000;
        let mut subs = self.subs.lock().unwrap();
        let mut memory = self.memory.lock().unwrap();
        let mut refused = false;
        let mut pool = self.pool.lock().unwrap();
        for sub in &mut subs[Self::range(chunk)] {
            if let (Some(pinnable), false) = (pool.as_mut(), sub.present) {
                *pinnable = pinnable.checked_sub(1).ok_or(libc::EFAULT)?;
                (sub.present, sub.good) = (true, true);
            }
            let held = match sub.held {
                Held::Free => false,
                Held::Until(until) => now < until,
                Held::Forever | Held::Stalls => true,
            };
            if held && !sub.good {
                self.failed.fetch_add(1, Ordering::Relaxed);
                refused = true;
            } else if !sub.good {
                if let Some(left) = memory.as_mut() {
                    *left = left.checked_sub(1).ok_or(libc::ENOMEM)?;
                }
                sub.good = true;
            }
        }
        if refused { Err(libc::ENOMEM) } else { Ok(()) }
    }

    fn stalls(&self, chunk: &Chunk) -> bool {
        self.subs.lock().unwrap()[Self::range(chunk)].iter().any(|sub| sub.held == Held::Stalls && !sub.good)
    }

    pub(super) fn run(&self, units: &[Chunk], devices: bool, threads: usize) -> Result<PinReport, PinError> {
        let options = PinOptions { step: 4 * MIB, bare: 4 * MIB, ..PinOptions::default() };
        let mapper = Mapper(self);
        let mapper = devices.then_some(&mapper as &dyn DmaMapper);
        let crews = [Crew::anywhere(units, threads)];
        let result = run(self, &Surveyor::new(), &crews, mapper, &options, &|_, _| ());
        for (i, sub) in self.subs.lock().unwrap().iter().enumerate() {
            assert_eq!(sub.trial, 0, "a trial pin is left");
            assert!(!sub.mapped || sub.good, "{i} is mapped where it cannot be pinned");
            assert_eq!(sub.contents, i as u8 + 1, "the contents of {i} changed");
            assert_eq!(sub.mapped, devices && result.is_ok(), "{i}: all or nothing");
        }
        result
    }
}

pub(super) struct ScriptedTrial<'a>(&'a Scripted, Pinner, Vec<Chunk>, bool);
pub(super) struct Mapper<'a>(pub(super) &'a Scripted);

impl Kernel for Scripted {
    fn trial<'a>(
        &'a self,
        pinner: Pinner,
        _: u64,
        _: &'a AtomicBool,
    ) -> Result<Box<dyn Trial + 'a>, TrialUnavailable> {
        if self.pinners.contains(&(pinner, true)) {
            return Ok(Box::new(ScriptedTrial(self, pinner, Vec::new(), true)));
        }
        Err(TrialUnavailable::NoIoUring)
    }
    fn pinners(&self) -> &[Pinner] {
        &[Pinner::HelperIoUring, Pinner::OwnIoUring]
    }
    fn memfd(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(File::as_fd)
    }
    fn counters(&self) -> Option<Vmstat> {
        Some(Vmstat { pgmigrate_fail: self.failed.load(Ordering::Relaxed), ..Vmstat::default() })
    }
    fn memlock(&self) -> Memlock {
        Memlock { limit: self.memlock }
    }
    fn spare(&self) -> Option<u64> {
        self.memory.lock().unwrap().map(|subs| subs * SUB_UNIT)
    }
    fn is_populated(&self, _: &Chunk) -> bool {
        !self.takes_from_pool()
    }
    fn takes_from_pool(&self) -> bool {
        self.pool.lock().unwrap().is_some()
    }
    fn populate(&self, chunk: &Chunk) -> io::Result<()> {
        self.subs.lock().unwrap()[Self::range(chunk)].iter_mut().for_each(|sub| sub.present = true);
        Ok(())
    }
    fn locate(&self, _: &Surveyor, chunk: &Chunk) -> Vec<Span> {
        let subs = self.subs.lock().unwrap();
        let bad = Self::range(chunk).filter(|sub| self.sighted && !subs[*sub].good);
        bad.map(|sub| Span { start: sub as u64 * SUB_UNIT - chunk.offset, size: SUB_UNIT }).collect()
    }
    fn help(&self, _: &Chunk) {}
    fn read(&self, chunk: &Chunk) -> io::Result<Vec<u8>> {
        let subs = self.subs.lock().unwrap();
        Ok(Self::range(chunk).map(|sub| subs[sub].contents).collect())
    }
    fn punch(&self, chunk: &Chunk) -> io::Result<()> {
        for sub in &mut self.subs.lock().unwrap()[Self::range(chunk)] {
            assert!(!sub.mapped && sub.trial == 0, "pages of a device are replaced");
            (sub.held, sub.good, sub.contents) = (Held::Free, false, 0);
        }
        Ok(())
    }
    fn write(&self, chunk: &Chunk, contents: &[u8]) -> io::Result<()> {
        let subs = &mut self.subs.lock().unwrap()[Self::range(chunk)];
        subs.iter_mut().zip(contents).for_each(|(sub, byte)| sub.contents = *byte);
        Ok(())
    }
    fn show(&self, _: &Chunk) {}
    fn show_present(&self, _: &Chunk) {}
    fn now(&self) -> Duration {
        Duration::from_micros(self.clock.load(Ordering::Relaxed))
    }
    fn wait(&self, duration: Duration) {
        self.clock.fetch_add(duration.as_micros() as u64, Ordering::Relaxed);
    }
}

impl Trial for ScriptedTrial<'_> {
    fn pin(&mut self, chunk: &Chunk, _: bool) -> Result<(), PinFault> {
        let call = self.0.calls.fetch_add(1, Ordering::Relaxed);
        let helper = self.1 == Pinner::HelperIoUring;
        if helper && (self.0.stalls(chunk) || self.0.deaths.lock().unwrap().contains(&call)) {
            self.release();
            self.3 = false;
            let loss = if self.0.stalls(chunk) { Loss::Stalled } else { Loss::Died };
            return Err(PinFault::Lost { loss, how: "scripted".to_owned() });
        }
        if !self.0.may_lock(chunk.guest.size) {
            return Err(PinFault::Refused(io::Error::from_raw_os_error(libc::ENOMEM)));
        }
        self.0.long_term(chunk).map_err(|errno| PinFault::Refused(io::Error::from_raw_os_error(errno)))?;
        self.0.subs.lock().unwrap()[Scripted::range(chunk)].iter_mut().for_each(|sub| sub.trial += 1);
        self.2.push(*chunk);
        Ok(())
    }
    fn release(&mut self) {
        for chunk in self.2.drain(..) {
            self.0.subs.lock().unwrap()[Scripted::range(&chunk)].iter_mut().for_each(|sub| sub.trial -= 1);
        }
    }
    fn check(&mut self) -> Result<(), PinFault> {
        let lost = || PinFault::Lost { loss: Loss::Died, how: "scripted".to_owned() };
        self.3.then_some(()).ok_or_else(lost)
    }
}

impl Drop for ScriptedTrial<'_> {
    fn drop(&mut self) {
        self.release();
    }
}

impl DmaMapper for Mapper<'_> {
    fn map(&self, chunk: &Chunk, held: Option<BorrowedFd<'_>>) -> Result<(), MapError> {
        let failed = |errno| MapError {
            call: "TEST_MAP",
            guest: chunk.guest,
            source: io::Error::from_raw_os_error(errno),
        };
        if let Some(errno) =
            self.0.map_errors.lock().unwrap().get_mut(&chunk.guest.start).and_then(|errors| errors.pop())
        {
            return Err(failed(errno));
        }
        if self.0.by_user && !self.0.may_lock(chunk.guest.size) {
            return Err(failed(libc::ENOMEM));
        }
        if held.is_some() {
            let subs = self.0.subs.lock().unwrap();
            assert!(
                subs[Scripted::range(chunk)].iter().all(|sub| sub.trial > 0),
                "mapped by file, but not held"
            );
        }
        self.0.long_term(chunk).map_err(failed)?;
        for sub in &mut self.0.subs.lock().unwrap()[Scripted::range(chunk)] {
            assert!(!std::mem::replace(&mut sub.mapped, true), "mapped twice");
        }
        Ok(())
    }
    fn room(&self) -> Option<u64> {
        self.0.room
    }
    fn counts_by_user(&self) -> bool {
        self.0.by_user
    }
    fn unmap(&self, chunk: &Chunk) -> Result<(), MapError> {
        for sub in &mut self.0.subs.lock().unwrap()[Scripted::range(chunk)] {
            assert!(std::mem::replace(&mut sub.mapped, false), "unmapped but not mapped");
        }
        Ok(())
    }
}

pub(super) fn units(count: u64, size: u64) -> Vec<Chunk> {
    let chunk = |i| Chunk {
        guest: GuestRange::new(i * size, size),
        hva: 0x10_0000_0000 + i * size,
        offset: i * size,
    };
    (0..count).map(chunk).collect()
}
