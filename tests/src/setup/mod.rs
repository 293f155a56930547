//! What the lab needs and how it comes about: packages, a kernel for the hosts, a stock kernel, busybox and a
//! disk. Each is an artefact in the cache, made once and kept across checkouts.

mod apt;
mod busybox;
mod cache;
mod daemons;
mod debian;
mod disk;
mod distribution;
mod kernel;
mod packages;
mod programs;
mod qemu;
mod systemd;
mod verify;
mod version;

use std::path::{Path, PathBuf};

use thiserror::Error;

pub(crate) use busybox::Busybox;
pub(crate) use daemons::Daemons;
pub(crate) use debian::Debian;
pub(crate) use disk::Disk;
pub(crate) use distribution::Distribution;
pub(crate) use kernel::Kernel;
use kernel::Of;
pub(crate) use qemu::Qemu;
pub(crate) use systemd::Systemd;
pub(crate) use verify::{check_host, group_members};

use crate::files::FileError;
use crate::host::{HostError, HostKernel, HostSpec};
use crate::tool::{ToolError, announce};
use cache::Cache;
use debian::Series;

/// Why the lab could not be set up.
#[derive(Debug, Error)]
pub(crate) enum SetupError {
    /// Neither of the variables that place the cache is set.
    #[error("no place for the lab's cache")]
    NoHome,
    /// Programs or files are missing that the lab cannot install.
    #[error("missing on this machine: {}", .missing.join(", "))]
    Missing { missing: Vec<String>, packages: Vec<String> },
    /// apt knows of no Debian mirror.
    #[error("apt has no source for Debian {codename}")]
    NoMirror { codename: String },
    /// No package of that name is to be had.
    #[error("no package {pattern} is to be had")]
    NoPackage { pattern: String },
    /// The kernel's configuration did not take all of the fragment.
    #[error("the kernel's configuration dropped {}", .options.join(", "))]
    Options { options: Vec<String> },
    /// A download or a package does not hold what it should.
    #[error("{what} is not in {}", .path.display())]
    NotThere { what: &'static str, path: PathBuf },
    /// The host is there but is not as asked.
    #[error("the lab host is not as asked: {}", .problems.join("; "))]
    NotAsAsked { problems: Vec<String>, console: String },
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// A program failed.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// The host for the final check could not be had.
    #[error("cannot boot the lab host to check it")]
    Host(#[from] HostError),
}

impl SetupError {
    /// What to do about it.
    pub(crate) fn help(&self) -> Option<String> {
        match self {
            SetupError::NoHome => Some("set VMM_LAB_CACHE to a directory".to_owned()),
            SetupError::Missing { packages, .. } => Some(format!(
                "on Debian, run `apt-get install {}` as root, or run the lab as root; elsewhere install what provides them",
                packages.join(" ")
            )),
            SetupError::NoMirror { .. } => Some(
                "the lab's kernels come from Debian: run it where apt has a Debian mirror, then `apt-get update`"
                    .to_owned(),
            ),
            SetupError::NoPackage { .. } => Some("run `apt-get update`, and check the mirror".to_owned()),
            SetupError::Options { .. } => {
                Some("this kernel version calls them otherwise, or they need another option: see tests/lab".to_owned())
            }
            _ => None,
        }
    }

    /// Output that shows the cause.
    pub(crate) fn detail(&self) -> Option<&str> {
        match self {
            SetupError::Tool(e) => e.output(),
            SetupError::Host(e) => e.console(),
            SetupError::NotAsAsked { console, .. } => Some(console),
            _ => None,
        }
    }
}

/// All that hosts and guests are made of.
#[derive(Debug, Clone)]
pub(crate) struct Artefacts {
    /// Of hosts.
    pub(crate) kernel: Kernel,
    /// The small one of guests.
    pub(crate) guest: Kernel,
    /// The stock kernel that every host has at hand.
    pub(crate) debian: Debian,
    pub(crate) busybox: Busybox,
    pub(crate) disk: Disk,
    /// What serves devices of guests beside vmm.
    pub(crate) daemons: Daemons,
    /// What runs hosts.
    pub(crate) qemu: Qemu,
    /// What our unit is for.
    pub(crate) systemd: Systemd,
    /// Stock kernels that only some hosts run.
    others: Vec<(HostKernel, Debian)>,
    /// A disk that guests boot a Debian from, once a host has wanted it.
    distribution: Option<Distribution>,
}

/// Makes what is missing; on a machine that has all, takes milliseconds and says nothing.
pub(crate) fn ensure() -> Result<Artefacts, SetupError> {
    let cache = Cache::open()?;
    packages::ensure(&packages::USUAL)?;
    match find(&cache)? {
        Some(artefacts) => Ok(artefacts),
        None => make(&cache, false),
    }
}

/// `cargo lab setup`: makes what is missing, with `renew` also what has a newer version, and checks the host
/// even if nothing was.
pub(crate) fn run(renew: bool) -> Result<(), SetupError> {
    let cache = Cache::open()?;
    packages::ensure(&packages::USUAL)?;
    let artefacts = make(&cache, renew)?;
    for directory in artefacts.directories() {
        announce(&format!("in place: {}", directory.display()));
    }
    Ok(())
}

/// A QEMU alone, for whoever needs no host.
pub(crate) fn qemu() -> Result<Qemu, SetupError> {
    let cache = Cache::open()?;
    let _lock = cache.lock()?;
    Qemu::ensure(&cache, false)
}

impl Artefacts {
    /// Makes sure of what a host needs beyond the rest.
    pub(crate) fn ensure_for(&mut self, host: &HostSpec) -> Result<(), SetupError> {
        if host.has_distribution() && self.distribution.is_none() {
            packages::ensure(&packages::INSTALLER)?;
            let cache = Cache::open()?;
            let _lock = cache.lock()?;
            let distribution = Distribution::ensure(&cache)?;
            cache.tidy(&[distribution.directory()]);
            self.distribution = Some(distribution);
        }
        self.ensure_kernel(host.kernel)
    }

    /// The disk that guests boot a Debian from, and what boots it.
    pub(crate) fn distribution(&self) -> Result<&Distribution, SetupError> {
        self.distribution.as_ref().ok_or_else(|| SetupError::NotThere {
            what: "a Debian on a disk",
            path: PathBuf::from("what this host was given"),
        })
    }

    /// Makes sure of what a host with this kernel needs beyond the rest.
    pub(crate) fn ensure_kernel(&mut self, kernel: HostKernel) -> Result<(), SetupError> {
        let Some(series) = Series::of(kernel).filter(|_| self.stock(kernel).is_none()) else { return Ok(()) };
        let cache = Cache::open()?;
        let debian = match Debian::find(&cache, series)? {
            Some(debian) => debian,
            None => {
                let _lock = cache.lock()?;
                let debian = Debian::ensure(&cache, &mut apt::Apt::new(&cache), series, false)?;
                cache.tidy(&[debian.directory()]);
                debian
            }
        };
        self.others.push((kernel, debian));
        Ok(())
    }

    /// The stock kernel that such a host runs, if there is one.
    pub(crate) fn stock(&self, kernel: HostKernel) -> Option<&Debian> {
        match kernel {
            HostKernel::Lab => None,
            HostKernel::Debian => Some(&self.debian),
            other => self.others.iter().find(|(kernel, _)| *kernel == other).map(|(_, debian)| debian),
        }
    }

    fn directories(&self) -> Vec<&Path> {
        let usual = [
            self.kernel.directory(),
            self.guest.directory(),
            self.debian.directory(),
            self.busybox.directory(),
            self.disk.directory(),
            self.daemons.directory(),
            self.systemd.directory(),
        ];
        usual
            .into_iter()
            .chain(self.qemu.directory())
            .chain(self.others.iter().map(|(_, debian)| debian.directory()))
            .chain(self.distribution.as_ref().map(Distribution::directory))
            .collect()
    }
}

fn find(cache: &Cache) -> Result<Option<Artefacts>, SetupError> {
    let (kernel, guest) = (Kernel::find(cache, Of::Hosts)?, Kernel::find(cache, Of::Guests)?);
    let debian = Debian::find(cache, Series::USUAL)?;
    let (busybox, disk, qemu) = (Busybox::find(cache)?, Disk::find(cache), Qemu::find(cache));
    let (daemons, systemd) = (Daemons::find(cache), Systemd::find(cache));
    let systems = (kernel, guest, debian, busybox);
    Ok(match (systems, disk, daemons, systemd, qemu) {
        (
            (Some(kernel), Some(guest), Some(debian), Some(busybox)),
            Some(disk),
            Some(daemons),
            Some(systemd),
            Some(qemu),
        ) => Some(Artefacts {
            kernel,
            guest,
            debian,
            busybox,
            disk,
            daemons,
            systemd,
            qemu,
            others: Vec::new(),
            distribution: Distribution::find(cache),
        }),
        _ => None,
    })
}

fn make(cache: &Cache, renew: bool) -> Result<Artefacts, SetupError> {
    let _lock = cache.lock()?;
    let mut apt = apt::Apt::new(cache);
    let artefacts = Artefacts {
        qemu: Qemu::ensure(cache, renew)?,
        disk: Disk::ensure(cache)?,
        daemons: Daemons::ensure(cache, renew)?,
        systemd: Systemd::ensure(cache, renew)?,
        busybox: Busybox::ensure(cache, &mut apt, renew)?,
        debian: Debian::ensure(cache, &mut apt, Series::USUAL, renew)?,
        kernel: Kernel::ensure(cache, &mut apt, Of::Hosts, renew)?,
        guest: Kernel::ensure(cache, &mut apt, Of::Guests, renew)?,
        others: others(cache, &mut apt, renew)?,
        distribution: Distribution::find(cache),
    };
    check(&artefacts)?;
    cache.tidy(&artefacts.directories());
    Ok(artefacts)
}

/// The stock kernels that were wanted once, renewed if all are. None is fetched before a host wants it.
fn others(cache: &Cache, apt: &mut apt::Apt, renew: bool) -> Result<Vec<(HostKernel, Debian)>, SetupError> {
    let mut others = Vec::new();
    for kernel in [HostKernel::Debian61, HostKernel::Debian7] {
        if let Some(series) = Series::of(kernel)
            && Debian::find(cache, series)?.is_some()
        {
            others.push((kernel, Debian::ensure(cache, apt, series, renew)?));
        }
    }
    Ok(others)
}

fn check(artefacts: &Artefacts) -> Result<(), SetupError> {
    announce("booting the lab host to check it");
    let spec = crate::host::HostSpec::default();
    let host = crate::host::Host::boot(&spec, artefacts, None)?;
    let problems = check_host(&host)?;
    if !problems.is_empty() {
        return Err(SetupError::NotAsAsked { problems, console: host.console().tail() });
    }
    let seconds = host.boot_time().as_secs_f32();
    announce(&format!(
        "the lab host runs Linux {}, booted in {seconds:.1} s, and is as asked",
        host.release()
    ));
    Ok(())
}
